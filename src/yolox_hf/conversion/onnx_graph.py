# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""ONNX exports of YOLOX, with batch norm folded into the convolutions, to a checkpoint in the original's layout."""

from pathlib import Path
from typing import Any

import torch

from ..configuration_yolox import VARIANTS, YoloxConfig
from ..images import first_line
from ..modeling_yolox import YoloxForObjectDetection
from .layouts import original_key
from .reading import Checkpoint

BATCH_NORM_EPS = 1e-3
TOLERANCE = 1e-3


def _import(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        raise ImportError(f'ONNX files need {name}: `pip install "yolox-hf[onnx]"`.') from None


def read_onnx(path: str | Path) -> Checkpoint:
    """The weights of an ONNX export, under the original's names, with batch norms that do nothing.

    The convolutions are recognised by their order in the graph, which is the order in which the original's code runs
    them, and by their shapes; names in the file do not matter.

    Raises:
        ImportError: onnx is not installed.
        OSError: the file does not exist.
        ValueError: it is no ONNX file, or its convolutions are not those of a YOLOX variant.
    """
    onnx = _import("onnx")
    path = Path(path)
    if not path.is_file():
        raise OSError(f"There is no checkpoint file at {path}.")
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # protobuf's DecodeError is not public
        raise ValueError(f"{path} is not a readable ONNX file: {first_line(error)}") from None
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
        elif node.op_type == "Identity" and node.input[0] in constants:  # PyTorch stores equal tensors once
            constants[node.output[0]] = constants[node.input[0]]

    def tensor(name: str) -> torch.Tensor:
        if name not in constants:
            raise ValueError(f"{path}: the weights {name!r} of a convolution are not in the file as numbers.")
        return torch.from_numpy(onnx.numpy_helper.to_array(constants[name]).copy()).float()

    convolutions = [[tensor(name) for name in node.input[1:]] for node in graph.node if node.op_type == "Conv"]
    if not convolutions or any(len(parts) != 2 for parts in convolutions):
        raise ValueError(
            f"{path} has convolutions without bias: batch norm is not folded into them, or it is no YOLOX."
        )
    shapes = [tuple(weight.shape) for weight, _ in convolutions]
    for variant in VARIANTS:
        expected = _convolution_shapes(variant)
        # The class predictors have as many outputs as there are classes.
        fits = len(expected) == len(shapes) and all(
            ours == theirs or (".cls_preds." in name and ours[1:] == theirs[1:])
            for (name, ours), theirs in zip(expected, shapes)
        )
        if fits:
            break
    else:
        raise ValueError(f"The {len(shapes)} convolutions of {path} are those of none of {', '.join(VARIANTS)}.")
    weights = {}
    for (name, _), (weight, bias) in zip(expected, convolutions):
        weights[f"{name}.weight"] = weight
        if "_preds." in name:
            weights[f"{name}.bias"] = bias
        else:
            norm = name.removesuffix("conv") + "bn"
            ones = torch.ones_like(bias)
            weights[f"{norm}.weight"], weights[f"{norm}.bias"] = ones, bias
            weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"] = 0 * ones, (1 - BATCH_NORM_EPS) * ones
            weights[f"{norm}.num_batches_tracked"] = torch.tensor(0)
    # Old files list the weights among the inputs.
    image_input = next(entry for entry in graph.input if entry.name not in constants)
    sides = [dimension.dim_value for dimension in image_input.type.tensor_type.shape.dim[2:]]
    return Checkpoint(weights, image_size=(sides[0], sides[1]) if len(sides) == 2 and all(sides) else None)


def _convolution_shapes(variant: str) -> list[tuple[str, tuple[int, ...]]]:
    """The original's names and shapes of a variant's convolutions, in the order in which the original runs them."""
    config = YoloxConfig.from_variant(variant)
    with torch.device("meta"):
        model = YoloxForObjectDetection(config).eval()
        found: list[tuple[str, tuple[int, ...]]] = []
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Conv2d):
                shape = tuple(module.weight.shape)
                if shape[2:] == (6, 6):  # our stem for Focus and a 3 x 3 convolution
                    shape = (shape[0], 12, 3, 3)
                key = original_key(f"{name}.weight", config).removesuffix(".weight")
                module.register_forward_hook(lambda *_, key=key, shape=shape: found.append((key, shape)))
        with torch.no_grad():
            model(torch.zeros(1, 3, 64, 64))
    # Where our order differs: the shortcut of a CSP block comes before its bottlenecks, and the head goes level by
    # level, classes before boxes.
    names = [key for key, _ in found]
    for key in [key for key in names if key.endswith(".conv2.conv") and key[:-11] + ".conv3.conv" in names]:
        names.remove(key)
        names.insert(names.index(key[:-11] + ".conv1.conv") + 1, key)
    head = ("stems", "cls_convs", "cls_preds", "reg_convs", "reg_preds", "obj_preds")
    names = [key for key in names if not key.startswith("head.")] + sorted(
        (key for key in names if key.startswith("head.")),
        key=lambda key: (int(key.split(".")[2]), head.index(key.split(".")[1])),
    )
    shapes = dict(found)
    return [(key, shapes[key]) for key in names]


def check_against_onnx(model: YoloxForObjectDetection, path: str | Path, flip_channels: bool) -> None:
    """Compare a converted model with the ONNX file it comes from, on a random image.

    Args:
        model: takes RGB.
        path: of the file; its output is (batch_size, num_anchors, 5 + num_labels), boxes decoded or not.
        flip_channels: the file takes BGR.

    Raises:
        ImportError: ONNX Runtime is not installed.
        ValueError: ONNX Runtime does not run the file, or the outputs differ.
    """
    onnxruntime = _import("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        image_input = session.get_inputs()[0]
        shape = [side if isinstance(side, int) else free for side, free in zip(image_input.shape, (1, 3, 64, 64))]
        height, width = shape[2:]
        pixel_values = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 255
        given = pixel_values.flip(1) if flip_channels else pixel_values
        theirs = torch.from_numpy(session.run(None, {image_input.name: given.numpy()})[0])
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise ValueError(f"ONNX Runtime cannot run {path}: {first_line(error)}") from None
    with torch.no_grad():
        outputs = model(pixel_values)
        maps = model.head(model.model(pixel_values).feature_maps)
    scores = torch.cat((outputs.objectness_logits, outputs.class_logits), dim=2).sigmoid()
    raw_boxes = torch.cat([box_map.flatten(2).transpose(1, 2) for box_map in maps.box_maps], dim=1)
    decoded = outputs.pred_boxes * torch.tensor([width, height, width, height])
    differences = []
    for boxes in (raw_boxes, decoded):
        ours = torch.cat((boxes, scores), dim=2)
        if ours.shape != theirs.shape:
            raise ValueError(f"{path} returns {tuple(theirs.shape)}, the converted model {tuple(ours.shape)}.")
        differences.append(float(((ours - theirs).abs() / ours.abs().clamp(min=1)).max()))
    if not min(differences) < TOLERANCE:
        raise ValueError(
            f"The model converted from {path} differs from ONNX Runtime by {min(differences):.2g}: the graph computes "
            "something else than YOLOX, or its convolutions are in another order."
        )
