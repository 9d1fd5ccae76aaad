# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Checkpoints to model folders, and back."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.utils import CONFIG_NAME

from ..configuration_yolox import COCO_CLASSES, YoloxConfig, get_variant
from ..image_processing_yolox import YoloxImageProcessor
from ..modeling_yolox import YoloxForObjectDetection
from .layouts import convert_state_dict, identify_checkpoint, restore_state_dict, to_original_layout
from .onnx_graph import check_against_onnx, read_onnx
from .reading import Checkpoint, read_checkpoint, shorten

PROVENANCE_FILE = "conversion.json"
PREPROCESSING: dict[str, dict[str, bool]] = {
    "bgr255": {},  # the original since 0.1.0; the stem is flipped to take RGB
    "rgb255": {},
    "rgb_imagenet": {"do_rescale": True, "do_normalize": True},  # the original's 0.0.1 release, ByteTrack
}
"""How a checkpoint's training images looked, and what the image processor does about it."""


def read_labels(path: str | Path, num_labels: int) -> dict[int, str]:
    """Class names from a text file, one on each line in the order of the class indices.

    Raises:
        OSError: the file cannot be read.
        ValueError: it does not have `num_labels` names, or names one twice.
    """
    names = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(names) != num_labels:
        raise ValueError(f"{path} has {len(names)} names, but the checkpoint has {num_labels} classes.")
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{path} names {shorten(sorted(twice))} more than once.")
    return dict(enumerate(names))


def convert_checkpoint(
    checkpoint: str | Path,
    output_dir: str | Path,
    *,
    variant: str | None = None,
    labels: str | Path | None = None,
    image_size: tuple[int, int] | None = None,
    preprocessing: str = "bgr255",
    source: str | None = None,
) -> tuple[YoloxForObjectDetection, YoloxImageProcessor]:
    """Convert an original checkpoint to a folder that transformers loads, with the package or as remote code.

    Args:
        checkpoint: a `.pth`, `.pth.tar` or `.pt` file of the original, ByteTrack, mmdetection, pixeltable-yolox or
            LibreYOLO; or an `.onnx` export with folded batch norm, which becomes a trainable model whose batch norms
            do nothing, and is compared with ONNX Runtime.
        output_dir: where `config.json`, `model.safetensors`, `preprocessor_config.json`, the code and
            `conversion.json` (source, SHA-256, variant, preprocessing) go.
        variant: what the checkpoint is expected to be; found from the tensors by default.
        labels: file with one class name on each line. By default the checkpoint's names, or COCO's if there are 80.
        image_size: height and width of the padded input, multiples of 32; by default the checkpoint's or the
            variant's.
        preprocessing: a key of `PREPROCESSING`, how the training images looked.
        source: where the file comes from, for `conversion.json`; its name by default.

    Returns:
        The model and the image processor, as they were saved.

    Raises:
        OSError: a file cannot be read or the folder not be written.
        ValueError: arguments out of range, or a checkpoint that does not fit them.
    """
    if preprocessing not in PREPROCESSING:
        raise ValueError(f"`preprocessing` must be one of {', '.join(PREPROCESSING)}, got {preprocessing!r}.")
    if variant is not None:
        get_variant(variant)
    output_dir = Path(output_dir)
    if output_dir.exists() and not output_dir.is_dir():
        raise OSError(f"The output directory {output_dir} is a file.")

    from_onnx = Path(checkpoint).suffix == ".onnx"
    loaded = read_onnx(checkpoint) if from_onnx else read_checkpoint(checkpoint)
    image_size = image_size or loaded.image_size
    if image_size is not None and any(side < 32 or side % 32 for side in image_size):
        raise ValueError(
            f"`image_size` must be positive multiples of 32, got {' x '.join(map(str, image_size))}. By default it "
            "is what the checkpoint says, or the variant's."
        )
    state_dict = to_original_layout(loaded.weights)
    found, num_labels = identify_checkpoint(state_dict)
    if variant not in (None, found):
        raise ValueError(f"{checkpoint} is a {found} checkpoint, not {variant}.")
    config = YoloxConfig.from_variant(found, **_label_fields(labels, loaded, num_labels))
    flip_channels = preprocessing == "bgr255"
    weights = convert_state_dict(state_dict, config, flip_channels)
    with torch.device("meta"):
        model = YoloxForObjectDetection(config)
    model.load_state_dict(weights, assign=True)
    model.eval()
    if from_onnx:
        check_against_onnx(model, checkpoint, flip_channels)
    size = {} if image_size is None else {"size": {"height": image_size[0], "width": image_size[1]}}
    processor = YoloxImageProcessor.from_variant(found, **PREPROCESSING[preprocessing], **size)
    provenance = {
        "source": source or Path(checkpoint).name,
        "sha256": file_sha256(checkpoint),
        "variant": found,
        "preprocessing": preprocessing,
    }

    # Complete beside it before anything is in the folder, so that an interruption leaves no half model there.
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir.parent, prefix=f".{output_dir.name}.") as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        (Path(folder) / PROVENANCE_FILE).write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
        output_dir.mkdir(exist_ok=True)
        # A folder is a model once it has its config: that goes first and comes last.
        (output_dir / CONFIG_NAME).unlink(missing_ok=True)
        for path in sorted(Path(folder).iterdir(), key=lambda path: path.name == CONFIG_NAME):
            path.replace(output_dir / path.name)
    return model, processor


def _label_fields(labels: str | Path | None, loaded: Checkpoint, num_labels: int) -> dict[str, Any]:
    """Class names for the config: the user's, else the checkpoint's, else COCO's if there are 80."""
    names: Sequence[str] | None = loaded.class_names
    if labels is not None:
        return {"id2label": read_labels(labels, num_labels)}
    if names is not None and len(names) == len(set(names)) == num_labels:
        return {"id2label": dict(enumerate(names))}
    return {} if num_labels == len(COCO_CLASSES) else {"num_labels": num_labels}


def export_original(model_dir: str | Path, path: str | Path) -> None:
    """Write a model folder as a checkpoint of the original, for its tools (TensorRT, ncnn and OpenVINO demos).

    The tensors are those that the folder was converted from, to the bit. The result takes BGR with levels 0..255, as
    the original's code gives it, unless the folder was converted from a checkpoint that does not. Of a folder that was
    trained here, and has no `conversion.json`, this is taken from its processor: normalised images are RGB.

    Args:
        model_dir: a folder with `config.json` and `model.safetensors`.
        path: of the `.pth` file.

    Raises:
        OSError: the folder is no model folder, or the file cannot be written.
    """
    model_dir, path = Path(model_dir), Path(path)
    if not (model_dir / "config.json").is_file():
        raise OSError(f"{model_dir} is no model folder: it has no config.json.")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise OSError(f"{path} must be a file in a folder that exists.")
    model = YoloxForObjectDetection.from_pretrained(model_dir)
    provenance = model_dir / PROVENANCE_FILE
    settings = model_dir / "preprocessor_config.json"
    if provenance.is_file():
        flip_channels = json.loads(provenance.read_text(encoding="utf-8")).get("preprocessing") == "bgr255"
    else:
        normalised = settings.is_file() and json.loads(settings.read_text(encoding="utf-8")).get("do_normalize")
        flip_channels = not normalised
    state_dict = restore_state_dict(model.state_dict(), model.config, flip_channels)
    with tempfile.TemporaryDirectory(dir=path.absolute().parent) as folder:
        torch.save({"model": state_dict, "start_epoch": 0}, Path(folder) / path.name)
        (Path(folder) / path.name).replace(path)


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
