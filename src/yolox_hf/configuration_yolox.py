# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE in the source repository or
# http://www.apache.org/licenses/LICENSE-2.0
"""YOLOX configuration: the architecture of Ge et al. 2021 (arXiv:2107.08430), and its seven variants as data."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers.backbone_utils import BackboneConfigMixin
from transformers.configuration_utils import PreTrainedConfig

# fmt: off
COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)
# fmt: on
"""The 80 COCO classes in the order of the original's outputs (COCO category ids, sorted, without their gaps)."""


def _csp_darknet(depth: int, width: int, image_size: int = 640, depthwise: bool = False) -> dict[str, Any]:
    """The fields of one CSPDarknet variant: `depth` blocks in the shallow stages, `width` channels after the stem."""
    return {
        "backbone_type": "csp_darknet",
        "hidden_act": "silu",
        "stem_channels": width,
        "stage_channels": (2 * width, 4 * width, 8 * width, 16 * width),
        "depths": (depth, 3 * depth, 3 * depth, depth),
        "neck_depth": depth,
        "head_channels": 4 * width,
        "depthwise": depthwise,
        "image_size": image_size,
    }


VARIANTS: dict[str, dict[str, Any]] = {
    "yolox-nano": _csp_darknet(depth=1, width=16, image_size=416, depthwise=True),
    "yolox-tiny": _csp_darknet(depth=1, width=24, image_size=416),
    "yolox-s": _csp_darknet(depth=1, width=32),
    "yolox-m": _csp_darknet(depth=2, width=48),
    "yolox-l": _csp_darknet(depth=3, width=64),
    "yolox-x": _csp_darknet(depth=4, width=80),
    "yolox-darknet53": {
        "backbone_type": "darknet53",
        "hidden_act": "leaky_relu",
        "stem_channels": 64,
        "stage_channels": (128, 256, 512, 1024),
        "depths": (2, 8, 8, 4),
        "neck_depth": 2,
        "head_channels": 256,
        "depthwise": False,
        "image_size": 640,
    },
}
"""The published variants: the fields of `YoloxConfig` that tell them apart, and `image_size`, the side of the square
input they are evaluated at, which `YoloxImageProcessor.from_variant` reads. The network takes any multiple of 32."""


def get_variant(variant: str) -> dict[str, Any]:
    """One row of `VARIANTS`, as a copy.

    Raises:
        ValueError: `variant` is not a key of `VARIANTS`.
    """
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {', '.join(VARIANTS)}, got {variant!r}.")
    return dict(VARIANTS[variant])


LOSS_FIELDS = (
    "box_loss_weight",
    "objectness_loss_weight",
    "class_loss_weight",
    "l1_loss_weight",
    "use_l1_loss",
    "box_loss_type",
    "center_radius",
    "candidate_top_k",
    "iou_cost_weight",
)
"""The fields of `YoloxConfig` that are arguments of `yolox_loss`, under the same names."""


@strict
class YoloxConfig(BackboneConfigMixin, PreTrainedConfig):
    """Architecture and loss of a YOLOX backbone, model or detector. The defaults are YOLOX-S on COCO.

    Args:
        backbone_type (`str`, defaults to `"csp_darknet"`):
            `"csp_darknet"`, which has a PAFPN neck, or `"darknet53"`, which has spatial pyramid pooling and the
            YOLOv3 FPN.
        hidden_act (`str`, defaults to `"silu"`):
            `"silu"` or, in Darknet-53 and its neck and head, `"leaky_relu"` (of slope 0.1).
        stem_channels (`int`, defaults to 32):
            Channels after the stem. The Darknet-53 stem halves them inside.
        stage_channels (`list[int]`, defaults to `(64, 128, 256, 512)`):
            Channels of the four stages (strides 4, 8, 16, 32). The pyramid pooling that ends Darknet-53 halves the
            last of them.
        depths (`list[int]`, defaults to `(1, 3, 3, 1)`):
            Residual blocks in each stage.
        neck_depth (`int`, defaults to 1):
            Blocks in each CSP layer of the PAFPN; in the YOLOv3 FPN, the 1x1-3x3 pairs of each top-down block.
        head_channels (`int`, defaults to 128):
            Width of the decoupled head.
        depthwise (`bool`, defaults to `False`):
            Use depthwise separable 3x3 convolutions (YOLOX-Nano). CSPDarknet only.
        batch_norm_eps (`float`, defaults to 1e-3), batch_norm_momentum (`float`, defaults to 0.03):
            Of every batch norm. They are no part of a state dict, and the published weights need this eps.
        prior_probability (`float`, defaults to 0.01):
            Score that a newly initialised class or objectness predictor gives everywhere (focal loss,
            arXiv:1708.02002, section 4.1).
        box_loss_weight (`float`, defaults to 5.0), objectness_loss_weight (`float`, defaults to 1.0),
        class_loss_weight (`float`, defaults to 1.0), l1_loss_weight (`float`, defaults to 1.0):
            Weights of the loss terms.
        use_l1_loss (`bool`, defaults to `False`):
            Add the L1 distance of the head's box outputs, as the paper does without strong augmentation.
        box_loss_type (`str`, defaults to `"iou"`):
            `"iou"` (1 - IoU**2) or `"giou"`.
        center_radius (`float`, defaults to 1.5):
            SimOTA's candidates lie within so many cells of a target's centre.
        candidate_top_k (`int`, defaults to 10):
            SimOTA gives a target as many anchors as its so many best IoUs add up to.
        iou_cost_weight (`float`, defaults to 3.0):
            Weight of -log(IoU) in SimOTA's cost, beside the class cost.
        out_features (`list[str]`, *optional*), out_indices (`list[int]`, *optional*):
            Stages that `YoloxBackbone` returns, of `"stem"`, `"stage1"` ... `"stage4"`; the last one by default. The
            neck of `YoloxModel` always reads the last three.

    `num_labels` or `id2label` set the classes, COCO's 80 by default.
    """

    model_type = "yolox"
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "class_logits",
        "objectness_logits",
        "last_hidden_state",
        "hidden_states",
    ]

    backbone_type: Literal["csp_darknet", "darknet53"] = "csp_darknet"
    hidden_act: Literal["silu", "leaky_relu"] = "silu"
    num_channels: int = 3
    stem_channels: int = 32
    stage_channels: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    depths: list[int] | tuple[int, ...] = (1, 3, 3, 1)
    neck_depth: int = 1
    head_channels: int = 128
    depthwise: bool = False
    batch_norm_eps: float = 1e-3
    batch_norm_momentum: float = 0.03
    prior_probability: float = 0.01
    box_loss_weight: float | int = 5.0
    objectness_loss_weight: float | int = 1.0
    class_loss_weight: float | int = 1.0
    l1_loss_weight: float | int = 1.0
    use_l1_loss: bool = False
    box_loss_type: Literal["iou", "giou"] = "iou"
    center_radius: float | int = 1.5
    candidate_top_k: int = 10
    iou_cost_weight: float | int = 3.0
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs):
        self.stage_channels = list(self.stage_channels)
        self.depths = list(self.depths)
        self.stage_names = ["stem", *(f"stage{i}" for i in range(1, len(self.depths) + 1))]
        self.set_output_features_output_indices(
            out_indices=kwargs.pop("out_indices", None), out_features=kwargs.pop("out_features", None)
        )
        if self.id2label is None and kwargs.get("num_labels") is None:
            self.id2label = dict(enumerate(COCO_CLASSES))
        if self.id2label is not None and self.label2id is None:
            self.label2id = {name: int(index) for index, name in self.id2label.items()}
        # A saved folder carries the code beside the weights; transformers fills in only the class that was saved.
        kwargs["auto_map"] = {
            "AutoConfig": "configuration_yolox.YoloxConfig",
            "AutoModel": "modeling_yolox.YoloxModel",
            "AutoModelForObjectDetection": "modeling_yolox.YoloxForObjectDetection",
            "AutoBackbone": "modeling_yolox.YoloxBackbone",
            **(kwargs.get("auto_map") or {}),
        }
        super().__post_init__(**kwargs)

    def validate_architecture(self):
        """Part of the `@strict` validation: rules that no field's type can state."""
        if len(self.stage_channels) != 4 or len(self.depths) != 4:
            raise ValueError(
                "`stage_channels` and `depths` must have one entry for each of the 4 stages, "
                f"got {self.stage_channels} and {self.depths}."
            )
        for name in ("stem_channels", "neck_depth", "head_channels", "num_channels", "candidate_top_k"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if min(self.stage_channels) < 2 or any(channels % 2 for channels in self.stage_channels):
            raise ValueError(f"`stage_channels` must be even and positive, got {self.stage_channels}.")
        if min(self.depths) < 1:
            raise ValueError(f"`depths` must be at least 1 each, got {self.depths}.")
        if self.backbone_type == "darknet53" and self.depthwise:
            raise ValueError('`depthwise=True` needs `backbone_type="csp_darknet"`, got "darknet53".')
        if self.batch_norm_eps <= 0 or not 0 < self.batch_norm_momentum <= 1:
            raise ValueError(
                "`batch_norm_eps` must be positive and `batch_norm_momentum` in (0, 1], "
                f"got {self.batch_norm_eps} and {self.batch_norm_momentum}."
            )
        for name in LOSS_FIELDS:
            if isinstance(getattr(self, name), (int, float)) and getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be at least 0, got {getattr(self, name)}.")
        if self.center_radius == 0:
            raise ValueError("`center_radius` must be positive, got 0.")
        if not 0 < self.prior_probability < 1:
            raise ValueError(f"`prior_probability` must be in (0, 1), got {self.prior_probability}.")

    @classmethod
    def from_variant(cls, variant: str, **kwargs) -> "YoloxConfig":
        """The configuration of a published variant.

        Args:
            variant: a key of `VARIANTS`: `"yolox-nano"`, `"yolox-tiny"`, `"yolox-s"`, `"yolox-m"`, `"yolox-l"`,
                `"yolox-x"` or `"yolox-darknet53"`.
            **kwargs: other fields, or other values for the variant's own: `num_labels=3`, `id2label={0: "cat"}`, ...

        Raises:
            ValueError: an unknown variant, or fields that do not fit together.
        """
        fields = get_variant(variant)
        del fields["image_size"]
        return cls(**{**fields, **kwargs})


__all__ = ["COCO_CLASSES", "VARIANTS", "YoloxConfig", "get_variant"]
