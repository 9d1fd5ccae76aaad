# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""`yolox-hf export`."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .common import ImageSize


class Format(str, Enum):
    onnx = "onnx"
    openvino = "openvino"
    executorch = "executorch"
    torch = "torch"


class Boxes(str, Enum):
    decoded = "decoded"
    raw = "raw"


def export(
    model: Annotated[str, typer.Argument(help="Folder of a model, Hub repository, or official name.")],
    output: Annotated[Path, typer.Argument(help="The folder to make.")],
    format: Annotated[Format, typer.Option(help="What runs it.")] = Format.onnx,
    boxes: Annotated[Boxes, typer.Option(help="Decoded in the graph, or as the head returns them.")] = Boxes.decoded,
    nms: Annotated[bool, typer.Option("--nms", help="End the graph in non-maximum suppression.")] = False,
    nms_threshold: Annotated[float, typer.Option(min=0, max=1, help="With --nms: its IoU.")] = 0.65,
    score_threshold: Annotated[float, typer.Option(min=0, max=1, help="With --nms: the least score.")] = 0.01,
    static: Annotated[bool, typer.Option("--static", help="For one image of one size; by default for any.")] = False,
    image_size: ImageSize = None,
    int8: Annotated[
        Path | None, typer.Option(help="Quantise to int8, by these photos.", metavar="FOLDER_OF_PHOTOS")
    ] = None,
) -> None:
    """Export a model to a folder that ONNX Runtime, OpenVINO, ExecuTorch or torch.export runs.

    The other commands take the folder as --model.
    """
    from ..export import export_model

    export_model(
        model,
        output,
        format=format.value,
        boxes=boxes.value,
        nms=nms,
        nms_threshold=nms_threshold,
        score_threshold=score_threshold,
        dynamic=False if static else None,
        image_size=image_size,
        calibration=int8,
    )
    print(f"Written to {output}")
