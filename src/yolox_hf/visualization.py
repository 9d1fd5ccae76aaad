# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Pictures: boxes on images, and what a training batch looks like."""

import colorsys
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

from .loss_yolox import assign_targets, make_anchors, pad_labels, to_corners


def class_color(label: int) -> tuple[int, int, int]:
    """RGB of a class index; the same everywhere, and far from its neighbours'."""
    golden_ratio = (math.sqrt(5) - 1) / 2
    red, green, blue = colorsys.hsv_to_rgb((label * golden_ratio) % 1, 0.85, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_boxes(
    image: Image.Image, boxes: Sequence[Sequence[float]], labels: Sequence[int], captions: Sequence[str]
) -> Image.Image:
    """A copy of an image with boxes on it.

    Args:
        image: RGB.
        boxes: (x1, y1, x2, y2) in pixels of the image.
        labels: class index of each box; it decides the colour.
        captions: text of each box.
    """
    image = image.copy()
    draw = ImageDraw.Draw(image)
    line_width = max(1, round(min(image.size) / 200))
    font = ImageFont.load_default(size=max(10, min(image.size) // 32))
    for (left, top, right, bottom), label, caption in zip(boxes, labels, captions):
        color = class_color(label)
        draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=color, width=line_width)
        # The caption stays inside the image: over the box where there is room, else in it.
        _, _, text_width, text_height = draw.textbbox((0, 0), caption, font=font)
        x = max(0, min(left, image.width - text_width - 4))
        y = top - text_height - 4 if top >= text_height + 4 else top
        draw.rectangle((x, y, x + text_width + 4, y + text_height + 4), fill=color)
        dark = sum(color) > 380
        draw.text((x + 2, y + 1), caption, fill="black" if dark else "white", font=font)
    return image


def save_batch_preview(
    path: str | Path, batch: Mapping[str, Any], id2label: Mapping[int, str], columns: int = 4
) -> None:
    """Save a picture of a training batch: its images side by side, with their boxes.

    Args:
        path: of the picture; the suffix decides the format.
        batch: `pixel_values` (batch_size, 3, height, width), RGB with levels 0..255, and `labels`, as
            `YoloxDataCollator` and `augment_inputs` return them.
        id2label: name of each class index.
        columns: images in a row.
    """
    pixel_values = batch["pixel_values"]
    count, _, height, width = pixel_values.shape
    columns = min(columns, count)
    sheet = Image.new("RGB", (columns * width, math.ceil(count / columns) * height))
    for index, (pixels, label) in enumerate(zip(pixel_values, batch["labels"])):
        image = _to_image(pixels)
        classes, boxes = label["class_labels"].cpu(), label["boxes"].float().cpu()
        boxes = boxes[classes >= 0] * torch.tensor([width, height, width, height])
        classes = classes[classes >= 0].tolist()
        corners = torch.cat((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), dim=1)
        image = draw_boxes(image, corners.tolist(), classes, [id2label[category] for category in classes])
        sheet.paste(image, (index % columns * width, index // columns * height))
    sheet.save(path)


def save_precision_recall(path: str | Path, curves: Mapping[str, torch.Tensor]) -> None:
    """Save a picture of `evaluation.precision_recall_curves`, a line for each class.

    Raises:
        ImportError: matplotlib is not installed; it comes with the extra `plots`.
    """
    figure = _figure()
    axes = figure.add_subplot(
        xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="Precision and recall at IoU 0.50"
    )
    for label, (name, precision) in enumerate(curves.items()):
        color = [level / 255 for level in class_color(label)]
        axes.plot(torch.linspace(0, 1, len(precision)).numpy(), precision.numpy(), color=color, label=name)
    if 0 < len(curves) <= 20:
        axes.legend()
    figure.savefig(path)


def save_confusion_matrix(path: str | Path, matrix: torch.Tensor, names: Sequence[str]) -> None:
    """Save a picture of `evaluation.confusion_matrix`, each row as fractions of its sum.

    Raises:
        ImportError: matplotlib is not installed; it comes with the extra `plots`.
    """
    figure = _figure()
    labels = [*names, "background"]
    axes = figure.add_subplot(xlabel="found as", ylabel="is", title="Confusion at IoU 0.50")
    fractions = matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1)
    figure.colorbar(axes.imshow(fractions.numpy(), vmin=0, vmax=1, cmap="Blues"))
    size = 9 if len(labels) <= 20 else 4
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=size)
    axes.set_yticks(range(len(labels)), labels, fontsize=size)
    if len(labels) <= 20:
        for row, counts in enumerate(matrix.tolist()):
            for column, count in enumerate(counts):
                color = "white" if fractions[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)
    figure.savefig(path)


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure  # without pyplot: no window, no state
    except ImportError:
        raise ImportError("Plots need matplotlib: `pip install yolox-hf[plots]`.") from None
    return Figure(figsize=(9, 8), dpi=120, layout="constrained")


def save_assignment_preview(
    path: str | Path, model: Any, pixel_values: torch.Tensor, labels: list[dict[str, torch.Tensor]]
) -> None:
    """Save a picture of what SimOTA makes of a batch: which anchors each object gets, and how many.

    Objects are drawn in different colours, with the centres of their anchors: a larger dot for a coarser stride.

    Args:
        path: of the picture; the suffix decides the format.
        model: `YoloxForObjectDetection`; it is run in evaluation mode, and left as it was.
        pixel_values: (batch_size, 3, height, width), RGB with levels 0..255.
        labels: for each image `class_labels` (num_objects,) and `boxes` (num_objects, 4), relative (center_x,
            center_y, width, height), as the model takes them.
    """
    was_training = model.training
    model.eval()
    with torch.no_grad():
        outputs = model(pixel_values)
    model.train(was_training)
    count, _, height, width = pixel_values.shape
    sides = torch.tensor([width, height, width, height], device=pixel_values.device)
    map_sizes = [(height // stride, width // stride) for stride in (8, 16, 32)]
    boxes, classes = pad_labels(labels, pixel_values.device)
    assignment = assign_targets(
        outputs.pred_boxes * sides,
        outputs.class_logits,
        outputs.objectness_logits,
        boxes * sides,
        classes,
        map_sizes,
        center_radius=model.config.center_radius,
        candidate_top_k=model.config.candidate_top_k,
        iou_cost_weight=model.config.iou_cost_weight,
    )
    anchors = make_anchors(map_sizes, pixel_values.device)
    sheet = Image.new("RGB", (count * width, height))
    for index in range(count):
        image = _to_image(pixel_values[index])
        matched = assignment.matched_gt[index].where(assignment.foreground_mask[index], -1)
        targets = range(len(labels[index]["boxes"]))
        counts = [int((matched == target).sum()) for target in targets]
        corners = to_corners(boxes[index, : len(counts)] * sides).tolist()
        image = draw_boxes(image, corners, list(targets), [f"{number} anchors" for number in counts])
        draw = ImageDraw.Draw(image)
        for anchor in (matched >= 0).nonzero()[:, 0].tolist():
            stride = float(anchors.strides[anchor])
            x, y = ((anchors.cells[anchor] + 0.5) * stride).tolist()
            radius = stride / 8 + 1
            color = class_color(int(matched[anchor]))
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color, outline="black")
        sheet.paste(image, (index * width, 0))
    sheet.save(path)


def _to_image(pixels: torch.Tensor) -> Image.Image:
    """(3, height, width), levels 0..255."""
    return Image.fromarray(pixels.clamp(0, 255).round().to("cpu", torch.uint8).permute(1, 2, 0).numpy())
