# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""What several commands share."""

import tempfile
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, TypeVar

import torch
import typer
from PIL import Image
from tqdm import tqdm

from ..detection import Detector, Result
from ..modeling_yolox import YoloxForObjectDetection
from ..optimization import keep_freed_memory, optimize_for_inference
from ..visualization import draw_boxes

T = TypeVar("T")


class Dtype(str, Enum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


Model = Annotated[
    str, typer.Option(help="Folder of a model, Hub repository, or official name such as yolox-s (fetched once).")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text.")]
Device = Annotated[str | None, typer.Option(help="Such as cpu, cuda or mps; the fastest there is by default.")]
ImageSize = Annotated[
    tuple[int, int] | None,
    typer.Option(help="Height and width of the model's input, multiples of 32.", metavar="H W"),
]
Threshold = Annotated[float, typer.Option(min=0, max=1, help="The least score of a detection.")]
NmsThreshold = Annotated[float, typer.Option(min=0, max=1, help="IoU above which the weaker of two boxes goes.")]
Optimize = Annotated[bool, typer.Option("--optimize", help="Run the model in its form for inference alone; faster.")]
Precision = Annotated[Dtype | None, typer.Option("--dtype", help="Of the model; its own by default.")]


def load_detector(
    model: str,
    image_size: tuple[int, int] | None,
    device: str | None,
    optimize: bool,
    dtype: Dtype | None,
    **options,
) -> Detector:
    """The `Detector` that the options of a command describe. On a CPU the process, the command's own, keeps the memory
    that it frees.

    Raises:
        OSError, ValueError: of `Detector`; a ValueError also for `optimize` or `dtype` with an exported model.
    """
    detector = Detector(model, image_size, device, **options)
    if (optimize or dtype) and not isinstance(detector.model, YoloxForObjectDetection):
        raise ValueError(f"`--optimize` and `--dtype` are for models that are not exported, as {model} is.")
    if detector.model.device.type == "cpu":
        keep_freed_memory()
    if optimize:
        detector.model = optimize_for_inference(detector.model, dtype=dtype and dtype.value)
    elif dtype:
        detector.model.to(getattr(torch, dtype.value))
    return detector


def annotate(image: Image.Image, result: Result, id2label: Mapping[int, str]) -> Image.Image:
    """A copy of the image, in RGB, with its detections drawn, the surest on top."""
    labels, scores = result["labels"].tolist()[::-1], result["scores"].tolist()[::-1]
    captions = [f"{id2label[label]} {score:.2f}" for label, score in zip(labels, scores)]
    return draw_boxes(image.convert("RGB"), result["boxes"].tolist()[::-1], labels, captions)


def check_output_dir(folder: Path, option: str = "--output-dir") -> None:
    """Make a folder for results, before anything is computed that would be lost.

    Raises:
        OSError: it is a file, or cannot be made or written.
    """
    if folder.exists() and not folder.is_dir():
        raise OSError(f"`{option}` {folder} is a file.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Permissions do not tell: root may everything, and yet there are file systems that take nothing.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"`{option}` {folder} cannot be written: {error.strerror}.") from None


def progress(items: Iterable[T], total: int | None, text: str) -> Iterable[T]:
    """The items, with a bar on stderr where that is a terminal."""
    return tqdm(items, total=total, desc=text, disable=None, leave=False)
