# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""From a detector to a folder with its graph."""

import contextlib
import copy
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import AutoImageProcessor, AutoModelForObjectDetection
from transformers.image_utils import ImageInput

from ..conversion import resolve_model
from ..image_processing_yolox import YoloxImageProcessor
from ..images import first_line, list_images
from ..modeling_yolox import MAX_STRIDE, YoloxForObjectDetection
from ..optimization import optimize_for_inference
from .graphs import YoloxDetectionsOutput, YoloxGraph
from .loading import YoloxExportedConfig
from .runtimes import (
    INT8_PACKAGES,
    add_nms_onnx,
    add_nms_openvino,
    check_extra,
    finish_onnx,
    finish_openvino,
    quantize_onnx,
    quantize_openvino,
)

FORMATS = ("onnx", "openvino", "executorch", "torch")

BOX_FORMATS = {
    "raw": "predictions: offset of the centre from its cell (x, y) in cells, log of width and height in cells, "
    "objectness, class probabilities; strides 8, 16, 32, each row by row",
    "decoded": "pred_boxes: (center_x, center_y, width, height) relative to the padded input; sigmoid(logits): scores",
    "detections": "boxes: (x1, y1, x2, y2) in pixels of the padded input, after NMS",
}
"""What the boxes of each kind of graph are, for its metadata."""


def export_model(
    model: YoloxForObjectDetection | str | Path,
    output_dir: str | Path,
    *,
    format: Literal["onnx", "openvino", "executorch", "torch"] = "onnx",
    processor: YoloxImageProcessor | None = None,
    boxes: Literal["decoded", "raw"] = "decoded",
    nms: bool = False,
    nms_threshold: float = 0.65,
    score_threshold: float = 0.01,
    dynamic: bool | None = None,
    image_size: tuple[int, int] | None = None,
    calibration: str | Path | Iterable[ImageInput] | None = None,
) -> Path:
    """Export a detector, in float32 or int8, to a folder with its config and image processor.

    The graph takes `pixel_values` as the image processor makes them and returns, with `boxes="decoded"`, `logits` and
    `pred_boxes` as in `YoloxObjectDetectionOutput`; with `boxes="raw"` a `YoloxRawOutput`; and with `nms` a
    `YoloxDetectionsOutput`. `load_exported` makes a detector of any of them. ONNX and OpenVINO graphs carry the class
    names, the input's size, colour order and padding, and the format of the boxes in their metadata.

    Args:
        model: a detector, which stays as it is, or a model folder, Hub repository or official name.
        output_dir: a folder that does not exist yet, or is empty.
        format: `"torch"` is a `torch.export` program.
        processor: the model's image processor; of a folder or repository, its own by default.
        boxes: decoded in the graph, or as the head returns them.
        nms: end the graph in non-maximum suppression, of each anchor's best class and within classes, as
            `post_process_object_detection` does it. ONNX and OpenVINO only.
        nms_threshold: with `nms`, a box goes if its IoU with a better one of its class is above this.
        score_threshold: with `nms`, boxes with a score above this stay.
        dynamic: any batch size, height and width (multiples of 32) at run time, the default but for ExecuTorch, which
            has no such programs; otherwise one image of `image_size`.
        image_size: height and width of the padded input in pixels; the processor's by default.
        calibration: quantise to int8, by the range of activations on these images: a folder, or an iterable of
            images or paths. A few dozen like those to come do. ONNX and OpenVINO only.

    Returns:
        `output_dir`.

    Raises:
        ImportError: a package for the format is not installed; its extra is named.
        OSError: the model cannot be found or read, or the folder not be written.
        TypeError: the model is no `YoloxForObjectDetection`, or comes without its processor.
        ValueError: an option out of range, two that do not fit together, or a folder that is an export already.
    """
    _check_options(format, boxes, nms, nms_threshold, score_threshold, dynamic, image_size, calibration is not None)
    dynamic = format != "executorch" if dynamic is None else dynamic
    output_dir = Path(output_dir)
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise OSError(f"`output_dir` {output_dir} exists already and is not an empty folder.")
    source = model
    model, processor = _load(model, processor)
    if source is model:
        source = model.config.name_or_path or type(model).__name__
    if image_size is not None:
        processor = copy.deepcopy(processor)
        processor.size = {"height": image_size[0], "width": image_size[1]}
    height, width = processor.size["height"], processor.size["width"]
    images = None if calibration is None else _Calibration(calibration, processor)

    kind = "detections" if nms else boxes
    detector = optimize_for_inference(model, dtype=torch.float32)
    detector.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-arg]
    graph = YoloxGraph(detector, "candidates" if nms else boxes)
    # Sides that the trace neither takes for constants, as it does a single row of cells, nor for each other.
    pixel_values = torch.zeros(2, 3, 96, 128) if dynamic else torch.zeros(1, 3, height, width)
    with _quiet():
        exported = _export(graph, pixel_values, format, dynamic)
        component = exported.components["model"]
        if images is not None:
            quantize = quantize_onnx if format == "onnx" else quantize_openvino
            component.program = quantize(component.program, images)
        if nms:
            _add_nms(component, format, nms_threshold, score_threshold)
    if format in ("onnx", "openvino"):
        finish = finish_onnx if format == "onnx" else finish_openvino
        finish(component.program, describe_graph(detector, processor, kind, dynamic, str(source)), dynamic)

    output_dir.parent.mkdir(parents=True, exist_ok=True)
    # Written beside the folder and renamed at the end, so that an export is whole or not there.
    with tempfile.TemporaryDirectory(dir=output_dir.parent) as temporary:
        folder = Path(temporary) / "exported"
        exported.config = YoloxExportedConfig.from_detector(detector.config)
        exported.save_pretrained(folder)
        processor.save_pretrained(folder)
        if output_dir.exists():
            output_dir.rmdir()
        folder.rename(output_dir)
    return output_dir


def _check_options(format, boxes, nms, nms_threshold, score_threshold, dynamic, image_size, quantize) -> None:
    if format not in FORMATS:
        raise ValueError(f"`format` must be one of {', '.join(FORMATS)}, got {format!r}.")
    if boxes not in ("decoded", "raw"):
        raise ValueError(f'`boxes` must be "decoded" or "raw", got {boxes!r}.')
    if nms and boxes == "raw":
        raise ValueError('`nms=True` needs `boxes="decoded"`, got "raw".')
    for name, value in (("nms_threshold", nms_threshold), ("score_threshold", score_threshold)):
        if not 0 <= value <= 1:
            raise ValueError(f"`{name}` must be in [0, 1], got {value}.")
    if image_size is not None and any(side < MAX_STRIDE or side % MAX_STRIDE for side in image_size):
        raise ValueError(f"`image_size` must be multiples of {MAX_STRIDE}, got {image_size[0]} x {image_size[1]}.")
    for name, value in (("nms=True", nms), ("calibration", quantize)):
        if value and format not in ("onnx", "openvino"):
            raise ValueError(f"`{name}` is for the formats onnx and openvino, got `format={format!r}`.")
    if dynamic and format == "executorch":
        # Of dynamic programs (executorch 1.5) some fail at run time, and some return wrong values without a word.
        raise ValueError('`dynamic=True` is not for `format="executorch"`; leave it out.')
    check_extra(format)
    if quantize and format in INT8_PACKAGES:
        check_extra(format, INT8_PACKAGES[format])


def _load(model: Any, processor: YoloxImageProcessor | None) -> tuple[YoloxForObjectDetection, YoloxImageProcessor]:
    if isinstance(model, (str, Path)):
        name, folder = model, resolve_model(model)
        if (Path(folder) / "export.json").is_file():
            raise ValueError(f"`model` {name} is an exported model already; give the one that it was made from.")
        try:
            model = AutoModelForObjectDetection.from_pretrained(folder)
            processor = processor or AutoImageProcessor.from_pretrained(folder)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise OSError(f"`model` {name} cannot be loaded: {first_line(error)}") from None
    if not hasattr(model, "head"):
        raise TypeError(f"`model` must be a YoloxForObjectDetection or its folder, got {type(model).__name__}.")
    if processor is None:
        raise TypeError("`processor` must be given with a loaded model, got None.")
    return model, processor


def _export(graph: YoloxGraph, pixel_values: torch.Tensor, format: str, dynamic: bool) -> Any:
    from transformers import exporters

    shapes = None
    if dynamic:
        rows, columns = (MAX_STRIDE * torch.export.Dim(name, min=1) for name in ("rows", "columns"))
        shapes = {"pixel_values": {0: torch.export.Dim("batch", min=1), 2: rows, 3: columns}}
    exporter: Any
    exporter, config = {
        "onnx": (exporters.OnnxExporter, exporters.OnnxConfig),
        "openvino": (exporters.OpenVINOExporter, exporters.OpenVINOConfig),
        "executorch": (exporters.ExecutorchExporter, exporters.ExecutorchConfig),
        "torch": (exporters.DynamoExporter, exporters.DynamoConfig),
    }[format]
    return exporter().export(graph, {"pixel_values": pixel_values}, config(dynamic=dynamic, dynamic_shapes=shapes))


def _add_nms(component: Any, format: str, nms_threshold: float, score_threshold: float) -> None:
    from transformers.exporters.metadata import record_output_structure

    if format == "onnx":
        add_nms_onnx(component.program, nms_threshold, score_threshold)
    else:
        component.program = add_nms_openvino(component.program, nms_threshold, score_threshold)
    none = torch.empty(0)
    record_output_structure(component.metadata, YoloxDetectionsOutput(none, none, none, none))


def describe_graph(detector, processor: YoloxImageProcessor, kind: str, dynamic: bool, source: str) -> dict[str, str]:
    """What whoever runs the graph without this package needs to know."""
    values = "0..255"
    if processor.do_rescale:
        values += f", times {processor.rescale_factor}"
    if processor.do_normalize:
        values += f", minus {list(processor.image_mean)}, divided by {list(processor.image_std)}"
    return {
        "task": "object-detection",
        "architecture": "YOLOX",
        "source": source,
        "names": json.dumps(detector.config.id2label),
        "image_size": json.dumps([processor.size["height"], processor.size["width"]]),
        "dynamic": json.dumps(dynamic),
        "color_order": "RGB",
        "value_range": values,
        "padding": f"{processor.pad_value}, right and bottom",
        "boxes": kind,
        "box_format": BOX_FORMATS[kind],
    }


class _Calibration:
    """The model's inputs for some images, prepared one at a time each time they are gone through."""

    def __init__(self, images: str | Path | Iterable[ImageInput], processor: YoloxImageProcessor):
        if isinstance(images, (str, Path)):
            self.images: list[Any] = list(list_images(images))
        else:
            self.images = list(images)
        self.processor = processor
        if not self.images:
            raise ValueError("`calibration` must have at least one image, got none.")

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for image in self.images:
            photo: Any = str(image) if isinstance(image, Path) else image
            yield {"pixel_values": self.processor(photo, return_tensors="pt")["pixel_values"]}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' own reports; their errors come through."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
