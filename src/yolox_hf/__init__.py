# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""YOLOX for Hugging Face transformers. Importing this package makes the Auto classes and `pipeline` know the model."""

from transformers import AutoBackbone, AutoConfig, AutoImageProcessor, AutoModel, AutoModelForObjectDetection

from .configuration_yolox import YoloxConfig
from .export import YoloxExportedConfig, YoloxExportedForObjectDetection, export_model, load_exported
from .image_processing_yolox import YoloxImageProcessor
from .modeling_yolox import YoloxBackbone, YoloxForObjectDetection, YoloxModel, YoloxPreTrainedModel
from .optimization import keep_freed_memory, optimize_for_inference

__version__ = "0.1.0.dev0"

AutoConfig.register("yolox", YoloxConfig, exist_ok=True)
AutoModel.register(YoloxConfig, YoloxModel, exist_ok=True)
AutoModelForObjectDetection.register(YoloxConfig, YoloxForObjectDetection, exist_ok=True)
AutoBackbone.register(YoloxConfig, YoloxBackbone, exist_ok=True)
# One class for both names: it runs on PyTorch alone, with torchvision installed or not.
AutoImageProcessor.register(
    YoloxConfig,
    image_processor_classes={"torchvision": YoloxImageProcessor, "pil": YoloxImageProcessor},
    exist_ok=True,
)
# What `export_model` writes loads through the Auto classes and `pipeline` too.
AutoConfig.register("yolox_exported", YoloxExportedConfig, exist_ok=True)
AutoModelForObjectDetection.register(YoloxExportedConfig, YoloxExportedForObjectDetection, exist_ok=True)

# What `save_pretrained` writes carries its own code, so that it loads with `trust_remote_code=True` too.
YoloxConfig.register_for_auto_class("AutoConfig")
YoloxModel.register_for_auto_class("AutoModel")
YoloxForObjectDetection.register_for_auto_class("AutoModelForObjectDetection")
YoloxBackbone.register_for_auto_class("AutoBackbone")
YoloxImageProcessor.register_for_auto_class("AutoImageProcessor")

__all__ = [
    "YoloxBackbone",
    "YoloxConfig",
    "YoloxExportedForObjectDetection",
    "YoloxForObjectDetection",
    "YoloxImageProcessor",
    "YoloxModel",
    "YoloxPreTrainedModel",
    "export_model",
    "keep_freed_memory",
    "load_exported",
    "optimize_for_inference",
]
