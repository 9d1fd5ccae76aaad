# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""From what users have to what `Trainer` takes: COCO, YOLO, Pascal VOC and Hub detection data, checked.

Each format's reader describes images and objects as it finds them (`_Source`); one builder checks them all.
"""

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import yaml  # type: ignore[import-untyped]
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from PIL import Image
from transformers.utils import logging

logger = logging.get_logger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
FORMATS = """\
- COCO: `annotations/*.json`, `*.json` or `<split>/*.json` with images, annotations and categories
- YOLO: a yaml file with train/val/test, `images/` + `labels/`, or `<split>/images` + `<split>/labels`
- Pascal VOC: `Annotations/*.xml`, `*.xml` or `<split>/*.xml`"""


# ---- results


@dataclass(frozen=True)
class Problem:
    """Something wrong with the data, or worth knowing.

    Attributes:
        split: the split's name, empty if it concerns all.
        file_name: the image, or the annotation file, in which it lies; empty if it concerns the whole split.
        kind: of errors "missing image", "broken image", "size mismatch", "missing annotation", "broken annotation",
            "unknown image", "unknown category", "no categories", "duplicate id", "duplicate file name",
            "wrong box format", "zero area", "outside", "partly outside", "empty split"; of notes "clipped",
            "polygons", "difficult", "no objects", "no class names", "image ids", "placeholder category".
        detail: a sentence with the values.
        is_error: it is left out under `on_problem="skip"`; notes change at most what their detail says.
    """

    split: str
    file_name: str
    kind: str
    detail: str
    is_error: bool = True

    def __str__(self) -> str:
        place = " ".join(part for part in (self.split, self.file_name) if part)
        return f"{place}: {self.kind}: {self.detail}" if place else f"{self.kind}: {self.detail}"


class DataError(ValueError):
    """Data with errors; `problems` has all of them and the notes."""

    def __init__(self, message: str, problems: Iterable[Problem] = ()):
        super().__init__(message)
        self.problems = list(problems)


@dataclass
class DetectionData:
    """Object detection data, checked.

    Attributes:
        splits: "train", "validation", "test", as far as there are, and splits of other names. Each row has `image_id`
            (int, unique in its split); `image` (decoded when accessed, EXIF orientation applied); `file_name`;
            `width` and `height` in pixels of that image; and `objects`, a dictionary of lists: `bbox` [x, y, width,
            height] in pixels of that image with 0 <= x < x + width <= image width, and so for y; `category`, class
            indices 0..N-1; `area` in square pixels (the source's, else the box's); `iscrowd`, 0 or 1. An image
            without objects has empty lists.
        id2label: class names by class index.
        category_ids: for each class index the category id it has in the source.
        problems: what was left out, and notes.
    """

    splits: DatasetDict
    id2label: dict[int, str]
    category_ids: list[int]
    problems: list[Problem]


# ---- what a reader finds


@dataclass
class _Object:
    bbox: Any  # in the source's `box_format`; not yet known to be four numbers
    category: Any  # a key of the source's categories
    area: Any = None
    iscrowd: Any = 0
    id: Any = None


@dataclass
class _Entry:
    """An image: a file, a row of the split's table, or None where there is no such file."""

    file_name: str
    image: Path | int | None
    objects: list[_Object] = field(default_factory=list)
    image_id: Any = None
    size: tuple[int, int] | None = None  # width and height, as the annotations state them


@dataclass
class _Source:
    """Images and objects as a format describes them.

    `box_format` is "xywh" (x, y, width, height) or "corners" in pixels, the latter already brought to (x, y, width,
    height), or "relative" (center_x, center_y, width, height). `categories` are names by key, None where there are
    only those that objects use. `tables` hold the images of Hub data.
    """

    name: str
    box_format: Literal["xywh", "corners", "relative"]
    splits: dict[str, list[_Entry]] = field(default_factory=dict)
    categories: dict[Any, str] | None = None
    tables: dict[str, Dataset] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def report(self, split: str, file_name: str, kind: str, detail: str, is_error: bool = True) -> None:
        self.problems.append(Problem(split, file_name, kind, detail, is_error))

    def add_split(self, name: str) -> list[_Entry]:
        if name in self.splits:
            raise ValueError(f"{self.name} has two splits that both mean {name!r}; give one of them as the source.")
        return self.splits.setdefault(name, [])


def _split_name(text: str, whole: bool = False) -> str | None:
    """The split that one of the words of `text` means, or (`whole`) its only word."""
    words = re.findall("[a-z]+", text.lower())
    if whole and len(words) != 1:
        return None
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _image_files(folder: Path, pattern: str = "**/*") -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.suffix.lower() in IMAGE_SUFFIXES)


# ---- COCO


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from None


def _read_coco(path: Path) -> _Source | None:
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

    source = _Source(str(path), "xywh", categories={})
    categories: dict[Any, dict[str, Any]] = {}
    used = set()
    for file, content in contents.items():
        fallback = "train" if len(contents) == 1 else file.stem.removeprefix("instances_")
        split = _split_name(file.stem) or _split_name(file.parent.name, whole=True) or fallback
        for category in content["categories"]:
            known = categories.setdefault(category["id"], category)
            if known["name"] != category["name"]:
                names = f"{known['name']!r} and {category['name']!r}"
                raise ValueError(f"{file}: category id {category['id']} is both {names}; ids must mean one class.")
        for category_id, count in Counter(category["id"] for category in content["categories"]).items():
            if count > 1:
                source.report(split, file.name, "duplicate id", f"category id {category_id} is listed {count} times")
        entries = source.add_split(split)
        by_id: dict[Any, _Entry] = {}
        folders = _coco_image_folders(root, file.parent, split)
        for image in content["images"]:
            if "id" not in image or not image.get("file_name"):
                source.report(split, file.name, "broken annotation", f"an image without id or file_name: {image}")
                continue
            size = (image["width"], image["height"]) if image.get("width") and image.get("height") else None
            name = str(image["file_name"]).replace("\\", "/")
            entry = _Entry(name, _find_file(folders, name), [], image["id"], size)
            entries.append(entry)
            by_id.setdefault(image["id"], entry)
        for item in content["annotations"]:
            used.add(item.get("category_id"))
            if item.get("image_id") not in by_id:
                detail = f"annotation {item.get('id')} is of image id {item.get('image_id')}, which is not listed"
                source.report(split, file.name, "unknown image", detail)
                continue
            by_id[item["image_id"]].objects.append(
                _Object(
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
        for folder in _subfolders(parent)
        if split in (folder.name, _split_name(folder.name, whole=True))
    ]
    nested = [folder / "images" for folder in named]
    folders = [*named, *nested, beside, beside / "images", root / "images", root]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _find_file(folders: list[Path], name: str) -> Path | None:
    tries = (folder / part for part in dict.fromkeys((name, Path(name).name)) for folder in folders)
    return next((path for path in tries if path.is_file()), None)


# ---- YOLO


def _read_yolo(path: Path) -> _Source | None:
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

    source = _Source(str(path), "relative", categories=_yolo_names(settings, root))
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
                images = {image.relative_to(place).as_posix(): image for image in _image_files(place)}
            for name, image in images.items():
                entry = _Entry(name, image if image.is_file() else None)
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
            for folder in _subfolders(root / kind)
        }
        splits = {_split_name(name, whole=True) or name: [root / "images" / name] for name in sorted(names)}
        return splits or {"train": [root / "images"]}
    folders = [folder for folder in _subfolders(root) if (folder / "labels").is_dir()]
    return {_split_name(folder.name, whole=True) or folder.name: [folder / "images"] for folder in folders}


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


def _read_yolo_labels(source: _Source, split: str, name: str, path: Path) -> tuple[list[_Object], int]:
    """The objects of a label file, and how many of them were outlines."""
    objects, outlines = [], 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
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
        objects.append(_Object(values, int(category)))
    return objects, outlines


# ---- Pascal VOC


def _read_voc(root: Path) -> _Source | None:
    """Pascal VOC xml files of a folder or of its splits' folders. None if there are none.

    Coordinates are taken as the edges of the box (width = xmax - xmin), as labelling tools write them. Only where
    `source/database` names a VOC challenge they are what the challenge defined: 1-based, with xmax and ymax inside.
    Objects marked `difficult` stay objects like others; a note counts them.
    """
    source = _Source(str(root), "corners")
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
    for folder in _subfolders(root):
        if (split := _split_name(folder.name, whole=True)) and (groups := _voc_group(folder)):
            _read_voc_group(source, split, *groups, None)
    return source if source.splits else None


def _voc_group(folder: Path) -> tuple[list[Path], list[Path]] | None:
    """The xml files of a folder, and the folders where their images may lie."""
    for place in (folder / "Annotations", folder / "annotations", folder):
        if files := sorted(place.glob("*.xml")):
            return files, [path for path in (folder / "JPEGImages", folder / "images", folder) if path.is_dir()]
    return None


def _read_voc_group(
    source: _Source, split: str, files: list[Path], folders: list[Path], listed: list[str] | None
) -> None:
    """Add a split of the xml files, or of those that are `listed` by name."""
    entries = source.add_split(split)
    by_stem = {file.stem: file for file in files}
    images = {image.stem: image for folder in reversed(folders) for image in _image_files(folder, "*")}
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
        image = images.get(stem) or _find_file(folders, named)
        objects = [_Object(box, item.findtext("name")) for item, box in found]
        difficult += sum(item.findtext("difficult") == "1" for item, _ in found)
        entries.append(
            _Entry(image.name if image else named, image, objects, size=(width, height) if width and height else None)
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


# ---- Hub


def _read_dataset(source: Dataset | DatasetDict, name: str) -> _Source:
    """A dataset in memory or from the Hub, with columns `image` and `objects`; its images stay where they are."""
    result = _Source(name, "xywh")
    splits = source if isinstance(source, DatasetDict) else {str(source.split or "train"): source}
    for key, table in splits.items():
        table = table.with_format(None)
        feature = table.features.get("objects")
        feature = getattr(feature, "feature", feature)  # of a list of objects
        if (
            "image" not in table.features
            or not isinstance(feature, dict)
            or not {"bbox", "category"} <= feature.keys()
        ):
            raise ValueError(
                f"{name}, split {key!r}: a detection dataset has columns `image` and `objects` with `bbox` and "
                f"`category`, got {dict(table.features)}."
            )
        if labels := getattr(getattr(feature["category"], "feature", feature["category"]), "names", None):
            if result.categories not in (None, dict(enumerate(labels))):
                raise ValueError(f"{name}, split {key!r} has other class names than the splits before: {labels}.")
            result.categories = dict(enumerate(labels))
        split = _split_name(key) or key
        entries = result.add_split(split)
        table = table.cast_column("image", datasets.Image(decode=False))
        result.tables[split] = table
        names = set()
        for index, row in enumerate(table):
            image = row["image"] or {}
            file_name = row.get("file_name") or Path(image.get("path") or f"row {index}").name
            if file_name in names and image.get("bytes") is not None and "file_name" not in row:
                file_name = f"{file_name} (row {index})"  # only a name inside the table, not a file
            names.add(file_name)
            objects = row["objects"] or {}
            if isinstance(objects, list):
                objects = {key: [item[key] for item in objects] for key in feature}
            boxes, categories = objects.get("bbox") or [], objects.get("category") or []
            if len(boxes) != len(categories):
                detail = f"row {index} has {len(boxes)} boxes, but {len(categories)} categories"
                result.report(split, file_name, "broken annotation", detail)
                continue
            columns = [
                objects.get(key) or default * len(boxes) for key, default in (("area", [None]), ("iscrowd", [0]))
            ]
            size = (row["width"], row["height"]) if row.get("width") and row.get("height") else None
            items = [_Object(*values) for values in zip(boxes, categories, *columns)]
            entries.append(_Entry(file_name, index, items, row.get("image_id"), size))
    return result


def _load_hub(name: str) -> Dataset | DatasetDict:
    try:
        return datasets.load_dataset(name)
    except Exception as error:  # whatever the Hub, the network, the cache or the dataset's builder raises
        reason = " ".join(str(error).split())
        raise OSError(
            f"{name!r} is no file or folder here, and as a dataset of the Hub it could not be loaded ({reason}). "
            "Check the spelling, the network connection and HF_HUB_OFFLINE, or give the path of a copy."
        ) from None


# ---- checking and building


def _read(source: str | Path | Dataset | DatasetDict) -> _Source:
    if isinstance(source, (Dataset, DatasetDict)):
        return _read_dataset(source, type(source).__name__)
    if not isinstance(source, (str, Path)):
        raise ValueError(
            f"`source` must be a path, a Hub name, a Dataset or a DatasetDict, got {type(source).__name__}."
        )
    path = Path(source).expanduser()
    if not path.exists():
        if isinstance(source, str) and re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", source):
            return _read_dataset(_load_hub(source), source)
        raise OSError(f"There is no file or folder at {path}.")
    path = path.absolute()
    if path.is_dir():
        readers = {"COCO": _read_coco, "YOLO": _read_yolo, "Pascal VOC": _read_voc}
        found = {name: result for name, reader in readers.items() if (result := reader(path)) is not None}
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            raise ValueError(f"{path} holds annotations of {' and '.join(found)}; give the json or yaml file itself.")
    elif path.suffix in (".json", ".yaml", ".yml"):
        single = _read_coco(path) if path.suffix == ".json" else _read_yolo(path)
        if single is not None:
            return single
    names = [path.name] if path.is_file() else sorted(item.name + "/" * item.is_dir() for item in path.iterdir())
    listing = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    raise ValueError(f"{path} is no detection data. Looked for\n{FORMATS}\nFound: {listing or 'an empty folder'}.")


def _choose_categories(source: _Source, class_names: list[str] | None) -> dict[Any, str]:
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
        box_format: as in `_Source`.
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
    source: _Source, split: str, entry: _Entry, size: tuple[int, int], indices: dict[Any, int], ids: set
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


def _build_rows(source: _Source, split: str, indices: dict[Any, int], check_images: bool) -> list[dict[str, Any]]:
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


def _build(source: _Source, class_names: list[str] | None, check_images: bool) -> DetectionData:
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


# ---- public functions


def load_detection_data(
    source: str | Path | Dataset | DatasetDict,
    *,
    on_problem: Literal["raise", "skip"] = "raise",
    class_names: list[str] | None = None,
    check_images: bool = True,
) -> DetectionData:
    """Load and check object detection data; the format is recognised.

    Args:
        source: a COCO json file or a folder with such files; a YOLO yaml file or folder; a folder of Pascal VOC xml
            files; a dataset with columns `image` and `objects` (`bbox` in pixels as COCO has it, `category`), or its
            name on the Hub.
        on_problem: "raise" collects all errors into one exception. "skip" leaves out the images and boxes with errors,
            and lists them in `problems`: an image stays without its bad boxes; a split goes if all its boxes are in
            a wrong format, or if no image is left. Either way boxes that reach over the border by at most a pixel or
            0.5 % of the side are clipped, and noted if that is more than a hundredth of a pixel.
        class_names: names of the classes in the order of their indices, where the source names none or to choose
            order and classes by name. Objects of other classes are of an unknown category. By default the source's
            categories in the order of their ids; for Pascal VOC, the names found, sorted.
        check_images: decode every image once to find broken ones. Without it only headers are read.

    Returns:
        DetectionData. Its images are not decoded before they are accessed.

    Raises:
        DataError: (a ValueError) there are errors and `on_problem` is "raise", or nothing would be left.
        OSError: there is no such file or folder, or a dataset of the Hub cannot be loaded.
        ValueError: the source has no or several known formats, cannot be parsed, or contradicts itself or
            `class_names`.
    """
    if on_problem not in ("raise", "skip"):
        raise ValueError(f'`on_problem` must be "raise" or "skip", got {on_problem!r}.')
    data = _build(_read(source), class_names, check_images)
    name = type(source).__name__ if isinstance(source, (Dataset, DatasetDict)) else source
    errors = [problem for problem in data.problems if problem.is_error]
    if errors and (on_problem == "raise" or not data.splits):
        lines = "".join(f"\n  {problem}" for problem in errors[:10])
        more = f"\n  and {len(errors) - 10} more" if len(errors) > 10 else ""
        advice = '`on_problem="skip"` leaves them out and counts them' if data.splits else "Nothing can be used"
        raise DataError(f"{name} has {len(errors)} errors: {_counts(errors)}.{lines}{more}\n{advice}.", data.problems)
    if data.problems:
        notes = [problem for problem in data.problems if not problem.is_error]
        logger.warning(f"{name}: left out {_counts(errors)}; noted {_counts(notes)}. `problems` lists them.")
    return data


def _counts(problems: list[Problem]) -> str:
    counts = Counter(problem.kind for problem in problems)
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common()) or "nothing"


def check_detection_data(
    data_or_source: DetectionData | str | Path | Dataset | DatasetDict,
    *,
    class_names: list[str] | None = None,
    check_images: bool = True,
) -> list[Problem]:
    """All problems of object detection data, errors and notes, without raising for them.

    Args:
        data_or_source: loaded data, or a source as `load_detection_data` takes it; `class_names` and `check_images`
            are as there.

    Raises:
        OSError, ValueError: the source cannot be read at all, as in `load_detection_data`.
    """
    if isinstance(data_or_source, DetectionData):
        return list(data_or_source.problems)
    return _build(_read(data_or_source), class_names, check_images).problems


__all__ = ["DataError", "DetectionData", "Problem", "check_detection_data", "load_detection_data"]
