# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""What several commands share."""

import itertools
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
import typer
from huggingface_hub import constants
from PIL import Image
from safetensors import SafetensorError
from tqdm import tqdm

from ..configuration_yolox import VARIANTS
from ..conversion import convert_checkpoint, download_official
from ..visualization import draw_boxes

T = TypeVar("T")

Model = Annotated[
    str, typer.Option(help="Folder of a model, Hub repository, or official name such as yolox-s (fetched once).")
]


def resolve_model(model: str) -> str:
    """The folder or repository that `--model` means; an official name is downloaded and converted once.

    Raises:
        OSError: there is no such folder, or the official weights cannot be downloaded.
    """
    path = Path(model)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise OSError(f"`--model` {model} is a folder without config.json; convert a checkpoint into it first.")
        return model
    if path.exists():
        raise OSError(f"`--model` {model} is a file; `yolox-hf convert {model} FOLDER` makes a model folder of it.")
    if model in VARIANTS:
        cached = Path(constants.HF_HOME) / "yolox-hf" / model
        if not cached.is_dir():
            if constants.HF_HUB_OFFLINE:
                raise OSError(
                    f"The weights of {model} are not cached in {cached} and HF_HUB_OFFLINE forbids to download them."
                )
            cached.parent.mkdir(parents=True, exist_ok=True)
            # Converted beside the cache and moved at the end, so that what lies in the cache is whole.
            with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
                checkpoint, source = download_official(model, folder)
                convert_checkpoint(checkpoint, Path(folder) / model, variant=model, source=source)
                (Path(folder) / model).rename(cached)
        return str(cached)
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise OSError(f"`--model` {model} is no folder, and none of the official names {', '.join(VARIANTS)}.")
    return model


def check_output_dir(folder: Path) -> None:
    """Make a folder for results, before anything is computed that would be lost.

    Raises:
        OSError: it is a file, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise OSError(f"`--output-dir` {folder} is a file.")
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise OSError(f"`--output-dir` {folder} cannot be written.")


Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text.")]
Device = Annotated[str | None, typer.Option(help="Such as cpu, cuda or mps; the fastest there is by default.")]
ImageSize = Annotated[
    tuple[int, int] | None,
    typer.Option(help="Height and width of the model's input, multiples of 32.", metavar="H W"),
]
Threshold = Annotated[float, typer.Option(min=0, max=1, help="The least score of a detection.")]
NmsThreshold = Annotated[float, typer.Option(min=0, max=1, help="IoU above which the weaker of two boxes goes.")]


class Detector:
    """A model with its processor: RGB images to detections. Adds up the seconds of each of its three steps.

    Args:
        model: what `--model` says.
        image_size: height and width of the input; the processor's by default.
        device: where the model runs; the fastest there is by default.
        options: of `post_process_object_detection`.

    Raises:
        OSError: the model cannot be found or read.
        ValueError: `image_size` or `device` is out of range.
    """

    def __init__(self, model: str, image_size: tuple[int, int] | None = None, device: str | None = None, **options):
        from transformers import AutoImageProcessor, AutoModelForObjectDetection

        if image_size is not None and any(side < 32 or side % 32 for side in image_size):
            raise ValueError(f"`--image-size` must be multiples of 32, got {image_size[0]} {image_size[1]}.")
        folder = resolve_model(model)
        try:
            self.model = AutoModelForObjectDetection.from_pretrained(folder).eval()
            self.processor = AutoImageProcessor.from_pretrained(folder)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise OSError(f"`--model` {model} cannot be loaded: {reason}") from None
        try:
            self.device = torch.device(device or torch.accelerator.current_accelerator(check_available=True) or "cpu")
            self.model.to(self.device, memory_format=torch.channels_last)
        except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
            raise ValueError(f"`--device` {device} cannot be used: {str(error).partition(chr(10))[0]}") from None
        self.size = {} if image_size is None else {"size": {"height": image_size[0], "width": image_size[1]}}
        self.options = options
        self.seconds = dict.fromkeys(("preprocess", "forward", "postprocess"), 0.0)

    def __call__(self, images: list[Image.Image]) -> list[dict[str, torch.Tensor]]:
        """For each image `scores`, `labels` and `boxes` (x1, y1, x2, y2) in its pixels, on the CPU."""
        times = [time.perf_counter()]
        inputs = self.processor(images, return_tensors="pt", **self.size)
        times.append(time.perf_counter())
        with torch.inference_mode():
            outputs = self.model(inputs["pixel_values"].to(self.device, memory_format=torch.channels_last))
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter())
        sizes = [(image.height, image.width) for image in images]
        results = self.processor.post_process_object_detection(outputs, target_sizes=sizes, **self.options)
        results = [{name: value.cpu() for name, value in result.items()} for result in results]
        times.append(time.perf_counter())
        for name, start, stop in zip(self.seconds, times, times[1:]):
            self.seconds[name] += stop - start
        return results


def describe(result: dict[str, torch.Tensor], id2label: Mapping[int, str]) -> list[dict[str, Any]]:
    """The detections of one image for JSON: `label`, `score`, and `box` (x1, y1, x2, y2) in pixels."""
    return [
        {"label": id2label[label], "score": round(score, 4), "box": [round(side, 2) for side in box]}
        for label, score, box in zip(result["labels"].tolist(), result["scores"].tolist(), result["boxes"].tolist())
    ]


def annotate(image: Image.Image, result: dict[str, torch.Tensor], id2label: Mapping[int, str]) -> Image.Image:
    """A copy of the image with its detections drawn, the surest on top."""
    labels, scores = result["labels"].tolist()[::-1], result["scores"].tolist()[::-1]
    captions = [f"{id2label[label]} {score:.2f}" for label, score in zip(labels, scores)]
    return draw_boxes(image, result["boxes"].tolist()[::-1], labels, captions)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last of what is left."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def progress(items: Iterable[T], total: int | None, text: str) -> Iterable[T]:
    """The items, with a bar on stderr where that is a terminal."""
    return tqdm(items, total=total, desc=text, disable=None, leave=False)
