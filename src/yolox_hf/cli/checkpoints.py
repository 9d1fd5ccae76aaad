# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""`yolox-hf convert`, `yolox-hf push` and `yolox-hf info`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..conversion import resolve_model
from ..detection import Detector
from .common import ImageSize, Json


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth, .pt or .onnx file; with --to-original, a model folder.")],
    output: Annotated[Path, typer.Argument(help="The model folder; with --to-original, the .pth file.")],
    to_original: Annotated[bool, typer.Option("--to-original", help="Back to the original's layout.")] = False,
    variant: Annotated[str | None, typer.Option(help="What the checkpoint must be; found in it by default.")] = None,
    labels: Annotated[Path | None, typer.Option(help="File with one class name on each line.")] = None,
    image_size: ImageSize = None,
    preprocessing: Annotated[
        str, typer.Option(help="How the training images looked: bgr255, rgb255 or rgb_imagenet.")
    ] = "bgr255",
) -> None:
    """Convert a YOLOX checkpoint of any known layout to a model folder, or back to the original's."""
    from ..conversion import convert_checkpoint, export_original

    if to_original:
        export_original(checkpoint, output)
    else:
        convert_checkpoint(
            checkpoint,
            output,
            variant=variant,
            labels=labels,
            image_size=image_size,
            preprocessing=preprocessing,
        )
    print(f"Written to {output}")


def push(
    folder: Annotated[Path, typer.Argument(help="A model folder.")],
    repo: Annotated[str, typer.Argument(help="The Hub repository, as owner/name.")],
    upload: Annotated[bool, typer.Option("--upload", help="Really upload.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
) -> None:
    """Upload a model folder with its card to the Hub, in one commit; without --upload, show what would be sent."""
    from ..hub import push_to_hub

    result = push_to_hub(folder, repo, private=private, dry_run=not upload)
    for name, size in result.files.items():
        print(f"{size:12,}  {name}")
    print(f"Uploaded: {result.url}" if upload else f"Nothing was sent to {repo}; --upload does.")


def info(
    model: Annotated[str, typer.Argument(help="Folder of a model, Hub repository, or official name.")],
    as_json: Json = False,
) -> None:
    """Parameters, GFLOPs, input size, labels, origin and checksum of a model."""
    folder = resolve_model(model)
    detector = Detector(folder, device="cpu")
    from ..conversion import file_sha256
    from ..counting import count_flops

    height, width = detector.processor.size["height"], detector.processor.size["width"]
    facts: dict[str, Any] = {
        "model": model,
        "parameters": detector.model.num_parameters(),
        "gflops": round(count_flops(detector.model.config, (height, width)) / 1e9, 2),
        "input": [height, width],
        "labels": [label for _, label in sorted(detector.model.config.id2label.items())],
    }
    weights, provenance = Path(folder) / "model.safetensors", Path(folder) / "conversion.json"
    if weights.is_file():
        facts["sha256"] = file_sha256(weights)
    if provenance.is_file():
        facts["origin"] = json.loads(provenance.read_text(encoding="utf-8"))
    if as_json:
        json.dump(facts, sys.stdout)
        print()
        return
    facts["input"] = f"{height} x {width}"
    facts["parameters"] = f"{facts['parameters']:,}"
    facts["labels"] = f"{len(facts['labels'])}: {', '.join(facts['labels'])}"
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {entry}" for key, entry in value.items())
        print(f"{name:11} {value}")
