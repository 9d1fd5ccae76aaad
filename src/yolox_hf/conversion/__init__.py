# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""YOLOX checkpoints of every known layout to transformers folders, and back to the original's.

`conversion/convert_yolox_to_hf.py` and `yolox-hf convert` are the command lines of this package.
"""

from .converting import (
    PREPROCESSING,
    convert_checkpoint,
    export_original,
    file_sha256,
    read_labels,
)
from .layouts import convert_state_dict, convert_stem, identify_checkpoint, original_key, restore_state_dict
from .official import OFFICIAL_FILES, OFFICIAL_URL, download_official, resolve_model
from .reading import Checkpoint, read_checkpoint

__all__ = [
    "OFFICIAL_FILES",
    "OFFICIAL_URL",
    "PREPROCESSING",
    "Checkpoint",
    "convert_checkpoint",
    "convert_state_dict",
    "convert_stem",
    "download_official",
    "export_original",
    "file_sha256",
    "identify_checkpoint",
    "original_key",
    "read_checkpoint",
    "read_labels",
    "resolve_model",
    "restore_state_dict",
]
