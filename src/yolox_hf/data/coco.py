# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""COCO json files."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from .source import Entry, Source, SourceObject, find_file, split_name, subfolders


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from None


def read_coco(path: Path) -> Source | None:
    """A COCO json, or a folder with one for each split. None if there is none.

    The split is named by the file, else by its folder, else it is "train". Images are searched as `file_name` and by
    its last part in the split's folder, in `images/` of both kinds of nesting, and in the root.
    """
    if path.is_file():
        root = path.parent.parent if path.parent.name == "annotations" else path.parent
        files = [path]
    else:
        root = path
        files = sorted(file for pattern in ("annotations/*.json", "*.json", "*/*.json") for file in root.glob(pattern))
        files = list(dict.fromkeys(files))
        # Beside the objects, the original's folder has captions and keypoints of the same images.
        files = [file for file in files if file.stem.startswith("instances_")] or files
    keys = {"images", "annotations", "categories"}
    contents = {
        file: content for file in files if isinstance(content := _read_json(file), dict) and keys <= set(content)
    }
    if not contents:
        return None

    source = Source(str(path), "xywh", categories={})
    categories: dict[Any, dict[str, Any]] = {}
    used = set()
    for file, content in contents.items():
        fallback = "train" if len(contents) == 1 else file.stem.removeprefix("instances_")
        split = split_name(file.stem) or split_name(file.parent.name, whole=True) or fallback
        for category in content["categories"]:
            if not {"id", "name"} <= category.keys():
                raise ValueError(f"{file}: a category must have an id and a name, got {category}.")
            known = categories.setdefault(category["id"], category)
            if known["name"] != category["name"]:
                names = f"{known['name']!r} and {category['name']!r}"
                raise ValueError(f"{file}: category id {category['id']} is both {names}; ids must mean one class.")
        for category_id, count in Counter(category["id"] for category in content["categories"]).items():
            if count > 1:
                source.report(split, file.name, "duplicate id", f"category id {category_id} is listed {count} times")
        entries = source.add_split(split)
        by_id: dict[Any, Entry] = {}
        folders = _coco_image_folders(root, file.parent, split)
        for image in content["images"]:
            if "id" not in image or not image.get("file_name"):
                source.report(split, file.name, "broken annotation", f"an image without id or file_name: {image}")
                continue
            size = (image["width"], image["height"]) if image.get("width") and image.get("height") else None
            name = str(image["file_name"]).replace("\\", "/")
            entry = Entry(name, find_file(folders, name), [], image["id"], size)
            entries.append(entry)
            by_id.setdefault(image["id"], entry)
        for item in content["annotations"]:
            used.add(item.get("category_id"))
            if item.get("image_id") not in by_id:
                detail = f"annotation {item.get('id')} is of image id {item.get('image_id')}, which is not listed"
                source.report(split, file.name, "unknown image", detail)
                continue
            by_id[item["image_id"]].objects.append(
                SourceObject(
                    item.get("bbox"), item.get("category_id"), item.get("area"), item.get("iscrowd", 0), item.get("id")
                )
            )
    # Roboflow lists the name of the whole project as a first category that no object has.
    for key, category in list(categories.items()):
        parents = {other.get("supercategory") for other_key, other in categories.items() if other_key != key}
        if category.get("supercategory") == "none" and parents == {category["name"]} and key not in used:
            del categories[key]
            detail = (
                f"category {category['name']!r} (id {key}) has no objects and is the parent of the others: left out"
            )
            source.report("", path.name, "placeholder category", detail, is_error=False)
    source.categories = {key: str(categories[key]["name"]) for key in sorted(categories)}
    return source


def _coco_image_folders(root: Path, beside: Path, split: str) -> list[Path]:
    named = [
        folder
        for parent in (root, root / "images")
        if parent.is_dir()
        for folder in subfolders(parent)
        if split in (folder.name, split_name(folder.name, whole=True))
    ]
    nested = [folder / "images" for folder in named]
    folders = [*named, *nested, beside, beside / "images", root / "images", root]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
