# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Augmentation of whole batches as tensor operations, on the device where the batch lies.

Written from the papers: mosaic (YOLOv4, arXiv:2004.10934, section 3.3), mixup (arXiv:1710.09412) and, for detection,
the union of both images' boxes (arXiv:1902.04103), random affine and colour in hue, saturation and value. Mosaic and
affine are one resampling of the batch: each output pixel is looked up once in the image it comes from.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F

PAD_VALUE = 114.0


class Batch(NamedTuple):
    """A batch of training images and its objects.

    Attributes:
        pixel_values: (batch_size, 3, height, width) float32, RGB with levels 0..255.
        boxes: (batch_size, max_targets, 4) float32, (center_x, center_y, width, height) relative to the image.
        class_labels: (batch_size, max_targets) int64, -1 for padding.
    """

    pixel_values: torch.Tensor
    boxes: torch.Tensor
    class_labels: torch.Tensor


@dataclass(frozen=True)
class AugmentationConfig:
    """How strongly a batch is augmented. Ranges are uniform.

    Args:
        flip_probability: horizontal flip.
        mosaic_probability: four images of the batch around a random point.
        mosaic_center: range of that point, as a fraction of the mosaic, which has twice the sides of an image.
        mixup_probability: mean of two augmented images, with the boxes of both.
        scale: range of the size of an image's content.
        translate: range of the shift, as a fraction of the sides, to either side.
        degrees, shear: ranges of rotation and shear in degrees, to either side.
        hue: range of the hue's rotation in degrees, to either side.
        saturation, value: ranges of the relative change, to either side.
        sides: multiples of 32 that the (square) output is resized to, one for each batch; the input's size if empty.
        min_visible: a box goes if less than this fraction of it is left in the image.
        min_side: a box goes if a side of what is left is less than this fraction of the image's side.
    """

    flip_probability: float = 0.5
    mosaic_probability: float = 0.0
    mosaic_center: tuple[float, float] = (0.25, 0.75)
    mixup_probability: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    translate: float = 0.0
    degrees: float = 0.0
    shear: float = 0.0
    hue: float = 0.0
    saturation: float = 0.0
    value: float = 0.0
    sides: tuple[int, ...] = ()
    min_visible: float = 0.2
    min_side: float = 0.004

    def __post_init__(self):
        for name in ("flip_probability", "mosaic_probability", "mixup_probability", "min_visible", "min_side"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], got {getattr(self, name)}.")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"`scale` must be a range of positive numbers, got {self.scale}.")
        if any(side < 32 or side % 32 for side in self.sides):
            raise ValueError(f"`sides` must be positive multiples of 32, got {self.sides}.")

    def without_mixing(self) -> "AugmentationConfig":
        """The final phase of the paper: no mosaic, no mixup, no affine; flips and colours stay."""
        return replace(
            self,
            mosaic_probability=0.0,
            mixup_probability=0.0,
            scale=(1.0, 1.0),
            translate=0.0,
            degrees=0.0,
            shear=0.0,
        )


def _paper_preset(image_size: int, scale: tuple[float, float], mosaic: float, mixup: float) -> AugmentationConfig:
    low, high = (10, 20) if image_size == 416 else (15, 25)
    return AugmentationConfig(
        mosaic_probability=mosaic,
        mixup_probability=mixup,
        scale=scale,
        translate=0.1,
        degrees=10.0,
        shear=2.0,
        hue=5.0,
        saturation=0.3,
        value=0.3,
        sides=tuple(32 * side for side in range(low, high + 1)),
    )


PRESETS: dict[str, AugmentationConfig] = {
    "none": AugmentationConfig(flip_probability=0.0),
    "flip": AugmentationConfig(),
    "fine-tuning": AugmentationConfig(
        mosaic_probability=0.5,
        scale=(0.7, 1.4),
        translate=0.1,
        hue=5.0,
        saturation=0.3,
        value=0.3,
    ),
    "yolox-nano": _paper_preset(416, scale=(0.5, 1.5), mosaic=0.5, mixup=0.0),
    "yolox-tiny": _paper_preset(416, scale=(0.5, 1.5), mosaic=1.0, mixup=0.0),
    "yolox": _paper_preset(640, scale=(0.1, 2.0), mosaic=1.0, mixup=1.0),
}
"""By name: no augmentation, only flips, fine-tuning, and the original's recipes from scratch (`"yolox"`: S and up)."""


def _uniform(generator: torch.Generator, shape: tuple[int, ...], low: float, high: float) -> torch.Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low


class BatchAugmentation:
    """Augments batches; the same seed gives the same sequence of batches.

    Random numbers are drawn on the CPU, a few for each image, so that the sequence does not depend on the device.

    Args:
        config: an `AugmentationConfig`, or the name of one of `PRESETS`.
        seed: of the random numbers.

    Raises:
        ValueError: an unknown preset.
    """

    def __init__(self, config: AugmentationConfig | str = "fine-tuning", seed: int = 0):
        if isinstance(config, str):
            if config not in PRESETS:
                raise ValueError(f"`config` must be one of {', '.join(PRESETS)}, got {config!r}.")
            config = PRESETS[config]
        self.config = config
        self.generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Batch:
        """The augmented batch. The input is not modified."""
        config, generator = self.config, self.generator
        batch_size, _, height, width = batch.pixel_values.shape
        side = int(torch.randint(len(config.sides), (1,), generator=generator)) if config.sides else None
        size = (height, width) if side is None else (config.sides[side], config.sides[side])
        geometry = _draw_geometry(config, generator, batch_size, torch.tensor([float(width), float(height)]))
        augmented = _resample(batch, geometry, size, config)
        if config.mixup_probability > 0:
            mixed = torch.rand(batch_size, generator=generator) < config.mixup_probability
            augmented = _mixup(augmented, mixed, torch.randperm(batch_size, generator=generator))
        gains = _uniform(generator, (3, batch_size, 1, 1, 1), -1, 1)
        pixel_values = _change_colors(
            augmented.pixel_values,
            hue=gains[0] * config.hue,
            saturation=1 + gains[1] * config.saturation,
            value=1 + gains[2] * config.value,
        )
        return augmented._replace(pixel_values=pixel_values)


class _Geometry(NamedTuple):
    """Where the pixels of each output come from, in pixels of the input.

    Attributes:
        sources: (batch_size, 4) int64, the image of the batch in each quadrant: top left, top right, bottom left,
            bottom right.
        center: (batch_size, 1, 2), x and y where the quadrants meet. For a single image it lies far to the top left,
            so that the last quadrant is everything.
        offsets: (batch_size, 4, 2), x and y of the top left corner of each quadrant's image.
        linear: (batch_size, 2, 2) and translation (batch_size, 2), from these coordinates to the output's.
    """

    sources: torch.Tensor
    center: torch.Tensor
    offsets: torch.Tensor
    linear: torch.Tensor
    translation: torch.Tensor


def _draw_geometry(config: AugmentationConfig, generator: torch.Generator, n: int, sides: torch.Tensor) -> _Geometry:
    """Random geometry for `n` images with `sides` (2,), width and height."""
    mosaic = (torch.rand(n, generator=generator) < config.mosaic_probability)[:, None]
    itself = torch.arange(n)[:, None]
    others = torch.randint(n, (n, 3), generator=generator)
    order = torch.rand(n, 4, generator=generator).argsort(dim=1)
    sources = torch.where(mosaic, torch.cat((itself, others), dim=1).gather(1, order), itself)
    low, high = (2 * bound for bound in config.mosaic_center)
    center = torch.where(mosaic, _uniform(generator, (n, 2), low, high) * sides, -1e6)[:, None]
    corners = torch.tensor([[-1.0, -1.0], [0.0, -1.0], [-1.0, 0.0], [0.0, 0.0]]) * sides
    offsets = torch.where(mosaic[..., None], center + corners, 0.0)

    # About the middle of the mosaic (of twice the sides) or of the image: scale, rotate, shear, flip; then shift.
    middle = torch.where(mosaic, 1.0, 0.5) * sides
    scale = _uniform(generator, (n,), *config.scale)
    angle = _uniform(generator, (n,), -config.degrees, config.degrees).deg2rad()
    shear_x, shear_y = _uniform(generator, (2, n), -config.shear, config.shear).deg2rad().tan()
    flip = torch.where(torch.rand(n, generator=generator) < config.flip_probability, -1.0, 1.0)
    shift = _uniform(generator, (n, 2), -config.translate, config.translate) * sides
    cosine, sine, one = angle.cos() * scale, angle.sin() * scale, torch.ones(n)
    rotation = torch.stack((cosine, -sine, sine, cosine), dim=1).view(n, 2, 2)
    shearing = torch.stack((one, shear_x, shear_y, one), dim=1).view(n, 2, 2)
    linear = torch.stack((flip, one), dim=1)[..., None] * (shearing @ rotation)
    translation = sides / 2 + shift - (linear @ middle[..., None])[..., 0]
    return _Geometry(sources, center, offsets, linear, translation)


def _resample(batch: Batch, geometry: _Geometry, size: tuple[int, int], config: AugmentationConfig) -> Batch:
    device = batch.pixel_values.device
    n, channels, height, width = batch.pixel_values.shape
    geometry = _Geometry(*(values.to(device, non_blocking=True) for values in geometry))
    sources, center, offsets, linear, translation = geometry

    # Centres of the output's pixels, back to where they come from.
    out_height, out_width = size
    x = (torch.arange(out_width, device=device) + 0.5) * (width / out_width)
    y = (torch.arange(out_height, device=device)[:, None] + 0.5) * (height / out_height)
    inverse = torch.linalg.inv(linear)
    start = -(inverse @ translation[..., None])
    rows = inverse[:, :, 1:, None] * y + start[..., None]  # (n, 2, out_height, 1)
    columns = inverse[:, :, :1, None] * x  # (n, 2, 1, out_width)
    if config.degrees == 0 and config.shear == 0:  # each coordinate then depends on one of the output's alone
        from_x, from_y = rows[:, 0, :1] + columns[:, 0], rows[:, 1] + columns[:, 1, :, :1]
    else:
        from_x, from_y = (rows + columns).unbind(dim=1)

    source = sources[:, :1, None]
    if config.mosaic_probability > 0:
        # 0 or 1, between which `lerp` chooses exactly, and faster than a look-up.
        right, below = (from_x >= center[..., :1]).float(), (from_y >= center[..., 1:]).float()
        left_x, top_y, right_x, bottom_y = offsets[:, ::3].flatten(1)[..., None, None].unbind(dim=1)
        from_x -= torch.lerp(left_x, right_x, right)
        from_y -= torch.lerp(top_y, bottom_y, below)
        top_left, top_right, bottom_left, bottom_right = sources.float()[..., None, None].unbind(dim=1)
        upper, lower = torch.lerp(top_left, top_right, right), torch.lerp(bottom_left, bottom_right, right)
        source = torch.lerp(upper, lower, below)
    inside = ((from_x >= 0) & (from_x < width)).float() * ((from_y >= 0) & (from_y < height))
    # All images lie below each other in one, so that a single look-up finds each pixel. It stays half a pixel from
    # the borders, so that it does not mix neighbours.
    grid = inside.new_empty((n, out_height, out_width, 2))
    grid[..., 0] = from_x.clamp_(0.5, width - 0.5).mul_(2 / width).sub_(1)
    grid[..., 1] = from_y.clamp_(0.5, height - 0.5).mul_(2 / (n * height)).sub_(1) + source * (2 / n)
    column = batch.pixel_values.permute(0, 2, 3, 1).reshape(1, n * height, width, channels).permute(0, 3, 1, 2)
    column = column.expand(n, -1, -1, -1)  # on the CPU each thread samples whole outputs
    sampled = F.grid_sample(column, grid, mode="bilinear", padding_mode="border", align_corners=False)
    # In place, as fresh memory costs more than what is done in it; and several times faster than a fill by mask.
    pixel_values = torch.lerp(sampled.new_full((), PAD_VALUE), sampled, inside[:, None], out=sampled)
    return Batch(pixel_values, *_move_boxes(batch, geometry, config))


def _move_boxes(batch: Batch, geometry: _Geometry, config: AugmentationConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """The objects of the four sources of each output, moved with their pixels: hulls of the moved corners."""
    sources, center, offsets, linear, translation = geometry
    n, device = len(sources), batch.boxes.device
    sides = torch.tensor([batch.pixel_values.shape[3], batch.pixel_values.shape[2]], device=device)
    boxes = batch.boxes[sources.flatten()].view(n, 4, -1, 4)
    labels = batch.class_labels[sources.flatten()].view(n, 4, -1)
    if config.mosaic_probability == 0:
        boxes, labels, offsets = boxes[:, 3:], labels[:, 3:], offsets[:, 3:]
    quadrants = boxes.shape[1]
    centers, halves = boxes[..., :2] * sides + offsets[:, :, None], boxes[..., 2:] * sides / 2
    top_left, bottom_right = centers - halves, centers + halves

    # What a quadrant shows of a box ends where the quadrants meet. (A single image lies in the last.)
    behind = torch.tensor([[False, False], [True, False], [False, True], [True, True]], device=device)[-quadrants:]
    low = torch.where(behind, center, -torch.inf)[:, :, None]
    high = torch.where(behind, torch.inf, center)[:, :, None]

    def hull(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        corners = torch.stack(
            (
                first,
                second,
                torch.stack((first[..., 0], second[..., 1]), dim=-1),
                torch.stack((second[..., 0], first[..., 1]), dim=-1),
            ),
            dim=-2,
        )
        moved = (corners.flatten(1, 3) @ linear.transpose(1, 2) + translation[:, None]).view(corners.shape) / sides
        return moved.amin(dim=-2), moved.amax(dim=-2)

    whole_low, whole_high = hull(top_left, bottom_right)
    shown_low, shown_high = hull(
        torch.minimum(torch.maximum(top_left, low), high), torch.maximum(torch.minimum(bottom_right, high), low)
    )
    shown_low, shown_high = shown_low.clamp(0, 1), shown_high.clamp(0, 1)
    shown = shown_high - shown_low
    visible = shown.prod(dim=-1) / (whole_high - whole_low).prod(dim=-1).clamp(min=1e-12)
    keep = (labels >= 0) & (visible >= config.min_visible) & (shown >= config.min_side).all(dim=-1)
    moved_boxes = torch.cat(((shown_low + shown_high) / 2, shown), dim=-1)
    return _compact(moved_boxes.flatten(1, 2), torch.where(keep, labels, -1).flatten(1))


def _compact(boxes: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Padding behind the objects of each image; on the CPU as little of it as possible."""
    order = (labels < 0).int().argsort(dim=1, stable=True)
    if labels.device.type == "cpu":  # the length is a value: reading it would wait for an accelerator
        order = order[:, : int((labels >= 0).sum(dim=1).amax())]
    return boxes.gather(1, order[..., None].expand(-1, -1, 4)), labels.gather(1, order)


def _mixup(batch: Batch, mixed: torch.Tensor, partner: torch.Tensor) -> Batch:
    device = batch.pixel_values.device
    mixed, partner = mixed.to(device, non_blocking=True), partner.to(device, non_blocking=True)
    weight = torch.where(mixed, 0.5, 0.0)[:, None, None, None]
    pixel_values = torch.lerp(batch.pixel_values, batch.pixel_values[partner], weight)
    boxes = torch.cat((batch.boxes, batch.boxes[partner]), dim=1)
    other_labels = torch.where(mixed[:, None], batch.class_labels[partner], -1)
    return Batch(pixel_values, *_compact(boxes, torch.cat((batch.class_labels, other_labels), dim=1)))


def _change_colors(
    pixel_values: torch.Tensor, hue: torch.Tensor, saturation: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    """Change of hue (in degrees), saturation and value (as factors), each (batch_size, 1, 1, 1).

    Saturation and value are those of HSV. The hue turns about the grey axis of RGB, which is linear and, for the few
    degrees of an augmentation, the same to the eye.
    """
    device = pixel_values.device
    hue, saturation, value = (change.to(device, non_blocking=True) for change in (hue, saturation, value))
    if bool((hue.device.type != "cpu") or hue.any()):
        rotation = _hue_rotation(hue.view(-1).deg2rad()) * value[:, 0]
        changed = (rotation @ pixel_values.flatten(2)).view(pixel_values.shape)
    else:
        changed = pixel_values * value
    brightest = changed.amax(dim=1, keepdim=True)  # V of HSV; saturation moves RGB away from it
    return torch.lerp(brightest, changed, saturation, out=changed).clamp_(0, 255)


def _hue_rotation(angle: torch.Tensor) -> torch.Tensor:
    """(batch_size, 3, 3): rotations of RGB about (1, 1, 1), by Rodrigues' formula."""
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    identity = torch.eye(3, device=angle.device)
    axis = torch.full((3, 3), 1 / 3, device=angle.device)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]], device=angle.device) / math.sqrt(3)
    return cosine * identity + (1 - cosine) * axis + sine * cross
