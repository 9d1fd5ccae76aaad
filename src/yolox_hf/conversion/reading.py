# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Checkpoint files: read without running anything in them, and without trusting their shape."""

import codecs
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

EMA_KEYS = ("ema_model", "ema")
WEIGHT_KEYS = (*EMA_KEYS, "model", "state_dict")


def _numpy_scalar_globals() -> list[Any]:
    """What a pickled NumPy scalar names: the original's trainer stores its best AP as one."""
    reconstruct = np.float64(0).__reduce__()[0]  # moved from numpy.core to numpy._core in NumPy 2
    dtypes = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?")]
    names = [(reconstruct, f"{package}.multiarray.scalar") for package in ("numpy.core", "numpy._core")]
    # Pickle protocol 2 stores the scalar's bytes as text to encode.
    return [*names, np.dtype, *dtypes, codecs.encode]


class Checkpoint(NamedTuple):
    """What a file holds.

    Attributes:
        weights: the state dict, in whatever layout.
        class_names: in the order of the class indices, where the file names them.
        image_size: height and width of the padded input, where the file says.
    """

    weights: dict[str, torch.Tensor]
    class_names: list[str] | None = None
    image_size: tuple[int, int] | None = None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Weights, and what else is of use, of a `.pth` or `.pt` file, without executing anything the file says.

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
    return Checkpoint(_find_weights(checkpoint, path), _find_class_names(checkpoint), _find_image_size(checkpoint))


def _find_weights(checkpoint: Any, path: Path) -> dict[str, torch.Tensor]:
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"{path} holds a {type(checkpoint).__name__}, not a state dict.")
    containers = [checkpoint[key] for key in WEIGHT_KEYS if isinstance(checkpoint.get(key), Mapping)]
    for container in (*containers, checkpoint):
        weights = {key: value for key, value in container.items() if isinstance(value, torch.Tensor)}
        if weights:
            break
    else:
        raise ValueError(f"{path} holds no weights; its keys are {shorten(map(str, checkpoint))}.")
    broken = [key for key, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise ValueError(f"{path} has weights that are not finite (NaN or infinite): {shorten(broken)}.")
    return _without_shadows({_strip_wrappers(key): value for key, value in weights.items()})


def _without_shadows(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """mmdetection 2 keeps a second copy of `a.b` beside it, as `ema_a_b`.

    It swaps averaged and raw weights before it saves, and so does mmdetection 3 (`ema_state_dict`): in its files the
    averages have the plain names, and what is called EMA are the raw weights.
    """
    shadows = {"ema_" + key.replace(".", "_") for key in weights}
    return {key: value for key, value in weights.items() if key not in shadows}


def _find_class_names(checkpoint: Mapping[str, Any]) -> list[str] | None:
    """LibreYOLO has `names`, mmdetection `meta.CLASSES` (2.x) or `meta.dataset_meta.classes` (3.x)."""
    meta = checkpoint.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    dataset = meta.get("dataset_meta")
    dataset = dataset if isinstance(dataset, Mapping) else {}
    for names in (checkpoint.get("names"), meta.get("CLASSES"), dataset.get("classes"), dataset.get("CLASSES")):
        if isinstance(names, Mapping):  # from the index, a number or its digits
            by_index = {str(index): name for index, name in names.items()}
            names = [by_index[str(index)] for index in range(len(names)) if str(index) in by_index]
        if isinstance(names, (list, tuple)):
            return [str(name) for name in names]
    return None


def _find_image_size(checkpoint: Mapping[str, Any]) -> tuple[int, int] | None:
    """LibreYOLO has `imgsz`, a side or (height, width)."""
    size = checkpoint.get("imgsz")
    sides = (size, size) if isinstance(size, int) else size
    if isinstance(sides, (list, tuple)) and len(sides) == 2 and all(isinstance(side, int) for side in sides):
        return sides[0], sides[1]
    return None


def _strip_wrappers(key: str) -> str:
    while key.startswith(("module.", "_orig_mod.")):
        key = key.split(".", 1)[1]
    return key


def shorten(names: Iterable[str], limit: int = 12) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
