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
        image = Image.fromarray(pixels.clamp(0, 255).round().to("cpu", torch.uint8).permute(1, 2, 0).numpy())
        classes, boxes = label["class_labels"].cpu(), label["boxes"].float().cpu()
        boxes = boxes[classes >= 0] * torch.tensor([width, height, width, height])
        classes = classes[classes >= 0].tolist()
        corners = torch.cat((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), dim=1)
        image = draw_boxes(image, corners.tolist(), classes, [id2label[category] for category in classes])
        sheet.paste(image, (index % columns * width, index // columns * height))
    sheet.save(path)
