# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""What a forward pass costs."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .configuration_yolox import YoloxConfig
from .modeling_yolox import YoloxForObjectDetection


def count_flops(config: YoloxConfig, image_size: tuple[int, int]) -> int:
    """Floating point operations of one image through `YoloxForObjectDetection`, by the original's convention.

    That is two for each multiply-add of a convolution, four for each number through a batch norm, two for each through
    a LeakyReLU, and none for SiLU, pooling and resizing; it gives the original's published table for all variants.

    Args:
        config: of the model; nothing is allocated for it.
        image_size: height and width of the padded input.
    """
    with torch.device("meta"):
        model = YoloxForObjectDetection(config).eval()
        pixel_values = torch.empty(1, config.num_channels, *image_size)
    elementwise = 0

    def count(cost: int):
        def hook(module, inputs, output):
            nonlocal elementwise
            elementwise += cost * output.numel()

        return hook

    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(count(4))
        elif isinstance(module, nn.LeakyReLU):
            module.register_forward_hook(count(2))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(pixel_values)
    return counter.get_total_flops() + elementwise
