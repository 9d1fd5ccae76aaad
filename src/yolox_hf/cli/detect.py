# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""`yolox-hf detect`."""

import csv
import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlparse

import typer
from PIL import Image

from ..detection import describe
from ..images import is_url, is_video, list_images
from .common import (
    Device,
    ImageSize,
    Json,
    Model,
    NmsThreshold,
    Optimize,
    Precision,
    Threshold,
    annotate,
    check_output_dir,
    load_detector,
    progress,
)


class Format(str, Enum):
    json = "json"
    coco = "coco"
    csv = "csv"


def detect(
    sources: Annotated[list[str], typer.Argument(help="Photos, folders, videos or URLs.")],
    model: Model,
    output_dir: Annotated[Path, typer.Option(help="Folder for the pictures and the list of boxes.")] = Path(
        "detections"
    ),
    format: Annotated[Format, typer.Option(help="Of the list of boxes in --output-dir.")] = Format.json,
    pictures: Annotated[bool, typer.Option(help="Save the photos with the detections drawn.")] = True,
    threshold: Threshold = 0.25,
    nms_threshold: NmsThreshold = 0.45,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    workers: Annotated[int, typer.Option(min=0, help="Threads that read images ahead.")] = 2,
    rectangular: Annotated[
        bool, typer.Option("--rectangular", help="Pad photos less; faster, with slightly other boxes.")
    ] = False,
    image_size: ImageSize = None,
    device: Device = None,
    optimize: Optimize = False,
    dtype: Precision = None,
    as_json: Json = False,
) -> None:
    """Detect objects in photos: pictures with boxes, and the boxes as JSON, COCO json or CSV."""
    names = list_images(sources)
    count = None if any(map(is_video, names)) else len(names)
    check_output_dir(output_dir)
    detector = load_detector(
        model, image_size, device, optimize, dtype, threshold=threshold, nms_threshold=nms_threshold
    )
    id2label = detector.model.config.id2label
    failed = found = 0
    with _BoxFile(output_dir / f"detections.{'csv' if format is Format.csv else 'json'}", format, id2label) as boxes:
        stream = detector.stream(names, batch_size, workers=workers, rectangular=rectangular)
        for name, image, result in progress(stream, count, "images"):
            if image is None or isinstance(result, OSError):
                failed += 1
                print(f"error: {name} cannot be read: {result}", file=sys.stderr)
                continue
            found += 1
            boxes.add(name, image, result)
            entry = {"image": name, "detections": describe(result, id2label)}
            if pictures:
                picture = output_dir / _picture_name(name, boxes.names)
                annotate(image, result, id2label).save(picture)
                entry["picture"] = str(picture)
            if as_json:
                print(json.dumps(entry))
            elif count is not None and count <= 20:
                _print_table(entry)
    if not as_json:
        print(f"{found} images, {boxes.count} detections: {boxes.path}")
    if failed:
        print(f"error: {failed} of {found + failed} images could not be read", file=sys.stderr)
        raise typer.Exit(1)


def _print_table(entry: dict[str, Any]) -> None:
    print(entry["image"] + (f" -> {entry['picture']}" if "picture" in entry else ""))
    for found in entry["detections"]:
        box = " ".join(f"{side:7.1f}" for side in found["box"])
        print(f"  {found['score']:.3f}  {found['label']:16} {box}")


# ---- writing


def _picture_name(name: str, taken: set[str]) -> str:
    """A file name for the picture of an image, which none before it has."""
    last = (urlparse(name).path if is_url(name) else name).replace("#", "_").rstrip("/").rsplit("/", 1)[-1]
    stem = Path(last).stem if "_" not in Path(last).suffix else last.replace(".", "_")
    unique, number = stem or "image", 2
    while unique in taken:
        unique, number = f"{stem}-{number}", number + 1
    taken.add(unique)
    return f"{unique}.jpg"


class _BoxFile:
    """The list of boxes, written as they come; under its name only when it is complete."""

    def __init__(self, path: Path, format: Format, id2label: dict[int, str]):
        self.path, self.format, self.id2label = path, format, id2label
        self.names: set[str] = set()
        self.count = 0
        self.images: list[dict[str, Any]] = []  # for COCO alone
        self._separator = ""
        self._part = path.with_name(path.name + ".part")

    def __enter__(self) -> "_BoxFile":
        self._file = open(self._part, "w", encoding="utf-8", newline="")
        if self.format is Format.csv:
            self._csv = csv.writer(self._file)
            self._csv.writerow(("image", "label", "score", "x1", "y1", "x2", "y2"))
        else:
            self._file.write('{"annotations": [' if self.format is Format.coco else "[")
        return self

    def _write(self, item: dict[str, Any]) -> None:
        self._file.write(f"{self._separator}\n{json.dumps(item)}")
        self._separator = ","

    def add(self, name: str, image: Image.Image, result: dict[str, Any]) -> None:
        found = describe(result, self.id2label)
        if self.format is Format.csv:
            self._csv.writerows((name, item["label"], item["score"], *item["box"]) for item in found)
        elif self.format is Format.json:
            self._write({"image": name, "width": image.width, "height": image.height, "detections": found})
        else:
            image_id = len(self.images) + 1
            self.images.append({"id": image_id, "file_name": name, "width": image.width, "height": image.height})
            for index, (item, label) in enumerate(zip(found, result["labels"].tolist())):
                left, top, right, bottom = item["box"]
                box = [left, top, round(right - left, 2), round(bottom - top, 2)]
                self._write(
                    {
                        "id": self.count + index + 1,
                        "image_id": image_id,
                        "category_id": label,
                        "bbox": box,
                        "area": round(box[2] * box[3], 2),
                        "iscrowd": 0,
                        "score": item["score"],
                    }
                )
        self.count += len(found)

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None and self.format is Format.json:
            self._file.write("\n]\n")
        elif kind is None and self.format is Format.coco:
            categories = [{"id": index, "name": name} for index, name in self.id2label.items()]
            rest = json.dumps({"images": self.images, "categories": categories})
            self._file.write("\n], " + rest[1:] + "\n")
        self._file.close()
        if kind is None:
            self._part.replace(self.path)
        else:
            self._part.unlink()
