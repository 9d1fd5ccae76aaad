# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""`yolox-hf demo`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ..cards import DEMO_MODEL
from ..detection import Detector, describe
from ..scenes import render_scene
from .common import Json, annotate, check_output_dir


def demo(
    output_dir: Annotated[Path, typer.Option(help="Folder for the picture.")] = Path("."),
    seed: Annotated[int, typer.Option(help="Which scene; those from 1000 on were never trained on.")] = 1000,
    as_json: Json = False,
) -> None:
    """Detect shapes in a rendered scene with the small model that comes with the package. Needs no network."""
    check_output_dir(output_dir)
    detector = Detector(str(DEMO_MODEL), threshold=0.4, nms_threshold=0.45)
    image, truth = render_scene(seed, width=640, height=512)
    (result,) = detector([image])
    id2label = detector.model.config.id2label
    found = describe(result, id2label)
    picture = output_dir / "yolox-demo.png"
    annotate(image, result, id2label).save(picture)
    if as_json:
        print(json.dumps({"picture": str(picture), "detections": found}))
        return
    print("score  shape      x1     y1     x2     y2")
    for item in found:
        print(f"{item['score']:.3f}  {item['label']:8}", *(f"{side:6.1f}" for side in item["box"]))
    print(f"{len(found)} detections; {len(truth['bbox'])} shapes are in the scene.")
    print(f"The picture: {picture.absolute()}")
    print("Next: `yolox-hf demo --seed 1001` for another scene, or, in your own photo with the official weights,")
    print("      `yolox-hf detect PHOTO.jpg --model yolox-s`.")
