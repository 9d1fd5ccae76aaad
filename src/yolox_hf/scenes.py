# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Rendered scenes of simple shapes with exact boxes: a detection task without anyone's photos.

The demo checkpoint is trained on them, and tests and tutorials take their data from here. The same seed and index give
the same scene at every size.
"""

import colorsys
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Ring = list[tuple[float, float]]

_OVERSAMPLING = 3  # masks are drawn this much larger, for smooth edges
_MIN_VISIBLE = 0.6  # of a shape's area: what is left of a hidden one may look like another class


def _arc(radius: float, start: float, stop: float, steps: int = 48, center: tuple[float, float] = (0, 0)) -> Ring:
    angles = (math.radians(start + (stop - start) * step / steps) for step in range(steps + 1))
    return [(center[0] + radius * math.cos(angle), center[1] + radius * math.sin(angle)) for angle in angles]


def _polygon(corners: int, radius: float = 1.0) -> Ring:
    return _arc(radius, -90, 270, corners)[:-1]


def _star() -> Ring:
    return [point for pair in zip(_polygon(5), _arc(0.42, -54, 306, 5)[:-1]) for point in pair]


def _cross() -> Ring:
    quarter = [(0.3, -1.0), (0.3, -0.3), (1.0, -0.3)]
    turns = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    return [(x * c - y * s, x * s + y * c) for c, s in turns for x, y in quarter]


def _heart() -> Ring:
    angles = (math.tau * step / 64 for step in range(64))
    return [
        (
            math.sin(angle) ** 3,
            -(13 * math.cos(angle) - 5 * math.cos(2 * angle) - 2 * math.cos(3 * angle) - math.cos(4 * angle)) / 16,
        )
        for angle in angles
    ]


def _crescent() -> Ring:
    return _arc(1.0, 50, 310) + _arc(0.8, 286, 74, center=(0.42, 0))


def _arrow() -> Ring:
    return [(1, 0), (0.2, -0.8), (0.2, -0.3), (-1, -0.3), (-1, 0.3), (0.2, 0.3), (0.2, 0.8)]


SHAPES: dict[str, Callable[[], list[Ring]]] = {
    "disc": lambda: [_polygon(64)],
    "ring": lambda: [_polygon(64), _polygon(64, 0.55)],
    "triangle": lambda: [_polygon(3)],
    "square": lambda: [_polygon(4)],
    "star": lambda: [_star()],
    "cross": lambda: [_cross()],
    "heart": lambda: [_heart()],
    "crescent": lambda: [_crescent()],
    "arrow": lambda: [_arrow()],
}
"""The classes, in the order of their indices: an outline and its holes, about the origin and within radius 1 or so."""


def render_scene(
    seed: int, index: int = 0, width: int = 320, height: int = 256
) -> tuple[Image.Image, dict[str, list]]:
    """A picture of shapes before clutter, some of them in front of others.

    Args:
        seed, index: which scene of which series.
        width, height: of the picture in pixels.

    Returns:
        The RGB image, and its objects: `bbox`, lists of (x, y, width, height) in pixels around what is visible, and
        `category`, indices into `SHAPES`. Shapes of which less than 60 % is visible are not among them.
    """
    generator = random.Random(f"{seed}/{index}")
    side = min(width, height)
    image = Image.blend(_material(generator, width, height), Image.new("RGB", (width, height), "gray"), 0.5)
    for _ in range(generator.randint(2, 8)):  # clutter: zigzag lines in the background's tones
        corners = [(generator.uniform(0, width), generator.uniform(0, height)) for _ in range(generator.randint(2, 4))]
        color = tuple(generator.randint(64, 192) for _ in range(3))
        ImageDraw.Draw(image).line(corners, fill=color, width=max(1, round(side * generator.uniform(0.005, 0.03))))

    outlines = list(SHAPES.values())
    shapes: list[tuple[int, float, Image.Image]] = []  # class, whole area, visible part
    # From large to small: otherwise the large ones would hide the small ones.
    radii = sorted((side * 0.05 * 7 ** generator.random() for _ in range(generator.randint(3, 9))), reverse=True)
    for radius in radii:
        category = generator.randrange(len(outlines))
        rings = _place(generator, outlines[category](), radius, width, height)
        mask = _mask(rings, width, height)
        image.paste(_material(generator, width, height), mask=mask)
        shapes = [(other, area, ImageChops.subtract(visible, mask)) for other, area, visible in shapes]
        shapes.append((category, _area(rings), mask))

    noise = np.random.default_rng((seed, index)).normal(0, generator.uniform(0, 8), (height, width, 1))
    image = image.filter(ImageFilter.GaussianBlur(generator.uniform(0, 0.003) * side))
    image = Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
    objects: dict[str, list] = {"bbox": [], "category": []}
    for category, area, visible in shapes:
        solid = visible.point(lambda level: 255 * (level >= 128))
        box = solid.getbbox()
        if box is not None and solid.histogram()[255] >= _MIN_VISIBLE * area:
            objects["bbox"].append([box[0], box[1], box[2] - box[0], box[3] - box[1]])
            objects["category"].append(category)
    return image, objects


def _material(generator: random.Random, width: int, height: int) -> Image.Image:
    """A gradient from a vivid colour to a shade of it, or stripes of both."""
    hue, saturation, value = generator.random(), generator.uniform(0.4, 1.0), generator.choice((0.3, 0.9, 1.0))
    vivid, shade = (
        tuple(round(255 * level) for level in colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value * darkness))
        for turn, darkness in ((0, 1), (generator.uniform(-0.1, 0.1), 0.7))
    )
    image = Image.new("RGB", (width, height), vivid)
    ramp = Image.linear_gradient("L").rotate(generator.choice((0, 90, 180, 270)))
    if generator.random() < 0.25:
        stripes = generator.randint(4, 24)
        ramp = ramp.point(lambda level: 255 * (level * stripes // 256 % 2))
    image.paste(shade, mask=ramp.resize((width, height)))
    return image


def _place(generator: random.Random, rings: list[Ring], radius: float, width: int, height: int) -> list[Ring]:
    """The rings in pixels, turned and a little squeezed, some of them cut by the picture's edge."""
    inset = radius / 2
    x, y = generator.uniform(inset, width - inset), generator.uniform(inset, height - inset)
    angle, squeeze = generator.uniform(0, math.tau), generator.uniform(0.8, 1.0)
    cosine, sine = math.cos(angle) * radius, math.sin(angle) * radius
    return [
        [(x + cosine * px - sine * py * squeeze, y + sine * px + cosine * py * squeeze) for px, py in ring]
        for ring in rings
    ]


def _area(rings: list[Ring]) -> float:
    """Of the first ring without the others, its holes."""
    areas = [
        abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1]))) / 2 for ring in rings
    ]
    return 2 * areas[0] - sum(areas)


def _mask(rings: list[Ring], width: int, height: int) -> Image.Image:
    """Coverage of each pixel, 0 to 255."""
    mask = Image.new("L", (width * _OVERSAMPLING, height * _OVERSAMPLING))
    for index, ring in enumerate(rings):
        corners = [(x * _OVERSAMPLING, y * _OVERSAMPLING) for x, y in ring]
        ImageDraw.Draw(mask).polygon(corners, fill=0 if index else 255)
    return mask.reduce(_OVERSAMPLING)


def write_scenes(
    folder: str | Path, counts: dict[str, int], seed: int = 0, width: int = 320, height: int = 256
) -> None:
    """Write scenes as a COCO dataset: a folder with pictures and `_annotations.coco.json` for each split.

    Args:
        folder: where to; it must be empty or not exist.
        counts: the number of scenes of each split. Each split has scenes of its own, from the seeds `seed`,
            `seed + 1` and so on.
        seed, width, height: as in `render_scene`.

    Raises:
        OSError: the folder holds something, or cannot be written.
        ValueError: a count below 1.
    """
    if any(count < 1 for count in counts.values()):
        raise ValueError(f"`counts` must be at least 1 for each split, got {counts}.")
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OSError(f"{folder} exists and is not an empty folder.")
    categories = [{"id": index, "name": name} for index, name in enumerate(SHAPES)]
    for offset, (split, count) in enumerate(counts.items()):
        (folder / split).mkdir(parents=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(count):
            image, objects = render_scene(seed + offset, index, width, height)
            name = f"{index:06}.png"
            image.save(folder / split / name)
            images.append({"id": index, "file_name": name, "width": width, "height": height})
            for bbox, category in zip(objects["bbox"], objects["category"]):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": index,
                        "category_id": category,
                        "bbox": bbox,
                        "area": bbox[2] * bbox[3],
                        "iscrowd": 0,
                    }
                )
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / split / "_annotations.coco.json").write_text(json.dumps(content), encoding="utf-8")
