# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""An exported graph as a detector, for `pipeline` and for `post_process_object_detection`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES
from transformers.utils.hub import cached_file

from ..configuration_yolox import YoloxConfig
from ..modeling_yolox import YoloxObjectDetectionOutput, YoloxPreTrainedModel
from .graphs import restore_output
from .runtimes import check_extra

HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


class YoloxExportedConfig(YoloxConfig):
    """The config of an exported detector. Its own model type leads the Auto classes to `load_exported`."""

    model_type = "yolox_exported"
    _auto_class = None  # an export runs by this package; it carries no code

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        del self.auto_map

    @classmethod
    def from_detector(cls, config: YoloxConfig) -> "YoloxExportedConfig":
        fields = {name: value for name, value in config.to_dict().items() if name not in ("model_type", "auto_map")}
        return cls(**{**fields, "architectures": ["YoloxExportedForObjectDetection"]})


class YoloxExportedForObjectDetection(YoloxPreTrainedModel):
    """An exported detector, in the place of `YoloxForObjectDetection`: same inputs, same outputs, no training.

    Args:
        exported: `transformers.exporters.ExportedModel` of a YOLOX graph, loaded on its runtime.
        runner_options: it was loaded with.
    """

    config: YoloxExportedConfig

    def __init__(self, exported: Any, runner_options: dict[str, Any] | None = None):
        super().__init__(exported.config)
        self.exported = exported
        self.runner_options = runner_options or {}
        shape = exported.components["model"].metadata.kwargs["pixel_values"]["shape"]
        is_dynamic = exported.components["model"].metadata.export_config["dynamic"]
        self.static_size: tuple[int, int] | None = None if is_dynamic else tuple(shape[-2:])
        self.eval()

    @property
    def device(self) -> torch.device:
        return self.exported.device

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    @torch.inference_mode()
    def forward(self, pixel_values: torch.Tensor, labels: None = None, **kwargs) -> YoloxObjectDetectionOutput:
        """
        Args:
            pixel_values: (batch_size, 3, height, width), RGB with values in 0..255; sides are multiples of 32, or
                those of a static graph.
            labels: none; an exported model has no loss.

        Returns:
            `logits` and `pred_boxes`; of a graph with NMS, those of the boxes that it returned.

        Raises:
            ValueError: a shape that the graph does not take, or `labels`.
        """
        if labels is not None:
            raise ValueError("`labels` must be None: an exported model has no loss.")
        pixel_values = self._prepare_pixel_values(pixel_values).float()
        if pixel_values.device.type == "cpu":
            # By NumPy, as it does without threads: PyTorch's would be in the way of the runtime's that come next.
            pixel_values = torch.from_numpy(np.ascontiguousarray(pixel_values.numpy()))
        if self.static_size is None:
            return self._run(pixel_values)
        if pixel_values.shape[-2:] != self.static_size:
            raise ValueError(
                "`pixel_values` must have the height and width that this model was exported for, "
                f"{self.static_size[0]} x {self.static_size[1]}, got {' x '.join(map(str, pixel_values.shape[-2:]))}."
            )
        outputs = [self._run(image[None]) for image in pixel_values]
        return outputs[0] if len(outputs) == 1 else _concatenate(outputs)

    def _run(self, pixel_values: torch.Tensor) -> YoloxObjectDetectionOutput:
        outputs = self.exported(pixel_values=pixel_values)
        return restore_output(outputs, pixel_values, self.config.num_labels)  # type: ignore[arg-type]

    def to(self, device=None, **kwargs):
        """Move to a device that the runtime has; any other argument of `Module.to` means nothing here."""
        if device is not None and torch.device(device) != self.device:
            self.exported.to(device, **self.runner_options)
        return self

    def save_pretrained(self, save_directory: str | Path, **kwargs) -> None:  # type: ignore[override]
        self.exported.save_pretrained(save_directory, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """`load_exported`, in the way of the Auto classes: what only other models know is ignored."""
        known = ("device", "trust_remote_code", *HUB_OPTIONS)
        options = {name: value for name, value in kwargs.items() if name in known and value is not None}
        return load_exported(pretrained_model_name_or_path, **options)


def _concatenate(outputs: list[YoloxObjectDetectionOutput]) -> YoloxObjectDetectionOutput:
    """One output for a batch from those of its images. Of graphs with NMS they differ in length."""
    longest = max(output.logits.shape[1] for output in outputs)  # type: ignore[union-attr]

    def stack(name: str, filling: float) -> torch.Tensor:
        rows = [output[name][0] for output in outputs]
        return torch.stack(
            [torch.cat((row, row.new_full((longest - len(row), row.shape[1]), filling))) for row in rows]
        )

    return YoloxObjectDetectionOutput(logits=stack("logits", -torch.inf), pred_boxes=stack("pred_boxes", 0.0))


def load_exported(
    folder: str | Path, device: str | torch.device | None = None, **options
) -> YoloxExportedForObjectDetection:
    """Load what `export_model` wrote, to run it on its runtime.

        detector = load_exported("exported")
        pipeline("object-detection", model=detector, image_processor=AutoImageProcessor.from_pretrained("exported"))

    Without further options ONNX Runtime and OpenVINO use as many threads as PyTorch (`torch.get_num_threads()`), and
    OpenVINO computes in float32, where it would choose bfloat16 on CPUs that have it.

    Args:
        folder: an exported folder, or a Hub repository of such.
        device: the CPU by default, or the GPU where ONNX Runtime's build has it.
        **options: the runtime's: `session_options` and `providers` for ONNX Runtime, `config` (compile properties)
            and `torch_threads` for OpenVINO; those of the Hub, such as `revision`; and `trust_remote_code`, which
            `torch.export` programs need, as loading them runs code.

    Raises:
        ImportError: the runtime is not installed; its extra is named.
        OSError: there is no export.
        TypeError: an option that the runtime does not have.
        ValueError: a device that the runtime does not have, or a `torch.export` program without `trust_remote_code`.
    """
    from transformers.exporters import ExportedModel

    hub_options = {name: options[name] for name in HUB_OPTIONS if name in options}
    manifest = cached_file(str(folder), "export.json", **hub_options)
    format = json.loads(Path(manifest).read_text(encoding="utf-8"))["export_format"]  # type: ignore[arg-type]
    check_extra(format)
    load_options = {name: options.pop(name) for name in ("trust_remote_code", *HUB_OPTIONS) if name in options}
    if device is None and format == "openvino":
        device = "cpu"  # its own default chooses at run time, and does not take the options below
    runner_options = {**_default_options(format, device, options), **options}
    exported = ExportedModel.from_pretrained(folder, device=device, **load_options, **runner_options)
    return YoloxExportedForObjectDetection(exported, runner_options)


def _default_options(format: str, device: Any, options: dict[str, Any]) -> dict[str, Any]:
    """What the runtimes do not choose well themselves."""
    if format == "onnx":
        import onnxruntime

        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = torch.get_num_threads()
        # Between runs its threads leave the CPU to what prepares the next image.
        session_options.add_session_config_entry("session.force_spinning_stop", "1")
        return {"session_options": session_options}
    if format == "openvino" and torch.device(device).type == "cpu":
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if "torch_threads" not in options:
            config["INFERENCE_NUM_THREADS"] = torch.get_num_threads()
        return {"config": {**config, **options.pop("config", {})}}
    return {}


# The object-detection pipeline knows models by this table, as for `YoloxForObjectDetection`.
MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES["yolox_exported"] = "YoloxExportedForObjectDetection"
