# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""A detector as an ONNX, OpenVINO, ExecuTorch or torch.export graph, and such a graph as a detector.

export_model("yolox-nano", "exported", format="onnx")
detector = pipeline("object-detection", model=load_exported("exported"), image_processor=...)
"""

from .exporting import export_model
from .graphs import YoloxDetectionsOutput, YoloxRawOutput
from .loading import YoloxExportedConfig, YoloxExportedForObjectDetection, load_exported

__all__ = [
    "YoloxDetectionsOutput",
    "YoloxExportedConfig",
    "YoloxExportedForObjectDetection",
    "YoloxRawOutput",
    "export_model",
    "load_exported",
]
