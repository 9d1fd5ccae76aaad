# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""The original's released weights, by the names of their variants."""

import tempfile
from pathlib import Path
from urllib.error import URLError

import torch
from huggingface_hub import constants

from ..configuration_yolox import VARIANTS, get_variant
from .converting import convert_checkpoint

OFFICIAL_URL = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/"
OFFICIAL_FILES = {
    variant: f"yolox_{variant.removeprefix('yolox-')}.pth" for variant in VARIANTS if variant != "yolox-darknet53"
} | {"yolox-darknet53": "yolox_darknet.pth"}


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


def resolve_model(model: str | Path) -> str:
    """The folder or repository that a name means; an official name is downloaded and converted once.

    Args:
        model: a model folder, a Hub repository as owner/name, or a key of `VARIANTS`.

    Raises:
        OSError: there is no such folder, or the official weights cannot be downloaded.
    """
    name, path = str(model), Path(model)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise OSError(f"`model` {name} is a folder without config.json; convert a checkpoint into it first.")
        return name
    if path.exists():
        raise OSError(f"`model` {name} is a file; `yolox-hf convert {name} FOLDER` makes a model folder of it.")
    if name in VARIANTS:
        cached = Path(constants.HF_HOME) / "yolox-hf" / name
        if not cached.is_dir():
            if constants.HF_HUB_OFFLINE:
                raise OSError(
                    f"The weights of {name} are not cached in {cached} and HF_HUB_OFFLINE forbids to download them."
                )
            cached.parent.mkdir(parents=True, exist_ok=True)
            # Converted beside the cache and moved at the end, so that what lies in the cache is whole.
            with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
                checkpoint, source = download_official(name, folder)
                convert_checkpoint(checkpoint, Path(folder) / name, variant=name, source=source)
                (Path(folder) / name).rename(cached)
        return str(cached)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise OSError(f"`model` {name} is no folder, and none of the official names {', '.join(VARIANTS)}.")
    return name
