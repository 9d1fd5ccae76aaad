# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Pascal VOC xml files."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from .source import SPLITS, Entry, Source, SourceObject, find_file, image_files, split_name, subfolders


def read_voc(root: Path) -> Source | None:
    """Pascal VOC xml files of a folder or of its splits' folders. None if there are none.

    Coordinates are taken as the edges of the box (width = xmax - xmin), as labelling tools write them. Only where
    `source/database` names a VOC challenge they are what the challenge defined: 1-based, with xmax and ymax inside.
    Objects marked `difficult` stay objects like others; a note counts them.
    """
    source = Source(str(root), "corners")
    if groups := _voc_group(root):
        lists = {
            path.stem: path for path in sorted((root / "ImageSets" / "Main").glob("*.txt")) if path.stem in SPLITS
        }
        whole = root / "ImageSets" / "Main" / "trainval.txt"
        if whole.is_file() and not lists.keys() & {"train", "training"}:
            lists["train"] = whole
        for name, path in lists.items():
            words = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
            _read_voc_group(source, SPLITS[name], *groups, [line[0] for line in words if line])
        if not lists:
            _read_voc_group(source, "train", *groups, None)
        return source
    for folder in subfolders(root):
        if (split := split_name(folder.name, whole=True)) and (groups := _voc_group(folder)):
            _read_voc_group(source, split, *groups, None)
    return source if source.splits else None


def _voc_group(folder: Path) -> tuple[list[Path], list[Path]] | None:
    """The xml files of a folder, and the folders where their images may lie."""
    for place in (folder / "Annotations", folder / "annotations", folder):
        if files := sorted(place.glob("*.xml")):
            return files, [path for path in (folder / "JPEGImages", folder / "images", folder) if path.is_dir()]
    return None


def _read_voc_group(
    source: Source, split: str, files: list[Path], folders: list[Path], listed: list[str] | None
) -> None:
    """Add a split of the xml files, or of those that are `listed` by name."""
    entries = source.add_split(split)
    by_stem = {file.stem: file for file in files}
    images = {image.stem: image for folder in reversed(folders) for image in image_files(folder, "*")}
    difficult = 0
    for stem in listed if listed is not None else sorted({*by_stem, *images}):
        if stem not in by_stem:
            name = images[stem].name if stem in images else stem
            source.report(split, name, "missing annotation", f"there is no {stem}.xml in {files[0].parent}")
            continue
        file = by_stem[stem]
        try:
            root = ElementTree.parse(file).getroot()
            if root.tag != "annotation":
                raise ValueError(f"its root is <{root.tag}>, not <annotation>")
            classic = (root.findtext("source/database") or "").startswith("The VOC")
            width, height = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
            found = [(item, _voc_box(item, classic)) for item in root.findall("object")]
        except (ElementTree.ParseError, ValueError) as error:
            source.report(split, file.name, "broken annotation", f"{error}")
            continue
        # The file's own name comes first: `filename` is often left over from before images were renamed.
        named = root.findtext("filename") or file.stem
        image = images.get(stem) or find_file(folders, named)
        objects = [SourceObject(box, item.findtext("name")) for item, box in found]
        difficult += sum(item.findtext("difficult") == "1" for item, _ in found)
        entries.append(
            Entry(image.name if image else named, image, objects, size=(width, height) if width and height else None)
        )
    if difficult:
        detail = f"{difficult} objects are marked difficult and are kept like others"
        source.report(split, "", "difficult", detail, is_error=False)


def _voc_box(item: ElementTree.Element, classic: bool) -> list[float] | None:
    texts = [item.findtext(f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")]
    if any(text is None for text in texts):
        return None
    left, top, right, bottom = (float(text or "nan") for text in texts)
    if classic:
        left, top = left - 1, top - 1
    return [left, top, right - left, bottom - top]
