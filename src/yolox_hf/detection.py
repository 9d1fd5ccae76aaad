# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Detecting in many images: files, folders, videos and URLs to boxes, read and prepared ahead of the model."""

import itertools
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoImageProcessor, AutoModelForObjectDetection

from .conversion import resolve_model
from .export import load_exported
from .image_processing_yolox import YoloxImageProcessor, letterbox_scale
from .images import first_line, image_readers, list_images
from .modeling_yolox import MAX_STRIDE

T = TypeVar("T")
R = TypeVar("R")
Result = dict[str, torch.Tensor]


# ---- the model


def _load(name: str | Path, device: str | None) -> tuple[Any, YoloxImageProcessor]:
    """A model, on its device, and its image processor."""
    folder = resolve_model(name)
    try:
        processor = AutoImageProcessor.from_pretrained(folder)
        if (Path(folder) / "export.json").is_file():
            return load_exported(folder, device), processor
        model = AutoModelForObjectDetection.from_pretrained(folder).eval()
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise OSError(f"`model` {name} cannot be loaded: {first_line(error)}") from None
    place = device or torch.accelerator.current_accelerator(check_available=True) or "cpu"
    return _move(model, place, memory_format=torch.channels_last), processor


def _move(model, device, **options):
    try:
        return model.to(device, **options)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise ValueError(f"`device` {device} cannot be used: {first_line(error)}") from None


class Detector:
    """A model with its processor: images to detections, a few or many.

        detector = Detector("yolox-s", threshold=0.25)
        for name, image, result in detector.stream("photos"):
            ...

    Args:
        model: a model folder (an exported one too), a Hub repository, an official name such as "yolox-s" (fetched and
            converted once), or a loaded model, as `optimize_for_inference` returns it, with its `processor`.
        image_size: height and width of the padded input in pixels; the processor's by default.
        device: where the model runs. By default the fastest there is, and a loaded model stays where it is.
        processor: instead of the model's own.
        options: of `YoloxImageProcessor.post_process_object_detection`, such as `threshold` and `nms_threshold`.

    Attributes:
        seconds: what the steps took so far, "preprocess", "forward" and "postprocess". `stream` prepares images in
            threads, and adds to the last two alone.

    Raises:
        OSError: the model cannot be found or read.
        TypeError: a loaded model without `processor`.
        ValueError: `image_size` or `device` is out of range.
    """

    def __init__(
        self,
        model: Any,
        image_size: tuple[int, int] | None = None,
        device: str | None = None,
        *,
        processor: YoloxImageProcessor | None = None,
        **options,
    ):
        if image_size is not None and any(side < MAX_STRIDE or side % MAX_STRIDE for side in image_size):
            raise ValueError(f"`image_size` must be multiples of {MAX_STRIDE}, got {image_size[0]} {image_size[1]}.")
        if isinstance(model, (str, Path)):
            self.model, own_processor = _load(model, device)
            self.processor = processor or own_processor
        elif processor is None:
            raise TypeError("`processor` must be given with a loaded model, got None.")
        else:
            self.model, self.processor = model if device is None else _move(model, device), processor
        height, width = image_size or (self.processor.size["height"], self.processor.size["width"])
        self.size = {"height": height, "width": width}
        self.options = options
        self.seconds = dict.fromkeys(("preprocess", "forward", "postprocess"), 0.0)

    def __call__(self, images: list[Image.Image]) -> list[Result]:
        """Detect in one batch.

        Returns:
            For each image `scores` (n,), `labels` (n,) and `boxes` (n, 4), (x1, y1, x2, y2) in pixels of the image,
            on the CPU.
        """
        start = time.perf_counter()
        pixel_values = self.processor(images, return_tensors="pt", size=self.size)["pixel_values"]
        self.seconds["preprocess"] += time.perf_counter() - start
        return self._detect(pixel_values, images)

    def _detect(self, pixel_values: torch.Tensor, images: list[Image.Image]) -> list[Result]:
        times = [time.perf_counter()]
        device = self.model.device
        with torch.inference_mode():
            outputs = self.model(pixel_values.to(device, self.model.dtype, memory_format=torch.channels_last))
        if device.type != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter())
        size = {"height": pixel_values.shape[-2], "width": pixel_values.shape[-1]}
        sizes = [(image.height, image.width) for image in images]
        results = self.processor.post_process_object_detection(outputs, target_sizes=sizes, size=size, **self.options)
        results = [{name: value.cpu() for name, value in result.items()} for result in results]
        times.append(time.perf_counter())
        for name, begin, end in zip(("forward", "postprocess"), times, times[1:]):
            self.seconds[name] += end - begin
        return results

    def stream(
        self,
        sources: str | Path | Iterable[str | Path],
        batch_size: int = 8,
        *,
        workers: int = 2,
        rectangular: bool = False,
    ) -> Iterator[tuple[str, Image.Image | None, Result | OSError]]:
        """Detect in any number of images. Threads read and prepare the next batch while the model has this one, and
        memory holds no more than three batches, however many images there are.

        Args:
            sources: what `list_images` takes.
            batch_size: images the model gets at once.
            workers: threads that read images; 0 for none. The detections do not depend on it.
            rectangular: pad each image only to the next multiple of 32, not to the full square, and batch those of
                one shape. Saves 40 % of the computation for 16:9 photos, and changes scores and boxes a little, as the
                network sees less padding.

        Returns:
            An iterator, in the order of the sources, of the image's name, the image, and what `__call__` gives for
            it; or the name, None, and an OSError where an image cannot be read. The frames of a video are named
            `video.mp4#000000` and so on.

        Raises:
            OSError, ImportError: of `list_images`, at once.
            ValueError: `batch_size` is below 1 or `workers` below 0.
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        if workers < 0:
            raise ValueError(f"`workers` must be at least 0, got {workers}.")
        readers = image_readers(list_images(sources))
        items = _map_ahead(partial(self._prepare, rectangular), readers, workers, ahead=batch_size)
        return self._detect_all(items, batch_size)

    def _prepare(self, rectangular: bool, reader: tuple[str, Callable[[], Image.Image]]) -> "_Item":
        name, read = reader
        try:
            image = read()
        except OSError as error:
            return _Item(name, result=error)
        size = self._rectangle(image) if rectangular else self.size
        return _Item(name, image, self.processor(image, return_tensors="pt", size=size)["pixel_values"])

    def _rectangle(self, image: Image.Image) -> dict[str, int]:
        """The least size for the letterboxed image; the scale of the photo is that of the full size."""
        limits, sides = self.size, {"height": image.height, "width": image.width}
        scale = letterbox_scale(*sides.values(), *limits.values()) if self.processor.do_resize else 1.0
        # The tolerance is for scales a rounding above the true ones.
        return {name: MAX_STRIDE * math.ceil(side * scale / MAX_STRIDE - 1e-6) for name, side in sides.items()}

    def _detect_all(self, items: Iterable["_Item"], batch_size: int):
        for batch in batched(items, batch_size):
            shapes: dict[torch.Size, list[_Item]] = defaultdict(list)
            for item in batch:
                if item.image is not None:
                    shapes[item.pixel_values.shape].append(item)
            for alike in shapes.values():
                results = self._detect(
                    torch.cat([item.pixel_values for item in alike]), [item.image for item in alike]
                )
                for item, result in zip(alike, results):
                    item.result = result
            for item in batch:
                yield item.name, item.image, item.result


@dataclass
class _Item:
    """An image on its way through `Detector.stream`; without `image` and `pixel_values` if it cannot be read."""

    name: str
    image: Any = None
    pixel_values: Any = None
    result: Result | OSError | None = None


def describe(result: Result, id2label: Mapping[int, str]) -> list[dict[str, Any]]:
    """The detections of one image for JSON: `label`, `score`, and `box` (x1, y1, x2, y2) in pixels."""
    return [
        {"label": id2label[label], "score": round(score, 4), "box": [round(side, 2) for side in box]}
        for label, score, box in zip(result["labels"].tolist(), result["scores"].tolist(), result["boxes"].tolist())
    ]


# ---- iterating


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last of what is left."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _map_ahead(function: Callable[[T], R], items: Iterable[T], workers: int, ahead: int) -> Iterator[R]:
    """`map`, in order, by threads that are at most `ahead` items ahead; without `workers` it is `map` itself."""
    if workers == 0:
        yield from map(function, items)
        return
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:  # whoever iterates may stop before the end
            for future in pending:
                future.cancel()
