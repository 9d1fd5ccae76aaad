# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE in the source repository or
# http://www.apache.org/licenses/LICENSE-2.0
"""YOLOX (Ge et al. 2021, arXiv:2107.08430): blocks -> backbone -> neck -> head -> model -> detector.

CSPDarknet follows CSPNet (arXiv:1911.11929), Darknet-53 and its FPN follow YOLOv3 (arXiv:1804.02767), and the path
aggregation neck follows PANet (arXiv:1803.01534). The network takes RGB images with values in 0..255.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.backbone_utils import BackboneMixin, filter_output_hidden_states
from transformers.modeling_outputs import BackboneOutput
from transformers.modeling_utils import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES
from transformers.processing_utils import Unpack
from transformers.utils.generic import ModelOutput, TransformersKwargs, can_return_tuple

from .configuration_yolox import LOSS_FIELDS, YoloxConfig
from .loss_yolox import check_labels, pad_labels, yolox_loss

# The object-detection pipeline looks a model's name up in this table, and logs an error for a name that is not there.
MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES["yolox"] = "YoloxForObjectDetection"

LEAKY_RELU_SLOPE = 0.1  # of Darknet-53; transformers' own "leaky_relu" has 0.01
MAX_STRIDE = 32  # of the deepest stage: the sides of an input are multiples of it


@dataclass
class YoloxModelOutput(ModelOutput):
    """Output of `YoloxModel`.

    Args:
        last_hidden_state: (batch_size, channels, height / 32, width / 32), the deepest of `feature_maps`.
        feature_maps: the neck's three maps, of strides 8, 16 and 32: (batch_size, channels, height / stride,
            width / stride) each.
        hidden_states: with `output_hidden_states=True`, the backbone's five maps (stem and stages, strides 2 to 32).
    """

    last_hidden_state: torch.Tensor | None = None
    feature_maps: tuple[torch.Tensor, ...] | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


@dataclass
class YoloxHeadOutput(ModelOutput):
    """The nine raw maps of the decoupled head: for each of the strides 8, 16 and 32, before sigmoid and decoding.

    Args:
        class_maps: three of (batch_size, num_labels, height / stride, width / stride), class logits.
        box_maps: three of (batch_size, 4, height / stride, width / stride): the offset of the centre from the cell's
            corner (x, y) in cells, and the logarithm of width and height in cells.
        objectness_maps: three of (batch_size, 1, height / stride, width / stride), objectness logits.
    """

    class_maps: tuple[torch.Tensor, ...] | None = None
    box_maps: tuple[torch.Tensor, ...] | None = None
    objectness_maps: tuple[torch.Tensor, ...] | None = None


@dataclass
class YoloxObjectDetectionOutput(ModelOutput):
    """Output of `YoloxForObjectDetection`. Anchors are ordered by stride (8, 16, 32), each map row by row.

    Args:
        loss: scalar, with `labels`.
        loss_dict: the terms of the loss, with `labels`.
        logits: (batch_size, num_anchors, num_labels), float32. Their sigmoid is the detection score: objectness times
            class probability.
        pred_boxes: (batch_size, num_anchors, 4), float32: (center_x, center_y, width, height) relative to the padded
            input, so that 1 is its full width or height. Not clipped.
        class_logits: (batch_size, num_anchors, num_labels), the head's own class outputs before sigmoid.
        objectness_logits: (batch_size, num_anchors, 1), the head's own objectness outputs before sigmoid.
        last_hidden_state: (batch_size, channels, height / 32, width / 32), the neck's deepest map.
        hidden_states: with `output_hidden_states=True`, the backbone's five maps (stem and stages, strides 2 to 32).
    """

    loss: torch.Tensor | None = None
    loss_dict: dict[str, torch.Tensor] | None = None
    logits: torch.Tensor | None = None
    pred_boxes: torch.Tensor | None = None
    class_logits: torch.Tensor | None = None
    objectness_logits: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


# ---- blocks


class YoloxConvLayer(nn.Module):
    """Convolution without bias, batch norm, activation."""

    def __init__(
        self,
        config: YoloxConfig,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        padding: int | None = None,
    ):
        super().__init__()
        padding = (kernel_size - 1) // 2 if padding is None else padding
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)
        # In place: what it overwrites, the norm's output, is needed by nobody else.
        self.activation = (
            nn.SiLU(inplace=True) if config.hidden_act == "silu" else nn.LeakyReLU(LEAKY_RELU_SLOPE, inplace=True)
        )

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        return self.activation(self.norm(self.conv(hidden_state)))


class YoloxDepthwiseSeparableConvLayer(nn.Module):
    """A depthwise 3x3 layer and a pointwise 1x1 layer, each with its own norm and activation (YOLOX-Nano)."""

    def __init__(self, config: YoloxConfig, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.depthwise_conv = YoloxConvLayer(config, in_channels, in_channels, 3, stride, groups=in_channels)
        self.pointwise_conv = YoloxConvLayer(config, in_channels, out_channels)

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        return self.pointwise_conv(self.depthwise_conv(hidden_state))


def conv3x3(config: YoloxConfig, in_channels: int, out_channels: int, stride: int = 1) -> nn.Module:
    """A 3x3 layer: dense, or depthwise separable where the variant asks for it."""
    if config.depthwise:
        return YoloxDepthwiseSeparableConvLayer(config, in_channels, out_channels, stride)
    return YoloxConvLayer(config, in_channels, out_channels, 3, stride)


class YoloxBottleneck(nn.Module):
    """1x1 then 3x3 layer of a CSP layer, with a residual connection where `shortcut` is set."""

    def __init__(self, config: YoloxConfig, channels: int, shortcut: bool):
        super().__init__()
        self.conv1 = YoloxConvLayer(config, channels, channels)
        self.conv2 = conv3x3(config, channels, channels)
        self.shortcut = shortcut

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        output = self.conv2(self.conv1(hidden_state))
        return hidden_state + output if self.shortcut else output


class YoloxCSPLayer(nn.Module):
    """Cross stage partial layer (arXiv:1911.11929): half of the channels pass the blocks, half pass beside them."""

    def __init__(self, config: YoloxConfig, in_channels: int, out_channels: int, depth: int, shortcut: bool):
        super().__init__()
        hidden_channels = out_channels // 2
        self.main_conv = YoloxConvLayer(config, in_channels, hidden_channels)
        self.shortcut_conv = YoloxConvLayer(config, in_channels, hidden_channels)
        self.blocks = nn.Sequential(*(YoloxBottleneck(config, hidden_channels, shortcut) for _ in range(depth)))
        self.final_conv = YoloxConvLayer(config, 2 * hidden_channels, out_channels)

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        main = self.blocks(self.main_conv(hidden_state))
        return self.final_conv(torch.cat((main, self.shortcut_conv(hidden_state)), dim=1))


class YoloxSPPBottleneck(nn.Module):
    """Spatial pyramid pooling (arXiv:1406.4729) over windows of 5, 9 and 13 cells.

    Pooling 5x5 once, twice and three times has just these windows, at a fraction of the cost.
    """

    def __init__(self, config: YoloxConfig, in_channels: int, out_channels: int):
        super().__init__()
        hidden_channels = in_channels // 2
        self.conv1 = YoloxConvLayer(config, in_channels, hidden_channels)
        self.pool = nn.MaxPool2d(kernel_size=5, stride=1, padding=2)
        self.conv2 = YoloxConvLayer(config, 4 * hidden_channels, out_channels)

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        levels = [self.conv1(hidden_state)]
        for _ in range(3):
            levels.append(self.pool(levels[-1]))
        return self.conv2(torch.cat(levels, dim=1))


class YoloxDarknetBlock(nn.Module):
    """Residual block of Darknet-53 (arXiv:1804.02767): 1x1 to half of the channels, 3x3 back."""

    def __init__(self, config: YoloxConfig, channels: int):
        super().__init__()
        self.conv1 = YoloxConvLayer(config, channels, channels // 2)
        self.conv2 = YoloxConvLayer(config, channels // 2, channels, 3)

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        return hidden_state + self.conv2(self.conv1(hidden_state))


def conv_pairs(config: YoloxConfig, in_channels: int, out_channels: int, num_pairs: int) -> nn.Sequential:
    """Top-down block of the YOLOv3 FPN: 1x1, then `num_pairs` times 3x3 to twice the channels and 1x1 back."""
    layers = [YoloxConvLayer(config, in_channels, out_channels)]
    for _ in range(num_pairs):
        layers.append(YoloxConvLayer(config, out_channels, 2 * out_channels, 3))
        layers.append(YoloxConvLayer(config, 2 * out_channels, out_channels))
    return nn.Sequential(*layers)


# ---- backbone


class YoloxCSPDarknetStage(nn.Module):
    """Downsampling and a CSP layer; the last stage pools a pyramid between the two and has no residuals."""

    def __init__(self, config: YoloxConfig, in_channels: int, out_channels: int, depth: int, is_last: bool):
        super().__init__()
        self.downsample = conv3x3(config, in_channels, out_channels, stride=2)
        self.spp = YoloxSPPBottleneck(config, out_channels, out_channels) if is_last else nn.Identity()
        self.csp = YoloxCSPLayer(config, out_channels, out_channels, depth, shortcut=not is_last)

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        return self.csp(self.spp(self.downsample(hidden_state)))


class YoloxDarknetStage(nn.Module):
    """Downsampling and residual blocks; the last stage ends in spatial pyramid pooling to half of the channels."""

    def __init__(self, config: YoloxConfig, in_channels: int, out_channels: int, depth: int, is_last: bool):
        super().__init__()
        self.downsample = YoloxConvLayer(config, in_channels, out_channels, 3, stride=2)
        self.blocks = nn.Sequential(*(YoloxDarknetBlock(config, out_channels) for _ in range(depth)))
        self.spp_block = self._spp_block(config, out_channels) if is_last else nn.Identity()

    @staticmethod
    def _spp_block(config: YoloxConfig, channels: int) -> nn.Sequential:
        half = channels // 2
        return nn.Sequential(
            YoloxConvLayer(config, channels, half),
            YoloxConvLayer(config, half, channels, 3),
            YoloxSPPBottleneck(config, channels, half),
            YoloxConvLayer(config, half, channels, 3),
            YoloxConvLayer(config, channels, half),
        )

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        return self.spp_block(self.blocks(self.downsample(hidden_state)))


class YoloxDarknetStem(nn.Sequential):
    """Stem of Darknet-53: a 3x3 layer to half of the channels, downsampling, one residual block."""

    def __init__(self, config: YoloxConfig):
        half = config.stem_channels // 2
        super().__init__(
            YoloxConvLayer(config, config.num_channels, half, 3),
            YoloxConvLayer(config, half, config.stem_channels, 3, stride=2),
            YoloxDarknetBlock(config, config.stem_channels),
        )


class YoloxDarknet(nn.Module):
    """CSPDarknet or Darknet-53: a stem and four stages, of strides 2, 4, 8, 16 and 32.

    The paper's CSPDarknet begins with "Focus", which moves each 2x2 square of pixels into channels before a 3x3
    convolution. That is one 6x6 convolution of stride 2 with the same weights in another order.
    """

    def __init__(self, config: YoloxConfig):
        super().__init__()
        stage_class: type[YoloxCSPDarknetStage] | type[YoloxDarknetStage]
        self.stem: nn.Module
        if config.backbone_type == "darknet53":
            stage_class, self.stem = YoloxDarknetStage, YoloxDarknetStem(config)
        else:
            stage_class = YoloxCSPDarknetStage
            self.stem = YoloxConvLayer(
                config, config.num_channels, config.stem_channels, kernel_size=6, stride=2, padding=2
            )
        widths = [config.stem_channels, *config.stage_channels]
        self.stages = nn.ModuleList(
            stage_class(config, widths[i], widths[i + 1], depth, is_last=i == len(config.depths) - 1)
            for i, depth in enumerate(config.depths)
        )

    @staticmethod
    def output_channels(config: YoloxConfig) -> list[int]:
        """Channels of the stem's and the stages' outputs."""
        channels = [config.stem_channels, *config.stage_channels]
        if config.backbone_type == "darknet53":
            channels[-1] //= 2
        return channels

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        hidden_states = [self.stem(pixel_values)]
        for stage in self.stages:
            hidden_states.append(stage(hidden_states[-1]))
        return tuple(hidden_states)


# ---- neck


class YoloxPAFPN(nn.Module):
    """Path aggregation feature pyramid (arXiv:1803.01534): top-down, then bottom-up."""

    def __init__(self, config: YoloxConfig):
        super().__init__()
        small, medium, large = YoloxDarknet.output_channels(config)[-3:]
        self.output_channels = [small, medium, large]
        depth = config.neck_depth
        self.lateral_convs = nn.ModuleList(
            [YoloxConvLayer(config, large, medium), YoloxConvLayer(config, medium, small)]
        )
        self.fpn_blocks = nn.ModuleList(
            [
                YoloxCSPLayer(config, 2 * medium, medium, depth, shortcut=False),
                YoloxCSPLayer(config, 2 * small, small, depth, shortcut=False),
            ]
        )
        self.downsample_convs = nn.ModuleList(
            [conv3x3(config, small, small, stride=2), conv3x3(config, medium, medium, stride=2)]
        )
        self.pan_blocks = nn.ModuleList(
            [
                YoloxCSPLayer(config, 2 * small, medium, depth, shortcut=False),
                YoloxCSPLayer(config, 2 * medium, large, depth, shortcut=False),
            ]
        )

    def forward(self, feature_maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        stride8, stride16, stride32 = feature_maps
        lateral32 = self.lateral_convs[0](stride32)
        merged16 = self.fpn_blocks[0](torch.cat((upsample(lateral32), stride16), dim=1))
        lateral16 = self.lateral_convs[1](merged16)
        output8 = self.fpn_blocks[1](torch.cat((upsample(lateral16), stride8), dim=1))
        output16 = self.pan_blocks[0](torch.cat((self.downsample_convs[0](output8), lateral16), dim=1))
        output32 = self.pan_blocks[1](torch.cat((self.downsample_convs[1](output16), lateral32), dim=1))
        return output8, output16, output32


class YoloxFPN(nn.Module):
    """Feature pyramid of YOLOv3 (arXiv:1804.02767): top-down only; the deepest map passes as it is."""

    def __init__(self, config: YoloxConfig):
        super().__init__()
        small, medium, large = YoloxDarknet.output_channels(config)[-3:]
        self.output_channels = [small // 2, medium // 2, large]
        self.lateral_convs = nn.ModuleList(
            [
                YoloxConvLayer(config, large, medium // 2),
                YoloxConvLayer(config, medium // 2, small // 2),
            ]
        )
        self.fpn_blocks = nn.ModuleList(
            [
                conv_pairs(config, medium // 2 + medium, medium // 2, config.neck_depth),
                conv_pairs(config, small // 2 + small, small // 2, config.neck_depth),
            ]
        )

    def forward(self, feature_maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        stride8, stride16, stride32 = feature_maps
        lateral32 = self.lateral_convs[0](stride32)
        output16 = self.fpn_blocks[0](torch.cat((upsample(lateral32), stride16), dim=1))
        lateral16 = self.lateral_convs[1](output16)
        output8 = self.fpn_blocks[1](torch.cat((upsample(lateral16), stride8), dim=1))
        return output8, output16, stride32


def upsample(feature_map: torch.Tensor) -> torch.Tensor:
    """(batch_size, channels, height, width) to twice the height and width, by repetition."""
    return F.interpolate(feature_map, scale_factor=2, mode="nearest")


# ---- head


class YoloxScorePredictor(nn.Conv2d):
    """1x1 convolution to class or objectness logits; its bias starts at the logit of `config.prior_probability`."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, kernel_size=1)


class YoloxHead(nn.Module):
    """Decoupled head (section 2, "Decoupled head"): for each stride a stem, then a class and a box branch.

    Objectness is predicted from the box branch. Nothing is shared between strides.
    """

    def __init__(self, config: YoloxConfig, in_channels: list[int]):
        super().__init__()
        channels = config.head_channels

        def branch() -> nn.Sequential:
            return nn.Sequential(conv3x3(config, channels, channels), conv3x3(config, channels, channels))

        def per_level(make_layer) -> nn.ModuleList:
            return nn.ModuleList(make_layer() for _ in in_channels)

        self.stems = nn.ModuleList(YoloxConvLayer(config, level, channels) for level in in_channels)
        self.class_convs = per_level(branch)
        self.box_convs = per_level(branch)
        self.class_predictors = per_level(lambda: YoloxScorePredictor(channels, config.num_labels))  # type: ignore[arg-type]
        self.box_predictors = per_level(lambda: nn.Conv2d(channels, 4, kernel_size=1))
        self.objectness_predictors = per_level(lambda: YoloxScorePredictor(channels, 1))

    def forward(self, feature_maps: tuple[torch.Tensor, ...]) -> YoloxHeadOutput:
        """The nine raw maps for the neck's three maps, from stride 8 to stride 32."""
        class_maps, box_maps, objectness_maps = [], [], []
        for level, feature_map in enumerate(feature_maps):
            stem = self.stems[level](feature_map)
            box_features = self.box_convs[level](stem)
            class_maps.append(self.class_predictors[level](self.class_convs[level](stem)))
            box_maps.append(self.box_predictors[level](box_features))
            objectness_maps.append(self.objectness_predictors[level](box_features))
        return YoloxHeadOutput(
            class_maps=tuple(class_maps), box_maps=tuple(box_maps), objectness_maps=tuple(objectness_maps)
        )


def flatten_maps(maps: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Maps of (batch_size, channels, height, width) to (batch_size, num_anchors, channels), each row by row."""
    return torch.cat([feature_map.flatten(2).transpose(1, 2) for feature_map in maps], dim=1)


def decode_boxes(box_maps: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Boxes from the head's raw box maps (section 2, "Anchor-free"), in float32.

    Args:
        box_maps: for each stride (batch_size, 4, height, width), as in `YoloxHeadOutput`.

    Returns:
        (batch_size, num_anchors, 4): (center_x, center_y, width, height) relative to the padded input.
    """
    # The decoded box is in cells of its map, and the map spans the input: so many cells are the whole of it.
    cells, sizes = [], []
    for height, width in (box_map.shape[-2:] for box_map in box_maps):
        sides = (torch.arange(side, dtype=torch.float32, device=box_maps[0].device) for side in (height, width))
        rows, columns = torch.meshgrid(*sides, indexing="ij")
        cells.append(torch.stack((columns, rows)).flatten(1))
        sizes.append(torch.stack((torch.full_like(rows, width), torch.full_like(rows, height))).flatten(1))
    cell, size = torch.cat(cells, dim=1), torch.cat(sizes, dim=1)  # (2, num_anchors)
    boxes = torch.cat([box_map.flatten(2) for box_map in box_maps], dim=2).float()
    offset, log_side = boxes.split(2, dim=1)
    return torch.cat(((offset + cell) / size, log_side.exp() / size), dim=1).transpose(1, 2).contiguous()


def joint_logits(class_logits: torch.Tensor, objectness_logits: torch.Tensor) -> torch.Tensor:
    """The logit of objectness times class probability, in float32 and stable for large inputs of either sign.

    Args:
        class_logits: (batch_size, num_anchors, num_labels).
        objectness_logits: (batch_size, num_anchors, 1).

    Returns:
        (batch_size, num_anchors, num_labels): with objectness o and class c, -log(exp(-o) + exp(-c) (1 + exp(-o))).
    """
    negative_objectness = -objectness_logits.float()
    # The operator `softplus` takes ONNX Runtime four times as long.
    softplus = torch.logaddexp(negative_objectness, torch.zeros_like(negative_objectness))
    return -torch.logaddexp(negative_objectness, softplus - class_logits.float())


# ---- models


class YoloxPreTrainedModel(PreTrainedModel):
    """Weight initialisation and loading for all YOLOX models."""

    config: YoloxConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ["image"]
    _no_split_modules = ["YoloxCSPDarknetStage", "YoloxDarknetStage"]
    # Recomputing a block would update its batch norm statistics twice.
    supports_gradient_checkpointing = False
    _can_compile_fullgraph = True

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, nn.Conv2d):
            # PyTorch's own initialisation, which the original trained from: both bounds are 1 / sqrt(fan_in).
            bound = 1 / math.sqrt(module.weight[0].numel())
            init.uniform_(module.weight, -bound, bound)
            if isinstance(module, YoloxScorePredictor):
                prior = self.config.prior_probability
                init.constant_(module.bias, math.log(prior / (1 - prior)))
            elif module.bias is not None:
                init.uniform_(module.bias, -bound, bound)
        else:
            super()._init_weights(module)

    def _prepare_pixel_values(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Check the shape of (batch_size, num_channels, height, width) and bring integers to the model's dtype."""
        if pixel_values is None:
            raise ValueError("You have to specify `pixel_values`.")
        if pixel_values.ndim != 4 or pixel_values.shape[1] != self.config.num_channels:
            raise ValueError(
                f"`pixel_values` must have shape (batch_size, {self.config.num_channels}, height, width), "
                f"got {tuple(pixel_values.shape)}. Channels come before height and width."
            )
        height, width = pixel_values.shape[-2:]
        # An export with dynamic sides keeps the condition as a rule of its own for them.
        if height % MAX_STRIDE != 0 or width % MAX_STRIDE != 0 or height == 0 or width == 0:
            raise ValueError(
                f"The height and width of `pixel_values` must be positive multiples of {MAX_STRIDE}, got {height} x "
                f"{width}. `YoloxImageProcessor` pads to its `size`; give it sides that are multiples of {MAX_STRIDE}."
            )
        if not pixel_values.is_floating_point():
            pixel_values = pixel_values.to(self.dtype)
        if pixel_values.device.type == "cpu" and not self.training:
            # Every layer keeps this order, and is faster in it. Training keeps the order it is given: it amplifies
            # rounding, and only in the original's order are its gradients the original's.
            pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        return pixel_values


class YoloxBackbone(BackboneMixin, YoloxPreTrainedModel):
    """CSPDarknet or Darknet-53 for use under any head, through `AutoBackbone` too.

    The maps named by `config.out_features` (or `out_indices`) come back: `"stem"` and `"stage1"` to `"stage4"`, of
    strides 2, 4, 8, 16 and 32.
    """

    has_attentions = False
    # A detector's checkpoint loads here too; the rest of it is not asked for.
    _keys_to_ignore_on_load_unexpected = [r"^(model\.)?neck\.", r"^head\."]

    def __init__(self, config: YoloxConfig):
        super().__init__(config)
        self.num_features = YoloxDarknet.output_channels(config)
        self.backbone = YoloxDarknet(config)
        self.post_init()

    @can_return_tuple
    @filter_output_hidden_states
    def forward(self, pixel_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> BackboneOutput:
        """
        Args:
            pixel_values: (batch_size, 3, height, width), RGB with values in 0..255; sides are multiples of 32.

        Returns:
            `BackboneOutput` with `feature_maps`, a tuple of (batch_size, channels, height / stride, width / stride),
            and `hidden_states`, all five maps, where `output_hidden_states=True`.

        Raises:
            ValueError: a shape that the network does not take.
        """
        hidden_states = self.backbone(self._prepare_pixel_values(pixel_values))
        feature_maps = tuple(
            hidden_state for name, hidden_state in zip(self.stage_names, hidden_states) if name in self.out_features
        )
        return BackboneOutput(feature_maps=feature_maps, hidden_states=hidden_states)


class YoloxModel(YoloxPreTrainedModel):
    """Backbone and neck: an image in, three feature maps of strides 8, 16 and 32 out."""

    _keys_to_ignore_on_load_unexpected = [r"^head\."]

    def __init__(self, config: YoloxConfig):
        super().__init__(config)
        self.backbone = YoloxDarknet(config)
        self.neck = YoloxFPN(config) if config.backbone_type == "darknet53" else YoloxPAFPN(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        output_hidden_states: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> YoloxModelOutput:
        """
        Args:
            pixel_values: (batch_size, 3, height, width), RGB with values in 0..255; sides are multiples of 32.
            output_hidden_states: return the backbone's maps too; `config.output_hidden_states` by default.

        Raises:
            ValueError: a shape that the network does not take.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        hidden_states = self.backbone(self._prepare_pixel_values(pixel_values))
        feature_maps = self.neck(hidden_states[-3:])
        return YoloxModelOutput(
            last_hidden_state=feature_maps[-1],
            feature_maps=feature_maps,
            hidden_states=hidden_states if output_hidden_states else None,
        )


class YoloxForObjectDetection(YoloxPreTrainedModel):
    """YOLOX detector.

    The nine raw maps of the head, as the paper draws them, are
    `detector.head(detector.model(pixel_values).feature_maps)`, a `YoloxHeadOutput`.
    """

    accepts_loss_kwargs = False  # the loss is a mean already: `Trainer` divides it by the accumulation steps

    def __init__(self, config: YoloxConfig):
        super().__init__(config)
        self.model = YoloxModel(config)
        self.head = YoloxHead(config, self.model.neck.output_channels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: list[dict[str, torch.Tensor]] | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> YoloxObjectDetectionOutput:
        """
        Args:
            pixel_values: (batch_size, 3, height, width), RGB with values in 0..255; sides are multiples of 32.
            labels: for the loss, for each image a dictionary of `class_labels` (n,) int64 in [0, num_labels), and
                `boxes` (n, 4), (center_x, center_y, width, height) relative to the padded input. n may be 0; rows
                of class -1 are padding.
            output_hidden_states: return the backbone's maps too; `config.output_hidden_states` by default.

        Raises:
            TypeError: a label is no dictionary.
            ValueError: a shape that the network does not take, or a label that does not fit; the image is named.
        """
        if labels is not None:
            check_labels(labels, len(pixel_values), self.config.num_labels)  # type: ignore[arg-type]
        outputs = self.model(pixel_values, output_hidden_states=output_hidden_states)
        maps = self.head(outputs.feature_maps)
        class_logits = flatten_maps(maps.class_maps)
        objectness_logits = flatten_maps(maps.objectness_maps)
        pred_boxes = decode_boxes(maps.box_maps)
        loss, loss_dict = None, None
        if labels is not None:
            with torch.autocast(class_logits.device.type, enabled=False):
                loss, loss_dict = yolox_loss(
                    class_logits,
                    objectness_logits,
                    flatten_maps(maps.box_maps),
                    pred_boxes,
                    *pad_labels(labels, class_logits.device),
                    map_sizes=[tuple(box_map.shape[-2:]) for box_map in maps.box_maps],
                    **{name: getattr(self.config, name) for name in LOSS_FIELDS},
                )
        return YoloxObjectDetectionOutput(
            loss=loss,
            loss_dict=loss_dict,
            logits=joint_logits(class_logits, objectness_logits),
            pred_boxes=pred_boxes,
            class_logits=class_logits,
            objectness_logits=objectness_logits,
            last_hidden_state=outputs.last_hidden_state,
            hidden_states=outputs.hidden_states,
        )


__all__ = ["YoloxBackbone", "YoloxForObjectDetection", "YoloxModel", "YoloxPreTrainedModel"]
