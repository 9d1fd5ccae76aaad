# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""What a reader finds, and what is reported of it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset, DatasetDict

from ..images import IMAGE_SUFFIXES

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


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
    """SourceObject detection data, checked.

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


@dataclass
class SourceObject:
    bbox: Any  # in the source's `box_format`; not yet known to be four numbers
    category: Any  # a key of the source's categories
    area: Any = None
    iscrowd: Any = 0
    id: Any = None


@dataclass
class Entry:
    """An image: a file, a row of the split's table, or None where there is no such file."""

    file_name: str
    image: Path | int | None
    objects: list[SourceObject] = field(default_factory=list)
    image_id: Any = None
    size: tuple[int, int] | None = None  # width and height, as the annotations state them


@dataclass
class Source:
    """Images and objects as a format describes them.

    `box_format` is "xywh" (x, y, width, height) or "corners" in pixels, the latter already brought to (x, y, width,
    height), or "relative" (center_x, center_y, width, height). `categories` are names by key, None where there are
    only those that objects use. `tables` hold the images of Hub data.
    """

    name: str
    box_format: Literal["xywh", "corners", "relative"]
    splits: dict[str, list[Entry]] = field(default_factory=dict)
    categories: dict[Any, str] | None = None
    tables: dict[str, Dataset] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def report(self, split: str, file_name: str, kind: str, detail: str, is_error: bool = True) -> None:
        self.problems.append(Problem(split, file_name, kind, detail, is_error))

    def add_split(self, name: str) -> list[Entry]:
        if name in self.splits:
            raise ValueError(f"{self.name} has two splits that both mean {name!r}; give one of them as the source.")
        return self.splits.setdefault(name, [])


def split_name(text: str, whole: bool = False) -> str | None:
    """The split that one of the words of `text` means, or (`whole`) its only word."""
    words = re.findall("[a-z]+", text.lower())
    if whole and len(words) != 1:
        return None
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def image_files(folder: Path, pattern: str = "**/*") -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.suffix.lower() in IMAGE_SUFFIXES)


def find_file(folders: list[Path], name: str) -> Path | None:
    tries = (folder / part for part in dict.fromkeys((name, Path(name).name)) for folder in folders)
    return next((path for path in tries if path.is_file()), None)
