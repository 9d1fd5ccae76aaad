# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
import pytest
import torch

from yolox_hf import YoloxConfig, YoloxForObjectDetection
from yolox_hf.configuration_yolox import VARIANTS
from yolox_hf.counting import count_flops

# Parameters in millions and GFLOPs as the original publishes them.
PUBLISHED = {
    "yolox-nano": ("0.91", "1.08"),
    "yolox-tiny": ("5.06", "6.45"),
    "yolox-s": ("9.0", "26.8"),
    "yolox-m": ("25.3", "73.8"),
    "yolox-l": ("54.2", "155.6"),
    "yolox-x": ("99.1", "281.9"),
    "yolox-darknet53": ("63.7", "185.3"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_size_and_cost_are_those_published(variant):
    parameters, gflops = PUBLISHED[variant]
    config, side = YoloxConfig.from_variant(variant), VARIANTS[variant]["image_size"]
    with torch.device("meta"):
        model = YoloxForObjectDetection(config)
    assert f"{model.num_parameters() / 1e6:.{len(parameters.split('.')[1])}f}" == parameters
    assert f"{count_flops(config, (side, side)) / 1e9:.{len(gflops.split('.')[1])}f}" == gflops
