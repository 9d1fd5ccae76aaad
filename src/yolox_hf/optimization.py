# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""A detector made ready to serve: the same detections from fewer operations, and a process that waits less."""

import copy
import ctypes

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .modeling_yolox import YoloxConvLayer, YoloxForObjectDetection

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class FoldedConvLayer(nn.Module):
    """A `YoloxConvLayer` in evaluation, its norm folded into the convolution: two modules and not four, as calling
    them takes a thirtieth of YOLOX-Nano's time."""

    def __init__(self, layer: YoloxConvLayer):
        super().__init__()
        conv = fuse_conv_bn_eval(layer.conv, layer.norm)
        self.weight, self.bias, self.activation = conv.weight, conv.bias, layer.activation
        self.stride, self.padding, self.groups = conv.stride, conv.padding, conv.groups

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        return self.activation(
            F.conv2d(hidden_state, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        )


def optimize_for_inference(
    model: YoloxForObjectDetection, *, dtype: torch.dtype | str | None = None, compile: bool = False
) -> YoloxForObjectDetection:
    """A copy of a detector for inference: batch norm folded into the convolutions, weights in channels-last order.

    `pipeline`, `post_process_object_detection` and the exporters take it like any other detector, and in float32 its
    outputs equal the original's to rounding. It cannot be trained or saved for training: its norms are gone.

    Args:
        model: stays as it is. The copy lies on the same device.
        dtype: of the copy; the model's by default. `torch.bfloat16` pays on CPUs with AVX-512 BF16 or AMX and on GPUs,
            `torch.float16` on GPUs. Outputs `logits` and `pred_boxes` are float32 all the same.
        compile: compile the forward pass (`torch.compile`), with CUDA graphs on a GPU. Each new input shape is
            compiled at its first use, which takes a minute or more.

    Returns:
        The copy, in evaluation mode.

    Raises:
        TypeError: the model is no `YoloxForObjectDetection`.
        ValueError: another `dtype`.
    """
    if not isinstance(getattr(model, "head", None), nn.Module) or not hasattr(model, "config"):
        raise TypeError(f"`model` must be a YoloxForObjectDetection, got {type(model).__name__}.")
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype, dtype)
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(map(str, DTYPES))}, got {dtype}.")
    optimized = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(optimized.modules()):
        for name, layer in module.named_children():
            if type(layer).__name__ == YoloxConvLayer.__name__:
                setattr(module, name, FoldedConvLayer(layer))
    optimized.to(dtype=dtype, memory_format=torch.channels_last)
    if compile:
        # Frozen weights are laid out for the CPU once, and let no shape be dynamic.
        on_gpu = optimized.device.type == "cuda"
        optimized.compile(dynamic=False, **({"mode": "max-autotune"} if on_gpu else {"options": {"freezing": True}}))
    return optimized


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for training and detection on a CPU under Linux.

    glibc gives the memory of a step back to the system, and the next step waits for it page by page: about a sixth of
    a training step of YOLOX-Nano, or of a photo's way through it (`benchmarks/RESULTS.md`). It is a setting of the
    whole process, so it is yours to make: call it once. `yolox-hf detect`, `evaluate` and `train` do, where there is
    no accelerator.

    Returns:
        True where it is set; False where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    trim_threshold, mmap_threshold = -1, -3  # the numbers of these options in malloc.h
    return mallopt(trim_threshold, 2**31 - 1) == 1 and mallopt(mmap_threshold, 2**30) == 1
