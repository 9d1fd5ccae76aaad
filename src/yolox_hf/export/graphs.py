# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""What an exported graph returns, and how that becomes the output of `YoloxForObjectDetection` again."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers.utils.generic import ModelOutput

from ..loss_yolox import STRIDES, to_corners
from ..modeling_yolox import (
    YoloxForObjectDetection,
    YoloxObjectDetectionOutput,
    decode_boxes,
    flatten_maps,
    joint_logits,
)


@dataclass
class YoloxRawOutput(ModelOutput):
    """What a graph of raw boxes returns, in the layout of the original's own exports.

    Args:
        predictions: (batch_size, num_anchors, 5 + num_labels), float32, anchors as in `YoloxObjectDetectionOutput`:
            the offset of the centre from the cell's corner (x, y) in cells, the logarithm of width and height in
            cells, objectness and class probabilities.
    """

    predictions: torch.Tensor | None = None


@dataclass
class YoloxDetectionsOutput(ModelOutput):
    """What a graph with NMS returns: n detections of the whole batch, by image and class and then the best first.

    Args:
        batch_index: (n,), int64: the image.
        labels: (n,), int64: the class.
        scores: (n,), float32.
        boxes: (n, 4), float32: (x1, y1, x2, y2) in pixels of the padded input, not clipped.
    """

    batch_index: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    boxes: torch.Tensor | None = None


@dataclass
class YoloxCandidatesOutput(ModelOutput):
    """What the NMS operator of a graph reads.

    Args:
        candidate_boxes: (batch_size, num_anchors, 4), (x1, y1, x2, y2) in pixels of the padded input.
        candidate_scores: (batch_size, num_labels, num_anchors): each anchor's score, in the row of its best class;
            0 in the other rows.
    """

    candidate_boxes: torch.Tensor | None = None
    candidate_scores: torch.Tensor | None = None


class YoloxGraph(nn.Module):
    """A detector that returns no more than a graph is asked for.

    Args:
        detector: to be exported.
        outputs: `"decoded"`, `"raw"` or `"candidates"`.
    """

    def __init__(self, detector: YoloxForObjectDetection, outputs: str):
        super().__init__()
        self.config = detector.config
        self.detector = detector
        self.outputs = outputs

    def forward(self, pixel_values: torch.Tensor) -> ModelOutput:
        maps = self.detector.head(self.detector.model(pixel_values).feature_maps)
        class_logits, objectness_logits = flatten_maps(maps.class_maps), flatten_maps(maps.objectness_maps)
        if self.outputs == "raw":
            parts = (flatten_maps(maps.box_maps), objectness_logits.sigmoid(), class_logits.sigmoid())
            return YoloxRawOutput(predictions=torch.cat(parts, dim=-1))
        logits, pred_boxes = joint_logits(class_logits, objectness_logits), decode_boxes(maps.box_maps)
        if self.outputs == "decoded":
            return YoloxObjectDetectionOutput(logits=logits, pred_boxes=pred_boxes)
        height, width = pixel_values.shape[-2:]
        x1, y1, x2, y2 = to_corners(pred_boxes).unbind(dim=-1)
        best_logits, labels = logits.max(dim=-1)
        is_best = torch.arange(logits.shape[-1])[:, None] == labels[:, None]
        return YoloxCandidatesOutput(
            candidate_boxes=torch.stack((x1 * width, y1 * height, x2 * width, y2 * height), dim=-1),
            candidate_scores=torch.where(is_best, best_logits.sigmoid()[:, None], 0.0),
        )


def restore_output(outputs: ModelOutput, pixel_values: torch.Tensor, num_labels: int) -> YoloxObjectDetectionOutput:
    """The detector's output from that of any graph for `pixel_values`.

    From detections come as many anchors as the image with the most has. Their other scores are 0, and so is the score
    of what fills up the images with fewer.
    """
    if isinstance(outputs, YoloxRawOutput):
        return _restore_raw(outputs, pixel_values, num_labels)
    if isinstance(outputs, YoloxDetectionsOutput):
        return _restore_detections(outputs, pixel_values, num_labels)
    return outputs  # type: ignore[return-value]


def _restore_raw(outputs: YoloxRawOutput, pixel_values: torch.Tensor, num_labels: int) -> YoloxObjectDetectionOutput:
    boxes, objectness, classes = outputs.predictions.split((4, 1, num_labels), dim=-1)  # type: ignore[union-attr]
    sizes = [(pixel_values.shape[-2] // stride, pixel_values.shape[-1] // stride) for stride in STRIDES]
    levels = boxes.transpose(1, 2).split([height * width for height, width in sizes], dim=2)
    box_maps = tuple(level.unflatten(2, size) for level, size in zip(levels, sizes))
    return YoloxObjectDetectionOutput(logits=(objectness * classes).logit(), pred_boxes=decode_boxes(box_maps))


def _restore_detections(
    outputs: YoloxDetectionsOutput, pixel_values: torch.Tensor, num_labels: int
) -> YoloxObjectDetectionOutput:
    batch_index, labels, scores, boxes = outputs.to_tuple()
    counts = batch_index.bincount(minlength=len(pixel_values))
    row = torch.arange(len(batch_index), device=batch_index.device) - (counts.cumsum(0) - counts)[batch_index]
    longest = int(counts.max())
    logits = scores.new_full((len(counts), longest, num_labels), -torch.inf)
    logits[batch_index, row, labels] = scores.logit()
    height, width = pixel_values.shape[-2:]
    boxes = boxes / boxes.new_tensor([width, height] * 2)
    pred_boxes = boxes.new_zeros(len(counts), longest, 4)
    pred_boxes[batch_index, row] = torch.cat(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), dim=1)
    return YoloxObjectDetectionOutput(logits=logits, pred_boxes=pred_boxes)
