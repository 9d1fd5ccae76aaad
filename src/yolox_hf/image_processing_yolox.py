# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE in the source repository or
# http://www.apache.org/licenses/LICENSE-2.0
"""Letterbox in, boxes out: what surrounds the YOLOX network (arXiv:2107.08430).

One processor serves with and without torchvision: everything is done by PyTorch itself and NumPy.
"""

import functools
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.image_transforms import corners_to_center_format, group_images_by_shape
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    AnnotationFormat,
    AnnotationType,
    ChannelDimension,
    ImageInput,
    PILImageResampling,
    SizeDict,
    infer_channel_dimension_format,
    validate_annotations,
)
from transformers.processing_utils import ImagesKwargs, Unpack
from transformers.utils import TensorType, logging

from .configuration_yolox import get_variant

logger = logging.get_logger(__name__)


# ---- letterbox


def letterbox_scale(height: int, width: int, target_height: int, target_width: int) -> float:
    """The factor by which a photo of `height` x `width` pixels is resized to fit the target size."""
    return min(target_height / height, target_width / width)


RESIZED_AT_ONCE = 1 << 16  # numbers; on a CPU so many stay in its cache


@functools.lru_cache(maxsize=64)  # photos come in few sizes, those of a video in one
def _interpolation_table(length: int, new_length: int, channels: int, device: torch.device) -> tuple[Any, ...]:
    """For each of `new_length` pixels of interleaved channels, its two neighbours among `length` and their weights in
    1/2048ths: as NumPy arrays for a CPU, else as tensors."""
    position = (torch.arange(new_length, dtype=torch.float64, device=device) + 0.5) * (length / new_length) - 0.5
    position = position.clamp(0, length - 1).float()
    first = position.floor()
    weight = (position - first)[:, None].expand(-1, channels)
    channel = torch.arange(channels, device=device)
    table = (
        first.long()[:, None] * channels + channel,
        (first.long() + 1).clamp(max=length - 1)[:, None] * channels + channel,
        ((1 - weight) * 2048).round().int(),
        (weight * 2048).round().int(),
    )
    return tuple(values.flatten().numpy() if device.type == "cpu" else values.flatten() for values in table)


def _has_array(tensor: torch.Tensor) -> bool:
    """Whether NumPy can write into a tensor. It leaves PyTorch's threads asleep, which would spin afterwards in the
    way of those of ONNX Runtime, or of whoever reads the next photo."""
    return tensor.device.type == "cpu" and tensor.dtype != torch.bfloat16


def _assign(target: torch.Tensor, values: torch.Tensor | float) -> None:
    if _has_array(target):
        target.numpy()[...] = values.numpy() if isinstance(values, torch.Tensor) else values
    else:
        target[...] = values


def resize_bilinear(image: torch.Tensor, height: int, width: int, out: torch.Tensor | None = None) -> torch.Tensor:
    """Bilinear resize without antialiasing.

    For uint8 this is OpenCV's fixed-point `INTER_LINEAR`, through which the original saw its training images: weights
    in 1/2048ths, and two truncations before the last rounding. (Plain float interpolation rounds every eighth pixel
    the other way.)

    Args:
        image: (..., channels, height, width), uint8 or float. Fastest with the channels last in memory, as photos are.
        out: where to write the result, of any dtype, with the channels last in memory.

    Returns:
        (..., channels, `height`, `width`), of the same dtype, or `out`. A view where there is nothing to interpolate.
    """
    if out is not None and not _has_array(out):
        return out.copy_(resize_bilinear(image, height, width))
    if image.dtype != torch.uint8 and image.shape[-2:] != (height, width):
        flat = image.reshape(-1, *image.shape[-3:])
        resized = F.interpolate(flat, (height, width), mode="bilinear", align_corners=False)
        image = resized.reshape(*image.shape[:-2], height, width)
    row_step, column_step = image.shape[-2] // height, image.shape[-1] // width
    if row_step % 2 and column_step % 2 and image.shape[-2:] == (height * row_step, width * column_step):
        # A whole odd factor, as from 1920 x 1080 to 640 x 360: the middle pixel of each 3 x 3.
        image = image[..., row_step // 2 :: row_step, column_step // 2 :: column_step]
        if out is None:
            return image
        # NumPy is fast over long rows, which pixels apart from each other have in one channel only.
        planes = zip(out.unbind(-3), image.unbind(-3)) if column_step > 1 else [(out, image)]
        for target, values in planes:
            _assign(target, values)
        return out
    channels, device = image.shape[-3], image.device
    top, bottom, top_weight, bottom_weight = _interpolation_table(image.shape[-2], height, 1, device)
    left, right, left_weight, right_weight = _interpolation_table(image.shape[-1], width, channels, device)
    lines: Any = image.movedim(-3, -1).contiguous().flatten(-2)  # (..., rows, columns and channels)
    resized = lines.new_empty(*lines.shape[:-2], height, width, channels).movedim(-1, -3) if out is None else out
    filled: Any = resized.movedim(-3, -1).view(*lines.shape[:-2], height, width * channels)
    step = height
    if device.type == "cpu":
        # NumPy gathers bytes several times faster than PyTorch.
        lines, filled = lines.numpy(), filled.numpy()
        step = max(RESIZED_AT_ONCE // (width * channels), 1)

    def gather(values, indices, axis: int):
        return values.take(indices, axis) if isinstance(values, np.ndarray) else values.index_select(axis, indices)

    def weighted(rows, weight):
        neighbours = gather(lines, rows, -2)
        pixels = gather(neighbours, left, -1) * left_weight
        pixels += gather(neighbours, right, -1) * right_weight
        pixels >>= 4
        pixels *= weight[:, None]
        pixels >>= 16  # in quarters of a level
        return pixels

    for start in range(0, height, step):
        part = slice(start, start + step)
        pixels = weighted(top[part], top_weight[part])
        pixels += weighted(bottom[part], bottom_weight[part])
        filled[..., part, :] = (pixels + 2) >> 2
    return resized


# ---- non-maximum suppression


def _overlaps(boxes: np.ndarray, others: np.ndarray, iou_threshold: float) -> np.ndarray:
    """(n, m): whether the IoU of `boxes` (n, 4) and `others` (m, 4), as corners, is above the threshold. The loss's
    `box_iou` in NumPy, which takes half of the time for the few boxes of a photo."""
    left, top, right, bottom = boxes.T[:, :, None]
    other_left, other_top, other_right, other_bottom = others.T
    width = np.minimum(right, other_right) - np.maximum(left, other_left)
    height = np.minimum(bottom, other_bottom) - np.maximum(top, other_top)
    intersection = width.clip(0, out=width) * height.clip(0, out=height)
    union = (right - left) * (bottom - top) + (other_right - other_left) * (other_bottom - other_top) - intersection
    return intersection / union.clip(1e-16, out=union) > iou_threshold


def nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    iou_threshold: float,
    block_size: int = 256,
) -> np.ndarray:
    """Greedy non-maximum suppression, exact, in blocks of boxes.

    Boxes are compared with those of their own block and label, and with what follows of that label: many labels (of
    many images) cost as much as their boxes, one label as much as its boxes times those of them that stay.

    Args:
        boxes: (n, 4), corners (x1, y1, x2, y2), in any unit.
        scores: (n,).
        labels: (n,): only boxes of the same label suppress each other. Without labels all do.
        iou_threshold: a box goes if its IoU with a better one that stays is above this.
        block_size: boxes compared with each other at once; bounds the memory.

    Returns:
        (k,) int64: indices of the boxes that stay, best first.
    """
    if labels is None:
        labels = np.zeros(len(scores), dtype=np.int64)
    order = np.lexsort((-scores, labels))  # label by label, best first within each
    boxes, labels = boxes[order], labels[order]
    stays = np.ones(len(order), dtype=bool)
    for start in range(0, len(order), block_size):
        stop = start + block_size
        block = start + stays[start:stop].nonzero()[0]
        suppresses = _overlaps(boxes[block], boxes[block], iou_threshold)
        suppresses &= (labels[block, None] == labels[block]) & (block[:, None] < block)
        keep = np.ones_like(block, dtype=bool)
        # A box stays if no better box that stays suppresses it. Each round settles at least the best open box.
        while not np.array_equal(settled := ~(suppresses & keep[:, None]).any(axis=0), keep):
            keep = settled
        stays[block] = keep
        last_label = labels[min(stop, len(order)) - 1]
        better = block[keep & (labels[block] == last_label)]
        end = np.searchsorted(labels, last_label, side="right")
        for later in range(stop, end, block_size):
            rest = later + stays[later : min(later + block_size, end)].nonzero()[0]
            stays[rest] = ~_overlaps(boxes[better], boxes[rest], iou_threshold).any(axis=0)
    kept = np.sort(order[stays])
    return kept[(-scores[kept]).argsort(kind="stable")]


# ---- processor

DTYPES = ("float32", "float16", "bfloat16")


def _candidates(logits: torch.Tensor, pred_boxes: torch.Tensor, threshold: float) -> tuple[np.ndarray, ...]:
    """The anchors of a batch whose best score is above a threshold: image, score, label, and box as corners.

    They are few, and all that follows is done with them by NumPy. On the CPU this is too: it takes less time than to
    wake PyTorch's threads, which then spin in the way of whatever prepares the next photo.
    """
    if logits.device.type == "cpu":
        all_logits = logits.float().numpy()
        all_labels = all_logits.argmax(axis=-1)
        rows = np.arange(all_labels.size).reshape(all_labels.shape)
        best = np.take(all_logits, rows * logits.shape[-1] + all_labels)  # `take_along_axis` in a third of its time
    else:
        best, all_labels = (values.cpu().numpy() for values in logits.float().max(dim=-1))
    all_scores = torch.from_numpy(best).sigmoid().numpy()
    found = (all_scores > threshold).nonzero()  # image, anchor
    boxes = pred_boxes.float().cpu().numpy()[found]
    centers, halves = boxes[:, :2], boxes[:, 2:] / 2
    corners = np.concatenate((centers - halves, centers + halves), axis=-1)
    return found[0], all_scores[found], all_labels[found], corners


def _tensor_view(image: np.ndarray | torch.Tensor) -> torch.Tensor:
    """An array as a tensor, without a copy. PyTorch warns of arrays that may not be written, as those of photos are;
    copying them takes longer than all that is done with them here, which is reading."""
    if isinstance(image, torch.Tensor):
        return image
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(np.ascontiguousarray(image))


def _sides(size) -> tuple[int, int]:
    """Height and width of a size in transformers' form."""
    return size["height"], size["width"]


class YoloxImageProcessorKwargs(ImagesKwargs, total=False):
    """
    pad_value (`int`, *optional*, defaults to 114):
        Level of the padding, in every channel.
    format (`str`, *optional*, defaults to `"coco_detection"`):
        Format of the annotations; there is no other.
    pixel_dtype (`str` or `torch.dtype`, *optional*, defaults to `"float32"`):
        Of `pixel_values`: `"float32"`, `"float16"` or `"bfloat16"`. All hold the levels 0..255 exactly.
    """

    pad_value: int
    format: str | AnnotationFormat
    pixel_dtype: str | torch.dtype


class YoloxImageProcessor(BaseImageProcessor):
    """Prepares photos and COCO annotations for YOLOX, and turns its outputs into detections.

    Photos are resized to fit `size` with their aspect ratio kept (bilinear without antialiasing, sides truncated to
    whole pixels) and padded at the right and the bottom. The network takes RGB with levels 0..255, so nothing is
    rescaled or normalised by default; `do_rescale` and `do_normalize`, applied after the padding, serve checkpoints
    that were trained so.

    Args:
        size (`int` or `dict[str, int]`, defaults to `{"height": 640, "width": 640}`):
            Size of the padded input in pixels, a square if a single number. YOLOX-Nano and YOLOX-Tiny use 416. The
            network needs multiples of 32.
        do_resize (`bool`, defaults to `True`): without it, photos are only padded and must not be larger than `size`.
        pad_value (`int`, defaults to 114): level of the padding.
        do_convert_rgb (`bool`, defaults to `True`): bring every mode to RGB. An alpha channel is dropped.
        do_rescale (`bool`, defaults to `False`), rescale_factor (`float`, defaults to 1/255): multiply the levels.
        do_normalize (`bool`, defaults to `False`), image_mean, image_std (`list[float]`, default to ImageNet's):
            subtract and divide.
        pixel_dtype (`str`, defaults to `"float32"`): of the result; `"float16"` and `"bfloat16"` hold every level too.
    """

    valid_kwargs = YoloxImageProcessorKwargs
    model_input_names = ["pixel_values"]

    do_convert_rgb = True
    do_resize = True
    size = {"height": 640, "width": 640}
    default_to_square = True
    resample = PILImageResampling.BILINEAR
    do_pad = True
    pad_value = 114
    do_rescale = False
    rescale_factor = 1 / 255
    do_normalize = False
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    format = AnnotationFormat.COCO_DETECTION
    pixel_dtype = "float32"

    def __init__(self, **kwargs: Unpack[YoloxImageProcessorKwargs]):
        super().__init__(**kwargs)
        self._set_attributes(**kwargs)

    @classmethod
    def from_variant(cls, variant: str, **kwargs) -> "YoloxImageProcessor":
        """The processor of a published variant: 416 pixels for YOLOX-Nano and YOLOX-Tiny, 640 for the others.

        Raises:
            ValueError: an unknown variant.
        """
        return cls(**{"size": get_variant(variant)["image_size"], **kwargs})

    @property
    def backend(self) -> str:
        """Library of the image operations; transformers names it for every processor."""
        return "torch"

    def to_dict(self) -> dict[str, Any]:
        """What is saved. The code is named for each backend: from a single name, `pipeline` derives a video processor
        that does not exist, and asks the user whether to run its code."""
        module = "image_processing_yolox.YoloxImageProcessor"
        return {**super().to_dict(), "auto_map": {"AutoImageProcessor": {"torchvision": module, "pil": module}}}

    def _standardize_kwargs(self, pixel_dtype: str | torch.dtype | None = None, **kwargs) -> dict:  # type: ignore[override]
        return {**super()._standardize_kwargs(**kwargs), "pixel_dtype": str(pixel_dtype).removeprefix("torch.")}

    def _validate_preprocess_kwargs(self, **kwargs) -> None:  # type: ignore[override]
        super()._validate_preprocess_kwargs(**kwargs)
        size = kwargs["size"]
        if not size or not size.height or not size.width:
            raise ValueError(
                f"`size` must be a number or have `height` and `width`, each at least 1, got {dict(size or {})}."
            )
        if kwargs["resample"] not in (None, PILImageResampling.BILINEAR):
            raise ValueError(f"`resample` must be bilinear ({PILImageResampling.BILINEAR}), got {kwargs['resample']}.")
        if not 0 <= kwargs["pad_value"] <= 255:
            raise ValueError(f"`pad_value` must be in [0, 255], got {kwargs['pad_value']}.")
        if kwargs["pixel_dtype"] not in DTYPES:
            raise ValueError(f"`pixel_dtype` must be one of {', '.join(DTYPES)}, got {kwargs['pixel_dtype']}.")
        if kwargs["do_pad"] is False:
            raise ValueError("`do_pad=False` is not supported: YOLOX inputs are always padded to `size`.")
        for name in ("do_center_crop", "crop_size", "pad_size"):
            if kwargs[name]:
                raise ValueError(f"`{name}` is not supported: YOLOX inputs are resized and padded to `size`.")

    def process_image(
        self,
        image: ImageInput,
        do_convert_rgb: bool | None = None,
        input_data_format: str | ChannelDimension | None = None,
        device: torch.device | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """One image as transformers takes it, to (channels, height, width): uint8, or float32 for other numbers."""
        if isinstance(image, Image.Image):
            if do_convert_rgb and image.mode != "RGB":
                if image.mode.startswith("I;16"):  # Pillow would clip 16 bits, not scale them
                    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                image = image.convert("RGB")
            image = np.asarray(image)
            input_data_format = ChannelDimension.LAST
        tensor = _tensor_view(image)  # type: ignore[arg-type]
        if input_data_format is None:
            input_data_format = infer_channel_dimension_format(tensor, num_channels=(1, 3, 4))  # type: ignore[arg-type]
        if input_data_format == ChannelDimension.LAST:
            tensor = tensor.permute(2, 0, 1)
        if do_convert_rgb:
            tensor = tensor.expand(3, -1, -1) if tensor.shape[0] == 1 else tensor[:3]
        if tensor.numel() == 0:
            raise ValueError(f"An image must have at least one pixel, got shape {tuple(tensor.shape)}.")
        if tensor.dtype != torch.uint8:
            fractional = tensor.is_floating_point()
            tensor = tensor.float()
            if fractional and 0 < tensor.max() <= 1:
                logger.warning_once(
                    "An image of floats has no value above 1. YOLOX takes levels 0..255: multiply by 255 or use uint8."
                )
        return tensor.to(device) if device is not None else tensor

    def preprocess(
        self,
        images: ImageInput,
        annotations: AnnotationType | list[AnnotationType] | None = None,
        **kwargs: Unpack[YoloxImageProcessorKwargs],
    ) -> BatchFeature:
        """
        Args:
            images: one or several of PIL image, NumPy array, tensor, path or URL, of any sizes, levels 0..255.
            annotations: for each image `{"image_id": int, "annotations": [...]}` with the annotations as COCO writes
                them: `bbox` is (x, y, width, height) in photo pixels. `category_id` is taken as the class index.
            **kwargs: for this call, any argument of the constructor; `return_tensors="pt"`; `device`.

        Returns:
            `pixel_values` (batch_size, 3, height, width) float32 in RGB and, with annotations, `labels`: for each
            image a dictionary of `class_labels` (n,) int64; `boxes` (n, 4) float32, (center_x, center_y, width,
            height) relative to the padded input; `area` (n,), in pixels of the padded input; `iscrowd` (n,);
            `image_id` (1,); `orig_size` and `size` (2,), height and width of the photo and of the padded input.
            Crowds and boxes without area inside the photo are left out.

        Raises:
            ValueError: options that do not fit together, an image that is none, or annotations in another format.
        """
        return super().preprocess(images, annotations, **kwargs)

    def _preprocess(
        self,
        images: list[torch.Tensor],
        annotations: AnnotationType | list[AnnotationType] | None,
        do_resize: bool,
        size: SizeDict,
        pad_value: int,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: float | list[float],
        image_std: float | list[float],
        format: str | AnnotationFormat,
        pixel_dtype: str,
        disable_grouping: bool | None,
        return_tensors: str | TensorType | None,
        **kwargs,
    ) -> BatchFeature:
        if isinstance(annotations, dict):
            annotations = [annotations]
        if annotations is not None:
            if len(annotations) != len(images):
                raise ValueError(
                    f"`annotations` must have one entry for each image, got {len(annotations)} for {len(images)}."
                )
            validate_annotations(AnnotationFormat(format), (AnnotationFormat.COCO_DETECTION,), annotations)

        target_height, target_width = _sides(size)
        channels = images[0].shape[0]
        scales = []
        for image in images:
            if image.shape[0] != channels:
                raise ValueError(f"Images must have {channels} channels as the first has, got {image.shape[0]}.")
            height, width = image.shape[-2:]
            if not do_resize and (height > target_height or width > target_width):
                raise ValueError(
                    f"With `do_resize=False` an image must not be larger than `size` ({target_height} x "
                    f"{target_width}), got {height} x {width}."
                )
            scale = letterbox_scale(height, width, target_height, target_width) if do_resize else 1.0
            scales.append((height, width, scale))

        pixel_values = torch.empty(
            (len(images), channels, target_height, target_width),
            dtype=torch.float32 if do_rescale or do_normalize else getattr(torch, pixel_dtype),
            device=images[0].device,
            memory_format=torch.channels_last,  # as the photos are, and as the network wants it
        )
        # Images of one shape are resized together, but on the CPU, where that does not pay, in threads.
        stacks, places = group_images_by_shape(images, disable_grouping=disable_grouping)

        def letterbox(key) -> None:
            stack, members = stacks[key], [index for index, place in places.items() if place[0] == key]
            height, width, scale = scales[members[0]]
            height, width = max(int(height * scale), 1), max(int(width * scale), 1)
            if len(members) == 1:
                canvas = pixel_values[members[0]]
                resize_bilinear(stack[0], height, width, out=canvas[:, :height, :width])
            else:
                pixel_values[members, :, :height, :width] = resize_bilinear(stack, height, width).to(pixel_values)
            for member in members:
                _assign(pixel_values[member, :, :height, width:], pad_value)
                _assign(pixel_values[member, :, height:], pad_value)

        num_threads = min(torch.get_num_threads(), len(stacks)) if _has_array(pixel_values) else 1
        if num_threads > 1:
            with ThreadPoolExecutor(num_threads) as pool:
                list(pool.map(letterbox, stacks))
        else:
            for key in stacks:
                letterbox(key)

        if do_rescale:
            pixel_values *= rescale_factor
        if do_normalize:
            mean, std = (pixel_values.new_tensor(values).view(-1, 1, 1) for values in (image_mean, image_std))
            pixel_values = (pixel_values - mean) / std

        features = BatchFeature(
            {"pixel_values": pixel_values.to(getattr(torch, pixel_dtype))}, tensor_type=return_tensors
        )
        if annotations is not None:
            features["labels"] = [
                BatchFeature(
                    self._prepare_annotation(annotation, *scale, target_height, target_width),
                    tensor_type=return_tensors,
                )
                for annotation, scale in zip(annotations, scales)
            ]
        return features

    @staticmethod
    def _prepare_annotation(
        annotation: dict[str, Any], height: int, width: int, scale: float, target_height: int, target_width: int
    ) -> dict[str, torch.Tensor]:
        """COCO annotations of one photo of `height` x `width` pixels to a label in the frame of the padded input."""
        objects = [item for item in annotation["annotations"] if not item.get("iscrowd", 0)]
        boxes = torch.tensor([item["bbox"] for item in objects], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width)
        boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height)
        keep = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        boxes = boxes[keep] * scale
        return {
            "image_id": torch.tensor([annotation["image_id"]]),
            "class_labels": torch.tensor([item["category_id"] for item in objects], dtype=torch.int64)[keep],
            "boxes": corners_to_center_format(boxes) / boxes.new_tensor([target_width, target_height] * 2),  # type: ignore
            "area": (boxes[:, 2:] - boxes[:, :2]).prod(dim=1),
            "iscrowd": torch.zeros(len(boxes), dtype=torch.int64),
            "orig_size": torch.tensor([height, width]),
            "size": torch.tensor([target_height, target_width]),
        }

    def post_process_object_detection(
        self,
        outputs,
        threshold: float = 0.5,
        target_sizes: torch.Tensor | list[tuple[int, int]] | None = None,
        nms_threshold: float = 0.65,
        class_agnostic: bool = False,
        max_detections: int | None = None,
        size: int | dict[str, int] | None = None,
        clip_boxes: bool = True,
    ) -> list[dict[str, torch.Tensor]]:
        """Detections from the outputs of `YoloxForObjectDetection`: each anchor's best class, threshold, then NMS.

        Args:
            outputs: anything with `logits` (batch_size, num_anchors, num_labels) and `pred_boxes` (batch_size,
                num_anchors, 4), as `YoloxObjectDetectionOutput` describes them. Not modified.
            threshold: detections with a score above this come back, in [0, 1].
            target_sizes: (batch_size, 2), height and width of each photo in pixels. Without them boxes are relative
                to the padded input.
            nms_threshold: a box goes if its IoU with a better one of its class is above this, in [0, 1].
            class_agnostic: let boxes of different classes suppress each other too.
            max_detections: keep at most so many of the best for each image. No limit by default, as in the original.
            size: the `size` given to `preprocess`, if it was not the processor's own.
            clip_boxes: clip boxes to the photo and leave out those outside. The original does not.

        Returns:
            For each image a dictionary of `scores` (n,) float32, best first; `labels` (n,) int64; and `boxes` (n, 4)
            float32, (x1, y1, x2, y2) in pixels of the photo (0 <= x1 < x2 <= width), or relative in [0, 1]. n is 0
            where nothing is found.

        Raises:
            ValueError: a threshold outside [0, 1], `target_sizes` of another length than the batch, or
                `max_detections` below 1.
        """
        for name, value in (("threshold", threshold), ("nms_threshold", nms_threshold)):
            if not 0 <= value <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], got {value}.")
        if max_detections is not None and max_detections < 1:
            raise ValueError(f"`max_detections` must be at least 1 or None, got {max_detections}.")
        logits, pred_boxes = outputs.logits.detach(), outputs.pred_boxes.detach()
        if target_sizes is not None and len(target_sizes) != len(logits):
            raise ValueError(
                f"`target_sizes` must have one (height, width) for each image, got {len(target_sizes)} for a batch of "
                f"{len(logits)}."
            )

        image, scores, labels, boxes = _candidates(logits, pred_boxes, threshold)
        frame = [[1, 1, 1, 1]] * len(logits)  # the photo's width and height, twice
        if target_sizes is not None:
            size = self.size if size is None else self._standardize_kwargs(size=size, default_to_square=True)["size"]
            padded_height, padded_width = _sides(size)
            frame, padded = [], []
            for height, width in ([int(side) for side in sides] for sides in target_sizes):
                scale = letterbox_scale(height, width, padded_height, padded_width) if self.do_resize else 1.0
                padded.append([padded_width / scale, padded_height / scale] * 2)
                frame.append([width, height] * 2)
            boxes *= np.array(padded, dtype=np.float32)[image]
        groups = image if class_agnostic else image * logits.shape[-1] + labels
        keep = nms(boxes, scores, groups, iou_threshold=nms_threshold)
        keep = keep[image[keep].argsort(kind="stable")]  # image by image, best first within each
        boxes = boxes[keep]
        if clip_boxes:
            boxes = boxes.clip(0, np.array(frame, dtype=np.float32)[image[keep]])
            inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # not in the padding alone
            keep, boxes = keep[inside], boxes[inside]
        counts = np.bincount(image[keep], minlength=len(logits)).tolist()
        found = [torch.from_numpy(kept).to(logits.device) for kept in (scores[keep], labels[keep], boxes)]
        return [
            {name: values[:max_detections] for name, values in zip(("scores", "labels", "boxes"), image_found)}
            for image_found in zip(*(values.split(counts) for values in found))
        ]


__all__ = ["YoloxImageProcessor"]
