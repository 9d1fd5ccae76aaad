# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE in the source repository or
# http://www.apache.org/licenses/LICENSE-2.0
"""The training loss of YOLOX (arXiv:2107.08430, section 2): SimOTA assignment, IoU, objectness, class and L1 terms.

Pure functions over whole batches, in float32. Every shape follows from the shapes of the inputs: nothing waits for
the device, and everything compiles into one graph.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F

STRIDES = (8, 16, 32)
OUTSIDE_COST = (
    1e6  # added for anchors outside a target's centre region: they are taken only where nothing else is left
)
PADDING_LABEL = -1  # the class of rows that are no target
PAIRS_AT_ONCE = 1 << 20  # (target, anchor) pairs that are compared at once; bounds the memory of the assignment


class Anchors(NamedTuple):
    """Anchor points of the three maps, in the order of the outputs.

    Attributes:
        cells: (num_anchors, 2), column and row of each anchor in its map.
        strides: (num_anchors, 1), pixels for each cell.
    """

    cells: torch.Tensor
    strides: torch.Tensor


class Assignment(NamedTuple):
    """What SimOTA matched. Anchors are indexed as in the outputs.

    Attributes:
        foreground_mask: (batch_size, num_anchors) bool.
        matched_gt: (batch_size, num_anchors) int64, the target of each foreground anchor, 0 elsewhere.
        matched_iou: (batch_size, num_anchors) float32, its IoU with the prediction, 0 elsewhere.
    """

    foreground_mask: torch.Tensor
    matched_gt: torch.Tensor
    matched_iou: torch.Tensor


def make_anchors(map_sizes: list[tuple[int, int]], device: torch.device) -> Anchors:
    """Anchors of maps of (height, width) cells, for the strides 8, 16 and 32."""
    cells, strides = [], []
    for (height, width), stride in zip(map_sizes, STRIDES):
        rows = torch.arange(height, dtype=torch.float32, device=device)
        columns = torch.arange(width, dtype=torch.float32, device=device)
        grid = torch.stack((columns.expand(height, -1), rows[:, None].expand(-1, width)), dim=-1).flatten(0, 1)
        cells.append(grid)
        strides.append(grid.new_full((height * width, 1), stride))
    return Anchors(torch.cat(cells), torch.cat(strides))


# ---- boxes


@torch.no_grad()
def box_iou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Intersection over union of every pair, without a gradient.

    Args:
        boxes: (..., n, 4), corners (x1, y1, x2, y2) with x1 <= x2 and y1 <= y2, in any unit.
        others: (..., m, 4), in the same.

    Returns:
        (..., n, m), in [0, 1]; 0 where neither box has an area.
    """
    left, top, right, bottom = boxes[..., :, None, :].unbind(dim=-1)
    other_left, other_top, other_right, other_bottom = others[..., None, :, :].unbind(dim=-1)
    width = torch.minimum(right, other_right).sub_(torch.maximum(left, other_left)).clamp_(min=0)
    height = torch.minimum(bottom, other_bottom).sub_(torch.maximum(top, other_top)).clamp_(min=0)
    intersection = width.mul_(height)
    union = (right - left) * (bottom - top) + (other_right - other_left) * (other_bottom - other_top)
    return intersection.div_(union.sub_(intersection).clamp_(min=1e-16))


def to_corners(boxes: torch.Tensor) -> torch.Tensor:
    """Boxes (..., 4) of (center_x, center_y, width, height) to (x1, y1, x2, y2)."""
    centers, halves = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((centers - halves, centers + halves), dim=-1)


def box_loss(boxes: torch.Tensor, targets: torch.Tensor, loss_type: str = "iou") -> torch.Tensor:
    """1 - IoU**2, or 1 - GIoU (arXiv:1902.09630), of each pair.

    Args:
        boxes: (..., 4), (center_x, center_y, width, height), in any unit.
        targets: (..., 4), in the same.
        loss_type: `"iou"` or `"giou"`.

    Returns:
        (...), in [0, 1], or in [0, 2] for GIoU.
    """
    left, top, right, bottom = to_corners(boxes).unbind(dim=-1)
    target_left, target_top, target_right, target_bottom = to_corners(targets).unbind(dim=-1)
    area, target_area = boxes[..., 2] * boxes[..., 3], targets[..., 2] * targets[..., 3]
    width = (torch.minimum(right, target_right) - torch.maximum(left, target_left)).clamp(min=0)
    height = (torch.minimum(bottom, target_bottom) - torch.maximum(top, target_top)).clamp(min=0)
    intersection = width * height
    union = area + target_area - intersection
    iou = intersection / (union + 1e-16)
    if loss_type == "iou":
        return 1 - iou**2
    hull_width = torch.maximum(right, target_right) - torch.minimum(left, target_left)
    hull_height = torch.maximum(bottom, target_bottom) - torch.minimum(top, target_top)
    hull = (hull_width * hull_height).clamp(min=1e-16)
    return 1 - (iou - (hull - union) / hull)


# ---- assignment


def _keep_marked(mask: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of the marked entries of each row, in ascending order and padded to `length`.

    Args:
        mask: (batch_size, n) bool, with at most `length` marks in each row.

    Returns:
        Indices (batch_size, `length`) int64, 0 where there are fewer marks, and whether each is a mark.
    """
    batch_size, n = mask.shape
    if length >= n:
        return torch.arange(n, device=mask.device).expand(batch_size, -1), mask
    position = torch.where(mask, mask.cumsum(dim=1) - 1, length)  # what is not marked lands behind the end
    indices = torch.zeros(batch_size, length + 1, dtype=torch.int64, device=mask.device)
    indices.scatter_(1, position, torch.arange(n, device=mask.device).expand(batch_size, -1))
    count = mask.sum(dim=1, keepdim=True)
    return indices[:, :length], torch.arange(length, device=mask.device) < count


def _center_candidates(
    gt_boxes: torch.Tensor, is_target: torch.Tensor, map_sizes: list[tuple[int, int]], center_radius: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The anchors within `center_radius` cells of a target's centre, in both directions, for any target of the image.

    Args:
        gt_boxes: (batch_size, num_targets, 4) in pixels.
        is_target: (batch_size, num_targets) bool, not padding.

    Returns:
        Indices (batch_size, num_candidates) among all anchors and whether each is a candidate; and for each pair
        (batch_size, num_targets, num_candidates) whether it is one of this target.
    """
    batch_size, num_targets = is_target.shape
    per_target = math.ceil(2 * center_radius) ** 2  # an open interval of length 2r holds at most ceil(2r) points
    indices, valid, inside = [], [], []
    first_anchor = 0
    for (height, width), stride in zip(map_sizes, STRIDES):
        in_range = []
        for axis, length in ((0, width), (1, height)):
            center = gt_boxes[:, :, axis, None]
            points = (torch.arange(length, dtype=torch.float32, device=gt_boxes.device) + 0.5) * stride
            distance = center_radius * stride
            in_range.append((points > center - distance) & (points < center + distance))
        in_columns, in_rows = in_range[0] & is_target[..., None], in_range[1]
        # Both conditions are separable: one matrix product tells which cells any target marks.
        marked = torch.bmm(in_rows.transpose(1, 2).float(), in_columns.float()).flatten(1) > 0
        level_indices, level_valid = _keep_marked(marked, per_target * num_targets)
        column, row = level_indices % width, level_indices.div(width, rounding_mode="floor")
        shape = (batch_size, num_targets, level_indices.shape[1])
        inside.append(
            in_columns.gather(2, column[:, None].expand(shape)) & in_rows.gather(2, row[:, None].expand(shape))
        )
        indices.append(level_indices + first_anchor)
        valid.append(level_valid)
        first_anchor += height * width
    return torch.cat(indices, dim=1), torch.cat(valid, dim=1), torch.cat(inside, dim=2)


@torch.no_grad()
def assign_targets(
    pred_boxes: torch.Tensor,
    class_logits: torch.Tensor,
    objectness_logits: torch.Tensor,
    gt_boxes: torch.Tensor,
    gt_labels: torch.Tensor,
    map_sizes: list[tuple[int, int]],
    *,
    center_radius: float = 1.5,
    candidate_top_k: int = 10,
    iou_cost_weight: float = 3.0,
) -> Assignment:
    """Match targets to anchors with SimOTA (YOLOX, arXiv:2107.08430, section 2, "SimOTA").

    Candidates are the anchors near the centre of any target of the image. A target takes as many of them as its
    `candidate_top_k` best IoUs add up to, at least one, in the order of their cost: class cost plus
    `iou_cost_weight` times -log(IoU), and a large constant away from its own centre. An anchor that several targets
    take goes to the target it costs least.

    Args:
        pred_boxes: (batch_size, num_anchors, 4), decoded (center_x, center_y, width, height) in pixels of the padded
            input.
        class_logits: (batch_size, num_anchors, num_labels).
        objectness_logits: (batch_size, num_anchors, 1).
        gt_boxes: (batch_size, max_targets, 4), as `pred_boxes`; padding rows are marked in `gt_labels`.
        gt_labels: (batch_size, max_targets), int64 in [0, num_labels), -1 for padding.
        map_sizes: (height, width) of the three maps in cells.

    Returns:
        `Assignment`. Inputs are not modified. An image without candidates gets an empty one.
    """
    batch_size, num_anchors, _ = class_logits.shape
    num_targets = gt_labels.shape[1]
    if num_targets == 0:
        empty = torch.zeros(batch_size, num_anchors, device=pred_boxes.device)
        return Assignment(empty.bool(), empty.long(), empty)
    is_target = gt_labels >= 0
    indices, valid, inside = _center_candidates(gt_boxes, is_target, map_sizes, center_radius)
    num_candidates = indices.shape[1]
    top_k = min(candidate_top_k, num_candidates)

    def take(values: torch.Tensor) -> torch.Tensor:
        return values.gather(1, indices[..., None].expand(-1, -1, values.shape[-1]))

    boxes = to_corners(take(pred_boxes.float()))
    gt_corners = to_corners(gt_boxes.float())
    # The binary cross-entropy between the joint probability and a target's one-hot class is one sum for each anchor,
    # corrected at that class. -100 is where PyTorch cuts off the logarithm of 0.
    probability = take(class_logits).float().sigmoid() * take(objectness_logits).float().sigmoid()
    probability = probability.sqrt_()
    log_no = (-probability).log1p_().clamp_(min=-100)
    base_cost = -log_no.sum(dim=-1)[:, None]
    class_correction = log_no.sub_(probability.log_().clamp_(min=-100)).transpose(1, 2).contiguous()
    labels = gt_labels.clamp(min=0)

    not_valid = ~valid[:, None]
    best_cost = pred_boxes.new_full((batch_size, num_candidates), torch.inf, dtype=torch.float32)
    cheapest_gt = torch.zeros_like(indices)
    times_taken = torch.zeros_like(indices)
    taken_by = torch.zeros_like(indices)
    step = max(1, PAIRS_AT_ONCE // (batch_size * num_candidates))
    for start in range(0, num_targets, step):
        chunk = slice(start, start + step)
        real = is_target[:, chunk, None]
        iou = box_iou(gt_corners[:, chunk], boxes).masked_fill_(not_valid, 0)
        dynamic_k = iou.topk(top_k, dim=2).values.sum(dim=2).int().clamp_(min=1)

        # Columns of candidates that are none cost the infinite, rows of padding too: both are never the cheapest.
        cost = iou.add_(1e-8).log_().mul_(-iou_cost_weight)
        chunk_labels = labels[:, chunk, None].expand(-1, -1, num_candidates)
        cost += class_correction.gather(1, chunk_labels)
        cost += base_cost
        cost.add_(~inside[:, chunk], alpha=OUTSIDE_COST)
        cost.masked_fill_(not_valid | ~real, torch.inf)

        chunk_cost, chunk_gt = cost.min(dim=1)
        better = chunk_cost < best_cost
        best_cost = torch.where(better, chunk_cost, best_cost)
        cheapest_gt = torch.where(better, chunk_gt + start, cheapest_gt)

        lowest, ranked = cost.topk(top_k, dim=2, largest=False)
        rank = torch.arange(top_k, device=cost.device)
        takes = ((rank < dynamic_k[..., None]) & lowest.isfinite()).long().flatten(1)
        ranked = ranked.flatten(1)
        targets = torch.arange(start, start + cost.shape[1], device=cost.device).repeat_interleave(top_k)
        times_taken.scatter_add_(1, ranked, takes)
        taken_by.scatter_add_(1, ranked, takes * targets)  # the taker's index, where there is only one

    foreground = times_taken > 0
    matched_gt = torch.where(times_taken > 1, cheapest_gt, taken_by)
    matched_corners = gt_corners.gather(1, matched_gt[..., None].expand(-1, -1, 4))
    matched_iou = box_iou(matched_corners[:, :, None], boxes[:, :, None])[:, :, 0, 0]

    # Candidates that are none may repeat an index of one that is; adding zeros leaves it alone.
    result_iou = pred_boxes.new_zeros(batch_size, num_anchors, dtype=torch.float32)
    result_iou.scatter_add_(1, indices, matched_iou * foreground)
    result_gt = torch.zeros(batch_size, num_anchors, dtype=torch.int64, device=pred_boxes.device)
    result_gt.scatter_add_(1, indices, matched_gt * foreground)
    result_mask = torch.zeros_like(result_gt).scatter_add_(1, indices, foreground.long()) > 0
    return Assignment(result_mask, result_gt, result_iou)


# ---- loss


def check_labels(labels: list[dict[str, torch.Tensor]], batch_size: int, num_labels: int) -> None:
    """Refuse labels that no loss can be computed from.

    Values are looked at where they lie on the CPU; on an accelerator that would wait for it, and the data collator has
    looked before.

    Raises:
        TypeError: a label is no dictionary of tensors.
        ValueError: one of another shape than `pad_labels` takes, or with a value out of range; the image is named.
    """
    if not isinstance(labels, (list, tuple)) or len(labels) != batch_size:
        received = f"{len(labels)} of them" if isinstance(labels, (list, tuple)) else f"a {type(labels).__name__}"
        raise ValueError(
            f"`labels` must be a list with one dictionary for each of the {batch_size} images, got {received}. "
            "(`torch.nn.DataParallel` splits images but not labels: start several GPUs with torchrun.)"
        )
    for index, label in enumerate(labels):
        if not isinstance(label, Mapping):
            raise TypeError(f"`labels` must be dictionaries, got a {type(label).__name__} for image {index}.")
        if missing := {"class_labels", "boxes"} - set(label):
            raise ValueError(f"`labels` must have `class_labels` and `boxes`; image {index} lacks {sorted(missing)}.")
        classes, boxes = label["class_labels"], label["boxes"]
        if classes.is_floating_point() or classes.ndim != 1 or boxes.shape != (len(classes), 4):
            raise ValueError(
                "`class_labels` must be integers of shape (n,) and `boxes` have shape (n, 4), got "
                f"{classes.dtype} {tuple(classes.shape)} and {tuple(boxes.shape)} for image {index}."
            )
        if boxes.device.type == "cpu":
            _check_values(classes, boxes[classes != PADDING_LABEL], num_labels, index)


def _check_values(classes: torch.Tensor, boxes: torch.Tensor, num_labels: int, image: int) -> None:
    wrong = classes[(classes < PADDING_LABEL) | (classes >= num_labels)]
    if len(wrong):
        raise ValueError(f"`class_labels` must be in [0, {num_labels}), got {wrong[0]} in image {image}.")
    for is_wrong, rule in (
        (~boxes.isfinite().all(dim=1), "be finite"),
        (
            (boxes.abs() > 2).any(dim=1),
            "be (center_x, center_y, width, height) relative to the padded input, in [0, 1] and not in pixels",
        ),
        ((boxes[:, 2:] < 0).any(dim=1), "have a width and height of at least 0"),
    ):
        if is_wrong.any():
            raise ValueError(f"`boxes` must {rule}, got {boxes[is_wrong][0].tolist()} in image {image}.")


def pad_labels(labels: list[dict[str, torch.Tensor]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels of a batch as two tensors.

    Args:
        labels: for each image `class_labels` (n,) and `boxes` (n, 4).

    Returns:
        `boxes` (batch_size, max_targets, 4) float32, and `class_labels` (batch_size, max_targets) int64, -1 for
        padding.
    """
    boxes = [label["boxes"].to(device, torch.float32).reshape(-1, 4) for label in labels]
    classes = [label["class_labels"].to(device, torch.int64) for label in labels]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(boxes, batch_first=True), pad(classes, batch_first=True, padding_value=PADDING_LABEL)


def yolox_loss(
    class_logits: torch.Tensor,
    objectness_logits: torch.Tensor,
    box_logits: torch.Tensor,
    pred_boxes: torch.Tensor,
    gt_boxes: torch.Tensor,
    gt_labels: torch.Tensor,
    map_sizes: list[tuple[int, int]],
    *,
    box_loss_weight: float = 5.0,
    objectness_loss_weight: float = 1.0,
    class_loss_weight: float = 1.0,
    l1_loss_weight: float = 1.0,
    use_l1_loss: bool = False,
    box_loss_type: str = "iou",
    center_radius: float = 1.5,
    candidate_top_k: int = 10,
    iou_cost_weight: float = 3.0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of a batch, as a mean over its foreground anchors.

    Args:
        class_logits: (batch_size, num_anchors, num_labels).
        objectness_logits: (batch_size, num_anchors, 1).
        box_logits: (batch_size, num_anchors, 4), the head's box outputs before decoding.
        pred_boxes: (batch_size, num_anchors, 4), decoded, relative to the padded input.
        gt_boxes: (batch_size, max_targets, 4), (center_x, center_y, width, height) relative to the padded input.
        gt_labels: (batch_size, max_targets), int64 in [0, num_labels), -1 for padding.
        map_sizes: (height, width) of the three maps in cells.

    Returns:
        The loss, and its terms with their weights: `loss_bbox`, `loss_objectness`, `loss_classification` and, with
        `use_l1_loss`, `loss_l1` add up to it. `num_foreground` is the number of foreground anchors.
        In distributed training the foreground is counted over all processes, so that the mean of their gradients is
        the gradient of the whole batch.
    """
    batch_size, num_anchors, num_labels = class_logits.shape
    height, width = map_sizes[0][0] * STRIDES[0], map_sizes[0][1] * STRIDES[0]
    to_pixels = pred_boxes.new_tensor([width, height, width, height], dtype=torch.float32)
    pred_boxes, gt_boxes = pred_boxes.float() * to_pixels, gt_boxes.float() * to_pixels
    class_logits, objectness_logits, box_logits = class_logits.float(), objectness_logits.float(), box_logits.float()

    foreground, matched_gt, matched_iou = assign_targets(
        pred_boxes,
        class_logits,
        objectness_logits,
        gt_boxes,
        gt_labels,
        map_sizes,
        center_radius=center_radius,
        candidate_top_k=candidate_top_k,
        iou_cost_weight=iou_cost_weight,
    )
    num_foreground = foreground.sum().float()
    normalizer = _mean_over_processes(num_foreground).clamp(min=1)

    objectness_loss = F.binary_cross_entropy_with_logits(
        objectness_logits[..., 0], foreground.float(), reduction="sum"
    )
    # The other terms are of foreground anchors alone. There are at most so many, whatever the values are.
    indices, valid = _keep_marked(foreground, candidate_top_k * gt_labels.shape[1])
    rows = (indices + torch.arange(batch_size, device=indices.device)[:, None] * num_anchors).flatten()
    valid = valid.flatten()

    def take(values: torch.Tensor) -> torch.Tensor:
        return values.flatten(0, 1).index_select(0, rows)

    gt_index = matched_gt.gather(1, indices)
    target_boxes = gt_boxes.gather(1, gt_index[..., None].expand(-1, -1, 4)).flatten(0, 1)
    target_labels = gt_labels.gather(1, gt_index).flatten().clamp(min=0)
    weight = valid.float()

    bbox_loss = (box_loss(take(pred_boxes), target_boxes, box_loss_type) * weight).sum()
    target_classes = torch.zeros(len(rows), num_labels, device=rows.device)
    target_classes.scatter_(1, target_labels[:, None], take(matched_iou[..., None]))
    class_loss = F.binary_cross_entropy_with_logits(
        take(class_logits), target_classes, weight=weight[:, None], reduction="sum"
    )
    terms = {
        "loss_bbox": box_loss_weight * bbox_loss / normalizer,
        "loss_objectness": objectness_loss_weight * objectness_loss / normalizer,
        "loss_classification": class_loss_weight * class_loss / normalizer,
    }
    if use_l1_loss:
        anchors = make_anchors(map_sizes, rows.device)
        cells, strides = anchors.cells[indices.flatten()], anchors.strides[indices.flatten()]
        in_cells = target_boxes / strides
        target_logits = torch.cat((in_cells[:, :2] - cells, (in_cells[:, 2:] + 1e-8).log()), dim=1)
        l1_loss = ((take(box_logits) - target_logits).abs() * weight[:, None]).sum()
        terms["loss_l1"] = l1_loss_weight * l1_loss / normalizer
    loss = torch.stack([*terms.values()]).sum()
    return loss, {**{name: term.detach() for name, term in terms.items()}, "num_foreground": num_foreground}


def _mean_over_processes(value: torch.Tensor) -> torch.Tensor:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    total = value.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()
