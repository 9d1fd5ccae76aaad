"""Shared fixtures. Reference material lies in `../shared` (or `YOLOX_HF_SHARED`); without it those tests skip."""

import importlib.util
import os
from pathlib import Path

# Before any Hugging Face library is imported: no test may reach the network, and bars would fill the log.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import numpy as np
import pytest
import torch
from PIL import Image

from yolox_hf import YoloxConfig, YoloxForObjectDetection
from yolox_hf.conversion import convert_checkpoint

SHARED = Path(os.environ.get("YOLOX_HF_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    if not (SHARED / "reference" / "recipe.py").is_file():
        pytest.skip(f"reference material is not at {SHARED}; set YOLOX_HF_SHARED to its folder")
    return SHARED


@pytest.fixture(scope="session")
def recipe(shared):
    """The module that makes the reference's weights, images and targets from keys and seeds."""
    spec = importlib.util.spec_from_file_location("recipe", shared / "reference" / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def nano_dir(shared, tmp_path_factory) -> Path:
    """The real COCO YOLOX-Nano, converted."""
    folder = tmp_path_factory.mktemp("converted") / "yolox-nano"
    convert_checkpoint(shared / "weights" / "yolox_nano.pth", folder)
    return folder


@pytest.fixture(scope="session")
def dog(shared) -> Image.Image:
    return Image.open(shared / "images" / "dog.jpg").convert("RGB")


def small_config(**kwargs) -> YoloxConfig:
    """A CSPDarknet of a few thousand parameters."""
    fields = {
        "stem_channels": 8,
        "stage_channels": (8, 8, 16, 16),
        "depths": (1, 1, 1, 1),
        "head_channels": 8,
        "num_labels": 3,
    }
    return YoloxConfig(**{**fields, **kwargs})


@pytest.fixture
def small_model() -> YoloxForObjectDetection:
    torch.manual_seed(0)
    return YoloxForObjectDetection(small_config()).eval()


@pytest.fixture
def photo() -> np.ndarray:
    """A photo of 90 x 120 pixels, uint8 RGB: smooth colours that differ between channels and directions."""
    rows, columns = np.mgrid[0:90, 0:120]
    return np.stack((rows * 2, columns * 2, (rows + columns) % 256), axis=-1).astype(np.uint8)


def images(seed: int, batch_size: int, height: int, width: int) -> torch.Tensor:
    """(batch_size, 3, height, width) float32 levels in 0..255."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch_size, 3, height, width), generator=generator).float()
