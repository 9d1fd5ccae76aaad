# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""YOLO folders of text files."""

import math
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from .source import SPLITS, Entry, Source, SourceObject, image_files, split_name, subfolders


def read_yolo(path: Path) -> Source | None:
    """A YOLO yaml file, or a folder with one, or folders of `images` and `labels`. None if there is none.

    A line of a label file is `class center_x center_y width height`, relative to the image. An outline of three or
    more points in place of the box becomes its bounding box, with a note. An image without a label file is background.
    """
    files = [path] if path.is_file() else sorted((*path.glob("*.yaml"), *path.glob("*.yml")))
    root = path.parent if path.is_file() else path
    settings: dict[str, Any] = {}
    for file in files:
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{file} is not valid YAML: {' '.join(str(error).split())}.") from None
        if isinstance(content, dict) and content.keys() & {"names", "nc", "train", "val", "test"}:
            settings = content
            break
    folders: dict[str, list[Path]] = {}
    for key in ("train", "val", "valid", "validation", "test"):
        if settings.get(key):
            values = settings[key] if isinstance(settings[key], list) else [settings[key]]
            bases = [root / str(settings.get("path") or ""), root]
            # Roboflow writes `../train/images` for what lies in `train/images`.
            tries = [
                [base / text for text in (value, value.removeprefix("../")) for base in bases] for value in values
            ]
            found = [next((place for place in places if place.exists()), places[0]) for places in tries]
            folders.setdefault(SPLITS[key], []).extend(found)
    folders = folders or _yolo_folders(root)
    if not folders:
        return None

    source = Source(str(path), "relative", categories=_yolo_names(settings, root))
    for split, places in folders.items():
        entries = source.add_split(split)
        outlines = 0
        for place in places:
            if not place.exists():
                source.report(split, str(place), "missing image", "there is no such folder or list of images")
                continue
            if place.is_file():
                lines = place.read_text(encoding="utf-8").splitlines()
                paths = [Path(line.strip()) for line in lines if line.strip()]
                images = {path.as_posix(): place.parent / path for path in paths}
            else:
                images = {image.relative_to(place).as_posix(): image for image in image_files(place)}
            for name, image in images.items():
                entry = Entry(name, image if image.is_file() else None)
                entries.append(entry)
                label = _labels_folder(image.parent) / f"{image.stem}.txt"
                if label.is_file():
                    entry.objects, count = _read_yolo_labels(source, split, name, label)
                    outlines += count
            if place.is_dir():
                labelled = {Path(name).with_suffix("").as_posix() for name in images}
                labels = _labels_folder(place)
                for label in sorted(labels.rglob("*.txt")):
                    name = label.relative_to(labels).as_posix()
                    if label.name != "classes.txt" and name.removesuffix(".txt") not in labelled:
                        source.report(split, name, "missing image", f"the label file has no image in {place}")
        if outlines:
            detail = f"{outlines} outlines were turned into their bounding boxes"
            source.report(split, "", "polygons", detail, is_error=False)
    return source


def _yolo_folders(root: Path) -> dict[str, list[Path]]:
    if (root / "labels").is_dir():
        names = {
            folder.name
            for kind in ("images", "labels")
            if (root / kind).is_dir()
            for folder in subfolders(root / kind)
        }
        splits = {split_name(name, whole=True) or name: [root / "images" / name] for name in sorted(names)}
        return splits or {"train": [root / "images"]}
    folders = [folder for folder in subfolders(root) if (folder / "labels").is_dir()]
    return {split_name(folder.name, whole=True) or folder.name: [folder / "images"] for folder in folders}


def _yolo_names(settings: dict[str, Any], root: Path) -> dict[Any, str] | None:
    names = settings.get("names")
    files = [root / "classes.txt", root / "labels" / "classes.txt"]
    if names is None and (file := next((file for file in files if file.is_file()), None)):
        names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if names is None and settings.get("nc"):
        names = [f"LABEL_{index}" for index in range(int(settings["nc"]))]
    if names is None:
        return None
    return {int(key): str(name) for key, name in (names.items() if isinstance(names, dict) else enumerate(names))}


def _labels_folder(images: Path) -> Path:
    """Where the label files of a folder lie: `labels` in place of the last `images` in its path, else beside them."""
    parts = list(images.parts)
    for index in reversed(range(len(parts))):
        if parts[index] == "images":
            labels = Path(*parts[:index], "labels", *parts[index + 1 :])
            return labels if labels.is_dir() else images
    return images


def _read_yolo_labels(source: Source, split: str, name: str, path: Path) -> tuple[list[SourceObject], int]:
    """The objects of a label file, and how many of them were outlines."""
    objects, outlines = [], 0
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            category, *values = map(float, line.split())
        except ValueError:
            category, values = math.nan, []
        if not category.is_integer() or (len(values) != 4 and (len(values) < 6 or len(values) % 2)):
            detail = (
                f"line {number} of {path.name} must be `class center_x center_y width height`, got {line.strip()!r}"
            )
            source.report(split, name, "wrong box format", detail)
            continue
        if len(values) > 4:
            outlines += 1
            (left, right), (top, bottom) = ((min(side), max(side)) for side in (values[::2], values[1::2]))
            values = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        objects.append(SourceObject(values, int(category)))
    return objects, outlines
