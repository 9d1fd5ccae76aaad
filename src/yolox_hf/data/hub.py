# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Datasets in memory or from the Hub."""

from pathlib import Path

import datasets
from datasets import Dataset, DatasetDict

from .source import Entry, Source, SourceObject, split_name


def read_dataset(source: Dataset | DatasetDict, name: str) -> Source:
    """A dataset in memory or from the Hub, with columns `image` and `objects`; its images stay where they are."""
    result = Source(name, "xywh")
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
        split = split_name(key) or key
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
            items = [SourceObject(*values) for values in zip(boxes, categories, *columns)]
            entries.append(Entry(file_name, index, items, row.get("image_id"), size))
    return result


def load_hub(name: str) -> Dataset | DatasetDict:
    try:
        return datasets.load_dataset(name)
    except Exception as error:  # whatever the Hub, the network, the cache or the dataset's builder raises
        reason = " ".join(str(error).split())
        raise OSError(
            f"{name!r} is no file or folder here, and as a dataset of the Hub it could not be loaded ({reason}). "
            "Check the spelling, the network connection and HF_HUB_OFFLINE, or give the path of a copy."
        ) from None
