# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Layouts of YOLOX checkpoints: told apart, and renamed to ours and back.

The original (Megvii-BaseDetection/YOLOX, releases 0.0.1 to 0.1.1rc0) and mmdetection are known from their published
state dicts alone. ByteTrack, pixeltable-yolox and LibreYOLO keep the original's names.
"""

from collections.abc import Mapping

import torch

from ..configuration_yolox import VARIANTS, YoloxConfig
from ..modeling_yolox import YoloxForObjectDetection
from .reading import shorten

_MMDET_MODULES = {
    **{f"backbone.stage{i}.": f"backbone.backbone.dark{i + 1}." for i in (1, 2, 3, 4)},
    "backbone.stem.": "backbone.backbone.stem.",
    "neck.reduce_layers.0.": "backbone.lateral_conv0.",
    "neck.reduce_layers.1.": "backbone.reduce_conv1.",
    "neck.top_down_blocks.0.": "backbone.C3_p4.",
    "neck.top_down_blocks.1.": "backbone.C3_p3.",
    "neck.downsamples.0.": "backbone.bu_conv2.",
    "neck.downsamples.1.": "backbone.bu_conv1.",
    "neck.bottom_up_blocks.0.": "backbone.C3_n3.",
    "neck.bottom_up_blocks.1.": "backbone.C3_n4.",
    "neck.out_convs.": "head.stems.",
    "bbox_head.multi_level_cls_convs.": "head.cls_convs.",
    "bbox_head.multi_level_reg_convs.": "head.reg_convs.",
    "bbox_head.multi_level_conv_cls.": "head.cls_preds.",
    "bbox_head.multi_level_conv_reg.": "head.reg_preds.",
    "bbox_head.multi_level_conv_obj.": "head.obj_preds.",
}
_MMDET_LAYERS = {
    "main_conv": "conv1",
    "short_conv": "conv2",
    "final_conv": "conv3",
    "blocks": "m",
    "depthwise_conv": "dconv",
    "pointwise_conv": "pconv",
}


def to_original_layout(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """mmdetection's names to the original's, by which its other layouts are known; those of others stay."""
    if "bbox_head.multi_level_conv_cls.0.weight" not in state_dict:
        return dict(state_dict)
    renamed = {}
    for key, value in state_dict.items():
        module = next((module for module in _MMDET_MODULES if key.startswith(module)), "")
        layers = key.removeprefix(module).split(".")
        renamed[_MMDET_MODULES.get(module, "") + ".".join(_MMDET_LAYERS.get(layer, layer) for layer in layers)] = value
    return renamed


def identify_checkpoint(state_dict: Mapping[str, torch.Tensor]) -> tuple[str, int]:
    """Variant and number of classes of an original checkpoint, from the shapes of its tensors.

    Raises:
        ValueError: it is no YOLOX checkpoint in the original's layout, or of a size that is none of the variants.
    """
    classifier = state_dict.get("head.cls_preds.0.weight")
    if classifier is not None and "backbone.backbone.stem.0.conv.weight" in state_dict:
        return "yolox-darknet53", classifier.shape[0]
    stem = state_dict.get("backbone.backbone.stem.conv.conv.weight")
    if stem is None or classifier is None:
        raise ValueError(
            "This is no YOLOX checkpoint of the original or of mmdetection: `backbone.backbone.stem...` or "
            f"`head.cls_preds.0.weight` is missing. Its keys are {shorten(state_dict, 6)}."
        )
    width = stem.shape[0]
    depth = len({key.split(".")[5] for key in state_dict if key.startswith("backbone.backbone.dark2.1.m.")})
    depthwise = "backbone.backbone.dark2.0.dconv.conv.weight" in state_dict
    for variant, fields in VARIANTS.items():
        if (fields["stem_channels"], fields["depths"][0], fields["depthwise"]) == (width, depth, depthwise):
            return variant, classifier.shape[0]
    raise ValueError(
        f"This YOLOX checkpoint is none of {', '.join(VARIANTS)}: its stem has {width} channels, its first stage "
        f"{depth} blocks, and its convolutions are {'depthwise' if depthwise else 'dense'}."
    )


_CSP_MODULES = {
    "model.backbone.stem.": "backbone.backbone.stem.conv.",
    **{f"model.backbone.stages.{i}.downsample.": f"backbone.backbone.dark{i + 2}.0." for i in range(4)},
    **{f"model.backbone.stages.{i}.csp.": f"backbone.backbone.dark{i + 2}.{1 if i < 3 else 2}." for i in range(4)},
    "model.backbone.stages.3.spp.": "backbone.backbone.dark5.1.",
    "model.neck.lateral_convs.0.": "backbone.lateral_conv0.",
    "model.neck.lateral_convs.1.": "backbone.reduce_conv1.",
    "model.neck.fpn_blocks.0.": "backbone.C3_p4.",
    "model.neck.fpn_blocks.1.": "backbone.C3_p3.",
    "model.neck.downsample_convs.0.": "backbone.bu_conv2.",
    "model.neck.downsample_convs.1.": "backbone.bu_conv1.",
    "model.neck.pan_blocks.0.": "backbone.C3_n3.",
    "model.neck.pan_blocks.1.": "backbone.C3_n4.",
}
_DARKNET_MODULES = {
    **{f"model.backbone.stem.2.conv{k}.": f"backbone.backbone.stem.2.layer{k}." for k in (1, 2)},
    "model.backbone.stem.": "backbone.backbone.stem.",
    **{f"model.backbone.stages.{i}.downsample.": f"backbone.backbone.dark{i + 2}.0." for i in range(4)},
    **{
        f"model.backbone.stages.{i}.blocks.{block}.conv{k}.": f"backbone.backbone.dark{i + 2}.{block + 1}.layer{k}."
        for i, depth in enumerate(VARIANTS["yolox-darknet53"]["depths"])
        for block in range(depth)
        for k in (1, 2)
    },
    **{f"model.backbone.stages.3.spp_block.{i}.": f"backbone.backbone.dark5.{i + 5}." for i in range(5)},
    "model.neck.lateral_convs.0.": "backbone.out1_cbl.",
    "model.neck.lateral_convs.1.": "backbone.out2_cbl.",
    "model.neck.fpn_blocks.0.": "backbone.out1.",
    "model.neck.fpn_blocks.1.": "backbone.out2.",
}
_HEAD_MODULES = {
    "head.stems.": "head.stems.",
    "head.class_convs.": "head.cls_convs.",
    "head.box_convs.": "head.reg_convs.",
    "head.class_predictors.": "head.cls_preds.",
    "head.box_predictors.": "head.reg_preds.",
    "head.objectness_predictors.": "head.obj_preds.",
}
_LAYERS = {
    "norm": "bn",
    "depthwise_conv": "dconv",
    "pointwise_conv": "pconv",
    "main_conv": "conv1",
    "shortcut_conv": "conv2",
    "final_conv": "conv3",
    "blocks": "m",
}


def original_key(key: str, config: YoloxConfig) -> str:
    """The name in the original's state dict of a tensor of `YoloxForObjectDetection(config)`."""
    modules = {**(_DARKNET_MODULES if config.backbone_type == "darknet53" else _CSP_MODULES), **_HEAD_MODULES}
    ours, original = next((ours, original) for ours, original in modules.items() if key.startswith(ours))
    return original + ".".join(_LAYERS.get(part, part) for part in key.removeprefix(ours).split("."))


def convert_stem(weight: torch.Tensor, flip_channels: bool) -> torch.Tensor:
    """The original's stem convolution for RGB input, in the layout of `YoloxDarknet`.

    Args:
        weight: (out_channels, 12, 3, 3) behind "Focus", which orders its 12 channels by column, row and colour of each
            2x2 square; or the plain (out_channels, 3, 3, 3) of Darknet-53.
        flip_channels: the checkpoint takes BGR.

    Returns:
        (out_channels, 3, 6, 6), of stride 2, or (out_channels, 3, 3, 3).
    """
    if weight.shape[1] == 12:
        columns_rows_colours = weight.unflatten(1, (2, 2, 3))
        weight = columns_rows_colours.permute(0, 3, 4, 2, 5, 1).flatten(4).flatten(2, 3)
    return weight.flip(1) if flip_channels else weight


def restore_stem(weight: torch.Tensor, flip_channels: bool, focus: bool) -> torch.Tensor:
    """The inverse of `convert_stem`; `focus` for the original's CSPDarknet, whose stem has 12 input channels."""
    weight = weight.flip(1) if flip_channels else weight
    if not focus:
        return weight
    rows_columns = weight.unflatten(3, (3, 2)).unflatten(2, (3, 2))  # (out, colour, row, row', column, column')
    return rows_columns.permute(0, 5, 3, 1, 2, 4).flatten(1, 3)


def restore_state_dict(
    state_dict: Mapping[str, torch.Tensor], config: YoloxConfig, flip_channels: bool
) -> dict[str, torch.Tensor]:
    """The inverse of `convert_state_dict`: the original's state dict, equal to the bit.

    Args:
        state_dict: of `YoloxForObjectDetection(config)`; not modified.
        config: of the model.
        flip_channels: the result takes BGR.
    """
    restored = {}
    for key, value in state_dict.items():
        name = original_key(key, config)
        if ".backbone.stem." in name and value.ndim == 4 and value.shape[1] == 3:
            value = restore_stem(value, flip_channels, focus=config.backbone_type == "csp_darknet")
        restored[name] = value.contiguous()
    return restored


def convert_state_dict(
    state_dict: Mapping[str, torch.Tensor], config: YoloxConfig, flip_channels: bool
) -> dict[str, torch.Tensor]:
    """The state dict of `YoloxForObjectDetection(config)` from an original one, in float32.

    Args:
        state_dict: in the original's layout; not modified.
        config: of the same variant and number of classes.
        flip_channels: the checkpoint takes BGR.

    Raises:
        ValueError: keys are missing, unexpected or of another shape; all of them are named.
    """
    with torch.device("meta"):
        expected = YoloxForObjectDetection(config).state_dict()
    names = {original_key(key, config): key for key in expected}
    problems = []
    if missing := [name for name in names if name not in state_dict]:
        problems.append(f"missing: {shorten(missing)}")
    if unexpected := [name for name in state_dict if name not in names]:
        problems.append(f"unexpected: {shorten(unexpected)}")
    converted, misshapen = {}, []
    for name, key in names.items():
        if name not in state_dict:
            continue
        value = state_dict[name]
        if ".backbone.stem." in name and value.ndim == 4 and value.shape[1] in (3, 12):
            value = convert_stem(value, flip_channels)
        if value.shape != expected[key].shape:
            misshapen.append(f"{name} {tuple(state_dict[name].shape)} for our {tuple(expected[key].shape)}")
        converted[key] = value.to(expected[key].dtype).contiguous()
    if misshapen:
        problems.append(f"of another shape: {shorten(misshapen)}")
    if problems:
        raise ValueError(
            f"The checkpoint does not fit {config.backbone_type} with these widths: {'; '.join(problems)}."
        )
    return converted
