# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""What differs between ONNX and OpenVINO programs: metadata, NMS, and which of the operations become int8."""

import importlib.util
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import transformers

INT8_PACKAGES = {"openvino": "nncf"}
PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",), "executorch": ("executorch",)}
"""What the formats' extras, named as the formats, install."""


def check_extra(format: str, *packages: str) -> None:
    """
    Raises:
        ImportError: `packages`, or those that `format` needs, are not installed; the extra that has them is named.
            Or transformers has no exporters yet.
    """
    try:
        from transformers.exporters import ExportedModel  # noqa: F401
    except ImportError:
        raise ImportError(
            f"Exported models need transformers 5.24 or later, got {transformers.__version__}."
        ) from None
    missing = [name for name in packages or PACKAGES.get(format, ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f'The {format} format needs {", ".join(missing)}: `pip install "yolox-hf[{format}]"`.')


def finish_onnx(program: Any, metadata: dict[str, str], dynamic: bool) -> None:
    """Write metadata into an `onnx_ir.Model`, name its dynamic sides, and forget where in our code each node is from:
    that is most of the file."""
    program.metadata_props.update(metadata)
    for node in program.graph:
        node.metadata_props.clear()
    if dynamic:
        pixel_values = program.graph.inputs[0]
        pixel_values.shape = type(pixel_values.shape)(["batch", pixel_values.shape[1], "height", "width"])


def finish_openvino(program: Any, metadata: dict[str, str], dynamic: bool) -> None:
    """Write metadata into an `openvino.Model`."""
    for name, value in metadata.items():
        program.set_rt_info(value, ["model_info", name])


# ---- non-maximum suppression

UNLIMITED = 2**31 - 1  # boxes of one class that NMS returns at most


def add_nms_onnx(program: Any, nms_threshold: float, score_threshold: float) -> None:
    """Let an `onnx_ir.Model` that returns `YoloxCandidatesOutput` return `YoloxDetectionsOutput`."""
    import onnx_ir

    graph = program.graph
    boxes, scores = graph.outputs
    tape = onnx_ir.tape.Tape(graph)

    def constant(name: str, value, dtype) -> Any:
        return tape.initializer(onnx_ir.tensor(np.array(value, dtype), name=name))

    def column(name: str, index: int | list[int]) -> Any:
        return tape.op("Gather", [selected, constant(name, index, np.int64)], {"axis": 1})

    limits = (
        constant("max_detections", [UNLIMITED], np.int64),
        constant("nms_threshold", [nms_threshold], np.float32),
        constant("score_threshold", [score_threshold], np.float32),
    )
    selected = tape.op("NonMaxSuppression", [boxes, scores, *limits])  # (n, 3): image, class, anchor
    outputs = {
        "batch_index": column("image_column", 0),
        "labels": column("class_column", 1),
        "scores": tape.op("GatherND", [scores, selected]),
        "boxes": tape.op("GatherND", [boxes, column("anchor_columns", [0, 2])]),
    }
    graph.outputs.clear()
    for name, value in outputs.items():
        value.name = name
        value.dtype = onnx_ir.DataType.INT64 if name in ("batch_index", "labels") else onnx_ir.DataType.FLOAT
        value.shape = onnx_ir.Shape(["num_detections", 4] if name == "boxes" else ["num_detections"])
        graph.outputs.append(value)


def add_nms_openvino(program: Any, nms_threshold: float, score_threshold: float) -> Any:
    """Likewise, a new `openvino.Model`."""
    import openvino  # type: ignore[import-untyped]
    from openvino import opset14 as ops

    boxes, scores = (output.get_node().input_value(0) for output in program.outputs)

    def column(index: int | list[int]) -> Any:
        return ops.gather(selected, np.array(index, np.int64), np.array(1, np.int64))

    nms = ops.non_max_suppression(
        boxes,
        scores,
        np.array(UNLIMITED, np.int64),
        np.array(nms_threshold, np.float32),
        np.array(score_threshold, np.float32),
        box_encoding="corner",
        sort_result_descending=False,
        output_type="i64",
    )
    selected = nms.output(0)  # (n, 3): image, class, anchor
    outputs = {
        "batch_index": column(0),
        "labels": column(1),
        "scores": ops.gather_nd(scores, selected),
        "boxes": ops.gather_nd(boxes, column([0, 2])),
    }
    for name, node in outputs.items():
        node.output(0).set_names({name})
    return openvino.Model([ops.result(node) for node in outputs.values()], program.get_parameters(), "yolox")


# ---- int8


def find_tail(users: dict[str, list[str]], convolutions: set[str]) -> set[str]:
    """The last convolutions and all that follows them: the predictors and the decoding.

    Args:
        users: for each node, in the order of execution, those that read it.
        convolutions: which of them are convolutions.
    """
    tail: set[str] = set()
    for node in reversed(users):
        if all(user in tail and user not in convolutions for user in users[node]):
            tail.add(node)
    return tail


def quantize_onnx(program: Any, calibration: Iterable[dict[str, torch.Tensor]]) -> Any:
    """An `onnx_ir.Model` whose dense convolutions run in int8 on ONNX Runtime.

    Float stay the predictors and the decoding; the first convolution, which reads the pixels; and the depthwise ones,
    whose channels differ in range, while ONNX Runtime has one scale for them all. Any of these costs much AP.
    """
    from onnxruntime.quantization import QuantType
    from transformers.exporters import ExportFormat, OnnxRuntimeQuantizer, OnnxRuntimeStaticConfig

    convolutions = [node for node in program.graph if node.op_type == "Conv"]
    users = {node.name: [user.name for user in node.successors()] for node in program.graph}
    keep_float = find_tail(users, {node.name for node in convolutions}) | {convolutions[0].name}
    keep_float |= {node.name for node in convolutions if node.attributes["group"].as_int() > 1}
    config = OnnxRuntimeStaticConfig(
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=[node.name for node in convolutions if node.name in keep_float],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        # The mean of the images' extremes: the extremes of all images cost more AP, and histograms keep every
        # activation of every image in memory for a gain of less than a point.
        extra_options={"CalibMovingAverage": True},
    )
    quantizer: Any = OnnxRuntimeQuantizer(config, calibration)
    return quantizer.quantize(program, {}, ExportFormat.ONNX)


def quantize_openvino(program: Any, calibration: Iterable[dict[str, torch.Tensor]]) -> Any:
    """An `openvino.Model` in int8, but for the predictors and the decoding, which would cost 3 points of AP."""
    from nncf import IgnoredScope  # type: ignore[import-untyped]
    from transformers.exporters import ExportFormat, NNCFOpenVINOQuantizer, NNCFQuantizationConfig

    users = {
        node.get_friendly_name(): [
            port.get_node().get_friendly_name() for output in node.outputs() for port in output.get_target_inputs()
        ]
        for node in program.get_ordered_ops()
    }
    convolutions = {
        node.get_friendly_name()
        for node in program.get_ordered_ops()
        if node.get_type_name() in ("Convolution", "GroupConvolution")
    }
    # `validate`: among the names are those of constants, which NNCF does not count as operations.
    scope = IgnoredScope(names=sorted(find_tail(users, convolutions)), validate=False)
    config = NNCFQuantizationConfig(ignored_scope=scope)
    quantizer: Any = NNCFOpenVINOQuantizer(config, calibration)
    return quantizer.quantize(program, {}, ExportFormat.OPENVINO)
