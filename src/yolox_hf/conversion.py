# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Original YOLOX checkpoints to transformers folders: read safely, recognise, rename, write.

The layout of the original (Megvii-BaseDetection/YOLOX, releases 0.0.1 to 0.1.1rc0) is known from its published state
dicts alone. `conversion/convert_yolox_to_hf.py` is this module's command line.
"""

import codecs
import hashlib
import json
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import torch

from .configuration_yolox import COCO_CLASSES, VARIANTS, YoloxConfig, get_variant
from .image_processing_yolox import YoloxImageProcessor
from .modeling_yolox import YoloxForObjectDetection

OFFICIAL_URL = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/"
OFFICIAL_FILES = {
    variant: f"yolox_{variant.removeprefix('yolox-')}.pth" for variant in VARIANTS if variant != "yolox-darknet53"
} | {"yolox-darknet53": "yolox_darknet.pth"}

PREPROCESSING: dict[str, dict[str, bool]] = {
    "bgr255": {},  # the original since 0.1.0; the stem is flipped to take RGB
    "rgb255": {},
    "rgb_imagenet": {"do_rescale": True, "do_normalize": True},  # the original's 0.0.1 release, ByteTrack
}
"""How a checkpoint's training images looked, and what the image processor does about it."""

EMA_KEYS = ("ema_model", "ema", "ema_state_dict")
WEIGHT_KEYS = (*EMA_KEYS, "model", "state_dict")

# ---- reading


def _numpy_scalar_globals() -> list[Any]:
    """What a pickled NumPy scalar names: the original's trainer stores its best AP as one."""
    reconstruct = np.float64(0).__reduce__()[0]  # moved from numpy.core to numpy._core in NumPy 2
    dtypes = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?")]
    names = [(reconstruct, f"{package}.multiarray.scalar") for package in ("numpy.core", "numpy._core")]
    # Pickle protocol 2 stores the scalar's bytes as text to encode.
    return [*names, np.dtype, *dtypes, codecs.encode]


def read_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """The state dict inside a `.pth` file, without executing anything the file says.

    Averaged (EMA) weights are preferred to raw ones, and the prefixes of wrapped models (`module.`, `_orig_mod.`) are
    taken off.

    Raises:
        OSError: the file does not exist or cannot be read.
        ValueError: it is no PyTorch checkpoint, is truncated, names a global other than NumPy's scalars (a pickle can
            run code through them), or holds no weights, or weights that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise OSError(f"There is no checkpoint file at {path}.")
    try:
        with torch.serialization.safe_globals(_numpy_scalar_globals()):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
        UnicodeDecodeError,
        ValueError,
        KeyError,
        IndexError,
    ) as error:
        # The restricted unpickler names the global it stopped at. The rest of its message advises to trust the file.
        if unsafe := re.search(r"\bGLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{path} was refused and nothing in it was run: besides weights it names {unsafe.group(1)}, and a "
                "pickle can execute code through such a name. If you trust its source, load it there and save the "
                "state dict alone."
            ) from None
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes) is not a readable PyTorch checkpoint: it is truncated, or "
            "something else."
        ) from None
    return _find_weights(checkpoint, path)


def _find_weights(checkpoint: Any, path: Path) -> dict[str, torch.Tensor]:
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"{path} holds a {type(checkpoint).__name__}, not a state dict.")
    containers = [checkpoint[key] for key in WEIGHT_KEYS if isinstance(checkpoint.get(key), Mapping)]
    for container in (*containers, checkpoint):
        weights = {key: value for key, value in container.items() if isinstance(value, torch.Tensor)}
        if weights:
            break
    else:
        raise ValueError(f"{path} holds no weights; its keys are {_shorten(map(str, checkpoint))}.")
    broken = [key for key, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise ValueError(f"{path} has weights that are not finite (NaN or infinite): {_shorten(broken)}.")
    return {_strip_wrappers(key): value for key, value in weights.items()}


def _strip_wrappers(key: str) -> str:
    while key.startswith(("module.", "_orig_mod.")):
        key = key.split(".", 1)[1]
    return key


def _shorten(names: Iterable[str], limit: int = 12) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


# ---- recognising


def identify_checkpoint(state_dict: Mapping[str, torch.Tensor]) -> tuple[str, int]:
    """Variant and number of classes of an original checkpoint, from the shapes of its tensors.

    Raises:
        ValueError: it is no YOLOX checkpoint in the original's layout, or of a size that is none of the variants.
    """
    classifier = state_dict.get("head.cls_preds.0.weight")
    if classifier is not None and "backbone.backbone.stem.0.conv.weight" in state_dict:
        return "yolox-darknet53", classifier.shape[0]
    stem = state_dict.get("backbone.backbone.stem.conv.conv.weight")
    if stem is None or classifier is None:
        raise ValueError(
            "This is not a YOLOX checkpoint in the original's layout: `backbone.backbone.stem...` or "
            f"`head.cls_preds.0.weight` is missing. Its keys are {_shorten(state_dict, 6)}."
        )
    width = stem.shape[0]
    depth = len({key.split(".")[5] for key in state_dict if key.startswith("backbone.backbone.dark2.1.m.")})
    depthwise = "backbone.backbone.dark2.0.dconv.conv.weight" in state_dict
    for variant, fields in VARIANTS.items():
        if (fields["stem_channels"], fields["depths"][0], fields["depthwise"]) == (width, depth, depthwise):
            return variant, classifier.shape[0]
    raise ValueError(
        f"This YOLOX checkpoint is none of {', '.join(VARIANTS)}: its stem has {width} channels, its first stage "
        f"{depth} blocks, and its convolutions are {'depthwise' if depthwise else 'dense'}."
    )


# ---- renaming

_CSP_MODULES = {
    "model.backbone.stem.": "backbone.backbone.stem.conv.",
    **{f"model.backbone.stages.{i}.downsample.": f"backbone.backbone.dark{i + 2}.0." for i in range(4)},
    **{f"model.backbone.stages.{i}.csp.": f"backbone.backbone.dark{i + 2}.{1 if i < 3 else 2}." for i in range(4)},
    "model.backbone.stages.3.spp.": "backbone.backbone.dark5.1.",
    "model.neck.lateral_convs.0.": "backbone.lateral_conv0.",
    "model.neck.lateral_convs.1.": "backbone.reduce_conv1.",
    "model.neck.fpn_blocks.0.": "backbone.C3_p4.",
    "model.neck.fpn_blocks.1.": "backbone.C3_p3.",
    "model.neck.downsample_convs.0.": "backbone.bu_conv2.",
    "model.neck.downsample_convs.1.": "backbone.bu_conv1.",
    "model.neck.pan_blocks.0.": "backbone.C3_n3.",
    "model.neck.pan_blocks.1.": "backbone.C3_n4.",
}
_DARKNET_MODULES = {
    **{f"model.backbone.stem.2.conv{k}.": f"backbone.backbone.stem.2.layer{k}." for k in (1, 2)},
    "model.backbone.stem.": "backbone.backbone.stem.",
    **{f"model.backbone.stages.{i}.downsample.": f"backbone.backbone.dark{i + 2}.0." for i in range(4)},
    **{
        f"model.backbone.stages.{i}.blocks.{block}.conv{k}.": f"backbone.backbone.dark{i + 2}.{block + 1}.layer{k}."
        for i, depth in enumerate(VARIANTS["yolox-darknet53"]["depths"])
        for block in range(depth)
        for k in (1, 2)
    },
    **{f"model.backbone.stages.3.spp_block.{i}.": f"backbone.backbone.dark5.{i + 5}." for i in range(5)},
    "model.neck.lateral_convs.0.": "backbone.out1_cbl.",
    "model.neck.lateral_convs.1.": "backbone.out2_cbl.",
    "model.neck.fpn_blocks.0.": "backbone.out1.",
    "model.neck.fpn_blocks.1.": "backbone.out2.",
}
_HEAD_MODULES = {
    "head.stems.": "head.stems.",
    "head.class_convs.": "head.cls_convs.",
    "head.box_convs.": "head.reg_convs.",
    "head.class_predictors.": "head.cls_preds.",
    "head.box_predictors.": "head.reg_preds.",
    "head.objectness_predictors.": "head.obj_preds.",
}
_LAYERS = {
    "norm": "bn",
    "depthwise_conv": "dconv",
    "pointwise_conv": "pconv",
    "main_conv": "conv1",
    "shortcut_conv": "conv2",
    "final_conv": "conv3",
    "blocks": "m",
}


def original_key(key: str, config: YoloxConfig) -> str:
    """The name in the original's state dict of a tensor of `YoloxForObjectDetection(config)`."""
    modules = {**(_DARKNET_MODULES if config.backbone_type == "darknet53" else _CSP_MODULES), **_HEAD_MODULES}
    ours, original = next((ours, original) for ours, original in modules.items() if key.startswith(ours))
    return original + ".".join(_LAYERS.get(part, part) for part in key.removeprefix(ours).split("."))


def convert_stem(weight: torch.Tensor, flip_channels: bool) -> torch.Tensor:
    """The original's stem convolution for RGB input, in the layout of `YoloxDarknet`.

    Args:
        weight: (out_channels, 12, 3, 3) behind "Focus", which orders its 12 channels by column, row and colour of each
            2x2 square; or the plain (out_channels, 3, 3, 3) of Darknet-53.
        flip_channels: the checkpoint takes BGR.

    Returns:
        (out_channels, 3, 6, 6), of stride 2, or (out_channels, 3, 3, 3).
    """
    if weight.shape[1] == 12:
        columns_rows_colours = weight.unflatten(1, (2, 2, 3))
        weight = columns_rows_colours.permute(0, 3, 4, 2, 5, 1).flatten(4).flatten(2, 3)
    return weight.flip(1) if flip_channels else weight


def convert_state_dict(
    state_dict: Mapping[str, torch.Tensor], config: YoloxConfig, flip_channels: bool
) -> dict[str, torch.Tensor]:
    """The state dict of `YoloxForObjectDetection(config)` from an original one, in float32.

    Args:
        state_dict: in the original's layout; not modified.
        config: of the same variant and number of classes.
        flip_channels: the checkpoint takes BGR.

    Raises:
        ValueError: keys are missing, unexpected or of another shape; all of them are named.
    """
    with torch.device("meta"):
        expected = YoloxForObjectDetection(config).state_dict()
    names = {original_key(key, config): key for key in expected}
    problems = []
    if missing := [name for name in names if name not in state_dict]:
        problems.append(f"missing: {_shorten(missing)}")
    if unexpected := [name for name in state_dict if name not in names]:
        problems.append(f"unexpected: {_shorten(unexpected)}")
    converted, misshapen = {}, []
    for name, key in names.items():
        if name not in state_dict:
            continue
        value = state_dict[name]
        if ".backbone.stem." in name and value.ndim == 4 and value.shape[1] in (3, 12):
            value = convert_stem(value, flip_channels)
        if value.shape != expected[key].shape:
            misshapen.append(f"{name} {tuple(state_dict[name].shape)} for our {tuple(expected[key].shape)}")
        converted[key] = value.to(expected[key].dtype).contiguous()
    if misshapen:
        problems.append(f"of another shape: {_shorten(misshapen)}")
    if problems:
        raise ValueError(
            f"The checkpoint does not fit {config.backbone_type} with these widths: {'; '.join(problems)}."
        )
    return converted


# ---- converting


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
        raise ValueError(f"{path} names {_shorten(sorted(twice))} more than once.")
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
        checkpoint: the `.pth` file.
        output_dir: where `config.json`, `model.safetensors`, `preprocessor_config.json`, the code and
            `conversion.json` (source, SHA-256, variant, preprocessing) go.
        variant: what the checkpoint is expected to be; found from the tensors by default.
        labels: file with one class name on each line. COCO's names by default if there are 80 classes.
        image_size: height and width of the padded input, multiples of 32; the variant's by default.
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
    if image_size is not None and any(side < 32 or side % 32 for side in image_size):
        raise ValueError(f"`image_size` must be positive multiples of 32, got {' x '.join(map(str, image_size))}.")
    if variant is not None:
        get_variant(variant)
    output_dir = Path(output_dir)
    if output_dir.exists() and not output_dir.is_dir():
        raise OSError(f"The output directory {output_dir} is a file.")

    state_dict = read_checkpoint(checkpoint)
    found, num_labels = identify_checkpoint(state_dict)
    if variant not in (None, found):
        raise ValueError(f"{checkpoint} is a {found} checkpoint, not {variant}.")
    if labels is not None:
        config = YoloxConfig.from_variant(found, id2label=read_labels(labels, num_labels))
    elif num_labels == len(COCO_CLASSES):
        config = YoloxConfig.from_variant(found)
    else:
        config = YoloxConfig.from_variant(found, num_labels=num_labels)
    weights = convert_state_dict(state_dict, config, flip_channels=preprocessing == "bgr255")
    with torch.device("meta"):
        model = YoloxForObjectDetection(config)
    model.load_state_dict(weights, assign=True)
    model.eval()
    size = {} if image_size is None else {"size": {"height": image_size[0], "width": image_size[1]}}
    processor = YoloxImageProcessor.from_variant(found, **PREPROCESSING[preprocessing], **size)

    model.save_pretrained(output_dir)
    processor.save_pretrained(output_dir)
    provenance = {
        "source": source or Path(checkpoint).name,
        "sha256": file_sha256(checkpoint),
        "variant": found,
        "preprocessing": preprocessing,
    }
    (output_dir / "conversion.json").write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
    return model, processor


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def download_official(variant: str, directory: str | Path) -> tuple[Path, str]:
    """Download the official release file of a variant, with a progress bar.

    Args:
        variant: a key of `VARIANTS`.
        directory: where the file goes; it must exist.

    Returns:
        Path of the file, and the URL it came from.

    Raises:
        OSError: the file cannot be downloaded; the message says what to do instead.
        ValueError: an unknown variant.
    """
    get_variant(variant)
    name = OFFICIAL_FILES[variant]
    url, path = OFFICIAL_URL + name, Path(directory) / name
    try:
        torch.hub.download_url_to_file(url, str(path), progress=True)
    except (URLError, TimeoutError, ConnectionError) as error:
        raise OSError(
            f"{url} could not be downloaded ({error}). Without a network connection, fetch the file elsewhere and "
            f"give its path as the checkpoint."
        ) from None
    return path, url
