# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Checks what a reader found, and builds the dataset of it."""

import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from PIL import Image

from .source import SPLITS, DetectionData, Entry, Source


def _choose_categories(source: Source, class_names: list[str] | None) -> dict[Any, str]:
    """Class names by the source's keys, in the order of the class indices."""
    categories = source.categories
    if categories is None:
        objects = (item for entries in source.splits.values() for entry in entries for item in entry.objects)
        keys = sorted({item.category for item in objects if item.category is not None})
        named = any(isinstance(key, str) for key in keys)
        if class_names is not None:
            categories = {name if named else index: name for index, name in enumerate(class_names)}
        else:
            categories = {key: key if named else f"LABEL_{key}" for key in keys}
            if keys and not named:
                detail = f"the source has only numbers for its {len(keys)} classes; `class_names` can name them"
                source.report("", "", "no class names", detail, is_error=False)
    elif class_names is not None:
        by_name = {name: key for key, name in categories.items()}
        if absent := [name for name in class_names if name not in by_name]:
            raise ValueError(f"`class_names` has {absent}, but the categories of {source.name} are {list(by_name)}.")
        categories = {by_name[name]: name for name in class_names}
    names = list(categories.values())
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Class names must be unique, but {source.name} has {twice} more than once.")
    if not categories:
        source.report("", "", "no categories", f"{source.name} names no category and has no object")
    return categories


def _inspect(image: Path | int | None, table: Dataset | None, decode: bool) -> tuple[tuple[int, int] | None, str, str]:
    """Width and height as displayed (EXIF orientation applied), from the header alone unless `decode`.

    With them the kind and the detail of a problem, if the image cannot be used.
    """
    value: dict[str, Any] = {"path": image, "bytes": None}
    if isinstance(image, int):
        value = table[image]["image"] or {}  # type: ignore[index]
    content, path = value.get("bytes"), value.get("path")
    if content is None and (path is None or not Path(path).is_file()):
        return None, "missing image", f"there is no file {path}" if path else "no such file was found"
    try:
        file: Any = path if content is None else BytesIO(content)
        if decode:
            with Image.open(file) as opened:
                opened.verify()  # checksums; but it passes truncated JPEGs, and leaves the image unusable
        with Image.open(file) as opened:
            if decode:
                opened.load()
            # Not PNG's own method, which would decode to find EXIF behind the pixels.
            orientation = Image.Image.getexif(opened).get(0x0112)
            width, height = opened.size
            return (height, width) if orientation in (5, 6, 7, 8) else (width, height), "", ""
    except Exception as error:  # Pillow's plugins raise nearly anything on broken files
        return None, "broken image", str(error) or type(error).__name__


def _numbers(bbox: Any) -> list[float] | None:
    """Four finite numbers, or None."""
    try:
        values = [float(value) for value in bbox]
    except (TypeError, ValueError):
        return None
    return values if len(values) == 4 and all(map(math.isfinite, values)) else None


def _text(values: Iterable[float]) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in values)}]"


def _tolerance(size: Any) -> Any:
    """How far in pixels a box may reach over a border by rounding, for a side or an array of sides in pixels."""
    return np.maximum(1.0, 0.005 * np.asarray(size))


def _split_fault(box_format: str, boxes: np.ndarray, sizes: np.ndarray) -> str | None:
    """Whether the boxes of a split look as if all were in another format.

    Args:
        box_format: as in `Source`.
        boxes: (n, 4), as they are written.
        sizes: (n, 2), width and height of their images in pixels.
    """
    has_area = (boxes[:, 2:] > 0).all(axis=1)
    boxes, sizes = boxes[has_area], sizes[has_area]
    if not len(boxes):
        return None
    example = _text(boxes[0])
    if box_format == "relative":
        pixels = (boxes > 1.01).any(axis=1).mean() > 0.5
        return f"boxes look like pixels rather than relative to the image, as in {example}" if pixels else None
    if boxes.max() <= 1:
        return f"boxes look relative to the image rather than pixels, as in {example}"
    if box_format == "xywh":
        start, end, limit = boxes[:, :2], boxes[:, 2:], sizes + _tolerance(sizes)
        beyond = (start + end > limit).any(axis=1)
        as_corners = ((end > start) & (start >= 0) & (end <= limit)).all(axis=1)
        if beyond.sum() >= 2 and beyond.mean() >= 0.1 and as_corners.mean() >= 0.99:
            example = _text(boxes[beyond][0])
            return f"boxes look like corners (x1, y1, x2, y2) rather than (x, y, width, height), as in {example}"
    return None


def _clip(box: list[float], width: int, height: int) -> tuple[list[float], str, str]:
    """A box (x, y, width, height) in pixels cut to the image; the kind and detail of a problem, if there is one."""
    x, y, w, h = box
    text = f"the box [x, y, width, height] = {_text(box)}"
    if w <= 0 or h <= 0:
        return box, "zero area", f"{text} has no area"
    x1, y1, x2, y2 = max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))
    if x2 <= x1 or y2 <= y1:
        return box, "outside", f"{text} lies outside the image of {width} x {height} pixels"
    horizontal, vertical = max(-x, x + w - width), max(-y, y + h - height)
    over = max(horizontal, vertical)
    if over <= 0:
        return box, "", ""
    detail = f"{text} reaches {over:.3g} pixels over the border of the image of {width} x {height} pixels"
    if horizontal > _tolerance(width) or vertical > _tolerance(height):
        return box, "partly outside", detail
    # A hundredth of a pixel is how exactly YOLO's six decimals tell a border, and no change to speak of.
    return [x1, y1, x2 - x1, y2 - y1], "clipped" if over > 0.01 else "", detail


def _build_objects(
    source: Source, split: str, entry: Entry, size: tuple[int, int], indices: dict[Any, int], ids: set
) -> dict[str, list]:
    """The objects of a row; `ids` are those of the split's annotations so far."""
    objects: dict[str, list] = {"bbox": [], "category": [], "area": [], "iscrowd": []}
    for item in entry.objects:
        box, kind, detail = _numbers(item.bbox), "", ""
        if item.id is not None and item.id in ids:
            kind, detail = "duplicate id", f"annotation id {item.id} was used before in this split"
        elif item.category not in indices:
            known = ", ".join(map(str, list(indices)[:12])) + (", ..." if len(indices) > 12 else "")
            kind, detail = "unknown category", f"category {item.category!r} is none of {known}"
        elif box is None:
            kind, detail = "wrong box format", f"a box must be four finite numbers, got {item.bbox}"
        elif source.box_format == "relative" and max(box) > 1.01:
            kind, detail = "wrong box format", f"{_text(box)} looks like pixels rather than relative to the image"
        else:
            if source.box_format == "relative":
                (width, height), (x, y, w, h) = size, box
                box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
            box, kind, detail = _clip(box, *size)
        ids.add(item.id)
        if kind:
            source.report(split, entry.file_name, kind, detail, is_error=kind != "clipped")
        if box is not None and kind in ("", "clipped"):
            area = item.area if isinstance(item.area, (int, float)) and 0 < item.area < math.inf else box[2] * box[3]
            values = (box, indices[item.category], float(area), int(bool(item.iscrowd)))
            for column, value in zip(objects.values(), values):
                column.append(value)
    return objects


def _build_rows(source: Source, split: str, indices: dict[Any, int], check_images: bool) -> list[dict[str, Any]]:
    entries, table = source.splits[split], source.tables.get(split)
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter's lock
        inspected = list(pool.map(lambda entry: _inspect(entry.image, table, check_images), entries))
    boxes, sizes = [], []
    for entry, (size, _, _) in zip(entries, inspected):
        found = [box for item in entry.objects if size and (box := _numbers(item.bbox))]
        boxes += found
        sizes += [size] * len(found)
    if fault := _split_fault(source.box_format, np.array(boxes).reshape(-1, 4), np.array(sizes).reshape(-1, 2)):
        source.report(split, "", "wrong box format", f"{fault}; this concerns the whole split")
        return []

    numbered = all(isinstance(entry.image_id, int) for entry in entries)
    if not numbered and any(entry.image_id is not None for entry in entries):
        detail = "image ids are not whole numbers; images are numbered in their order instead"
        source.report(split, "", "image ids", detail, is_error=False)
    rows: list[dict[str, Any]] = []
    image_ids: set[Any] = set()
    file_names: set[str] = set()
    annotation_ids: set[Any] = set()
    for index, (entry, (size, kind, detail)) in enumerate(zip(entries, inspected)):
        if entry.image_id is not None and entry.image_id in image_ids:
            kind, detail = "duplicate id", f"image id {entry.image_id} was used before in this split"
        elif entry.file_name in file_names:
            kind, detail = "duplicate file name", "the file was listed before in this split"
        elif size is not None and entry.size not in (None, size):
            stated, actual = (" x ".join(map(str, pair)) for pair in (entry.size, size))
            kind, detail = (
                "size mismatch",
                f"the annotations are for {stated} pixels, the image as displayed has {actual}",
            )
        image_ids.add(entry.image_id)
        file_names.add(entry.file_name)
        if kind or size is None:
            objects = f" ({len(entry.objects)} objects belong to it)" if entry.objects else ""
            source.report(split, entry.file_name, kind, detail + objects)
            continue
        rows.append(
            {
                "image_id": entry.image_id if numbered else index,
                "image": str(entry.image) if table is None else entry.image,
                "file_name": entry.file_name,
                "width": size[0],
                "height": size[1],
                "objects": _build_objects(source, split, entry, size, indices, annotation_ids),
            }
        )
    if rows and not any(row["objects"]["bbox"] for row in rows):
        source.report(split, "", "no objects", f"none of its {len(rows)} images has an object", is_error=False)
    return rows


def _build_dataset(rows: list[dict[str, Any]], table: Dataset | None, names: list[str]) -> Dataset:
    """The dataset of a split. Images of Hub data are taken from the `table`, without copying them through memory."""
    objects = {
        "bbox": List(List(Value("float64"), length=4)),
        "category": List(ClassLabel(names=names)),
        "area": List(Value("float64")),
        "iscrowd": List(Value("int64")),
    }
    features = {
        "image_id": Value("int64"),
        "image": datasets.Image(),
        "file_name": Value("string"),
        "width": Value("int64"),
        "height": Value("int64"),
        "objects": objects,
    }
    if table is None:
        return Dataset.from_list(rows, features=Features(features))
    images = table.select([row.pop("image") for row in rows]).select_columns("image")
    images = images.cast_column("image", features["image"])
    others = Dataset.from_list(rows, features=Features({name: features[name] for name in rows[0]}))
    return datasets.concatenate_datasets([others, images], axis=1).select_columns(list(features))


def build(source: Source, class_names: list[str] | None, check_images: bool) -> DetectionData:
    categories = _choose_categories(source, class_names)
    names = list(categories.values())
    indices = {key: index for index, key in enumerate(categories)}
    splits = DatasetDict()
    usual = list(dict.fromkeys(SPLITS.values()))
    for split in sorted(source.splits, key=lambda split: usual.index(split) if split in usual else len(usual)):
        entries = source.splits[split]
        rows = _build_rows(source, split, indices, check_images) if categories else []
        if rows:
            splits[split] = _build_dataset(rows, source.tables.get(split), names)
        else:
            left = f"none of its {len(entries)} images can be used" if entries else "it has no images"
            source.report(split, "", "empty split", left)
    if not source.splits:
        source.report("", "", "empty split", f"{source.name} has no split")
    category_ids = [key if isinstance(key, int) else index for key, index in indices.items()]
    return DetectionData(splits, dict(enumerate(names)), category_ids, source.problems)
