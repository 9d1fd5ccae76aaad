# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""From what users have to what `Trainer` takes: COCO, YOLO, Pascal VOC and Hub detection data, checked.

Each format's reader describes images and objects as it finds them (`Source`); one builder checks them all.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Literal

from datasets import Dataset, DatasetDict
from transformers.utils import logging

from .checking import build
from .coco import read_coco
from .hub import load_hub, read_dataset
from .source import DataError, DetectionData, Problem, Source
from .voc import read_voc
from .yolo import read_yolo

logger = logging.get_logger(__name__)


FORMATS = """\
- COCO: `annotations/*.json`, `*.json` or `<split>/*.json` with images, annotations and categories
- YOLO: a yaml file with train/val/test, `images/` + `labels/`, or `<split>/images` + `<split>/labels`
- Pascal VOC: `Annotations/*.xml`, `*.xml` or `<split>/*.xml`"""


def _read(source: str | Path | Dataset | DatasetDict) -> Source:
    if isinstance(source, (Dataset, DatasetDict)):
        return read_dataset(source, type(source).__name__)
    if not isinstance(source, (str, Path)):
        raise ValueError(
            f"`source` must be a path, a Hub name, a Dataset or a DatasetDict, got {type(source).__name__}."
        )
    path = Path(source).expanduser()
    if not path.exists():
        if isinstance(source, str) and re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", source):
            return read_dataset(load_hub(source), source)
        raise OSError(f"There is no file or folder at {path}.")
    path = path.absolute()
    if path.is_dir():
        readers = {"COCO": read_coco, "YOLO": read_yolo, "Pascal VOC": read_voc}
        found = {name: result for name, reader in readers.items() if (result := reader(path)) is not None}
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            raise ValueError(f"{path} holds annotations of {' and '.join(found)}; give the json or yaml file itself.")
    elif path.suffix in (".json", ".yaml", ".yml"):
        single = read_coco(path) if path.suffix == ".json" else read_yolo(path)
        if single is not None:
            return single
    names = [path.name] if path.is_file() else sorted(item.name + "/" * item.is_dir() for item in path.iterdir())
    listing = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    raise ValueError(f"{path} is no detection data. Looked for\n{FORMATS}\nFound: {listing or 'an empty folder'}.")


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
    data = build(_read(source), class_names, check_images)
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
    return build(_read(data_or_source), class_names, check_images).problems


__all__ = ["DataError", "DetectionData", "Problem", "check_detection_data", "load_detection_data"]
