# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Optimised models find what the eager one finds, which stays as it was."""

import copy
import subprocess
import sys

import pytest
import torch
from conftest import images, small_config
from PIL import Image
from torch import nn
from transformers import pipeline

from yolox_hf import YoloxForObjectDetection, YoloxImageProcessor
from yolox_hf.data import load_detection_data
from yolox_hf.detection import Detector
from yolox_hf.evaluation import coco_detections, coco_ground_truth, coco_metrics
from yolox_hf.optimization import optimize_for_inference


@pytest.fixture(scope="module")
def nano(nano_dir) -> YoloxForObjectDetection:
    return YoloxForObjectDetection.from_pretrained(nano_dir)


def with_statistics(model: YoloxForObjectDetection) -> YoloxForObjectDetection:
    """Batch norms that do something: the converted Nano's are the identity."""
    generator = torch.Generator().manual_seed(0)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight.data.uniform_(0.5, 2, generator=generator)
            norm.bias.data.uniform_(-0.5, 0.5, generator=generator)
            norm.running_mean.uniform_(-0.5, 0.5, generator=generator)
            norm.running_var.uniform_(0.3, 2, generator=generator)
    return model


@pytest.mark.parametrize("shape", [(1, 416, 416), (3, 96, 160)])
@pytest.mark.parametrize("name", ["small", "nano", "darknet53"])
def test_raw_outputs_equal_the_eager_ones(name, shape, small_model, request):
    if name == "nano":
        model = request.getfixturevalue("nano")
    elif name == "small":
        model = with_statistics(small_model)
    else:
        fields = {"backbone_type": "darknet53", "hidden_act": "leaky_relu"}
        model = with_statistics(YoloxForObjectDetection(small_config(**fields))).eval()
    optimized = optimize_for_inference(model)
    pixel_values = images(1, *shape)
    with torch.no_grad():
        expected, actual = model(pixel_values), optimized(pixel_values)
    for field in ("logits", "pred_boxes", "class_logits", "objectness_logits"):
        torch.testing.assert_close(actual[field], expected[field], atol=1e-4, rtol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in optimized.modules())


def test_the_model_stays_as_it_was(small_model):
    before = copy.deepcopy(small_model.state_dict())
    small_model.train()
    optimized = optimize_for_inference(small_model, dtype="bfloat16")
    assert small_model.training and not optimized.training
    assert optimized.dtype == torch.bfloat16 and small_model.dtype == torch.float32
    assert all(torch.equal(value, before[name]) for name, value in small_model.state_dict().items())
    assert all(parameter.requires_grad for parameter in small_model.parameters())


@pytest.mark.parametrize(("dtype", "tolerance"), [(None, 1e-4), ("bfloat16", 0.06)])
def test_pipeline_takes_it_and_finds_the_same(nano, nano_dir, dog, dtype, tolerance):
    processor = YoloxImageProcessor.from_pretrained(nano_dir)
    expected = pipeline("object-detection", model=nano, image_processor=processor)(dog)
    optimized = optimize_for_inference(nano, dtype=dtype)
    found = pipeline("object-detection", model=optimized, image_processor=processor)(dog)
    assert [item["label"] for item in found] == [item["label"] for item in expected] == ["dog", "bicycle", "car"]
    for one, other in zip(found, expected):
        assert one["score"] == pytest.approx(other["score"], abs=tolerance)
        distance = 1 if dtype is None else 12
        assert list(one["box"].values()) == pytest.approx(list(other["box"].values()), abs=distance)


def test_average_precision_stays(nano, nano_dir, shared):
    rows = load_detection_data(shared / "data" / "coco_tiny_val", class_names=list(nano.config.id2label.values()))
    rows = next(iter(rows.splits.values()))
    truth = coco_ground_truth(rows.remove_columns("image"), nano.config.id2label)
    processor = YoloxImageProcessor.from_pretrained(nano_dir)

    def average_precision(model) -> float:
        detector = Detector(model, processor=processor, threshold=0.01, nms_threshold=0.65)
        detections = []
        for start in range(0, len(rows), 8):
            batch = rows.select(range(start, min(start + 8, len(rows))))
            results = detector([image.convert("RGB") for image in batch["image"]])
            for image_id, result in zip(batch["image_id"], results):
                detections += coco_detections(image_id, result)
        return coco_metrics(truth, detections)["map"]

    expected = average_precision(nano)
    assert expected == pytest.approx(0.305, abs=2e-3)
    assert average_precision(optimize_for_inference(nano)) == pytest.approx(expected, abs=2e-3)
    assert average_precision(optimize_for_inference(nano, dtype=torch.bfloat16)) == pytest.approx(expected, abs=5e-3)


def test_compiled(small_model, monkeypatch):
    """With the backend that only traces: inductor takes minutes, and is run by `benchmarks/inference.py --compile`."""
    compile, asked = torch.compile, []

    def trace(function, **options):
        asked.append(options)
        return compile(function, backend="aot_eager", fullgraph=True)

    monkeypatch.setattr(torch, "compile", trace)
    optimized = optimize_for_inference(with_statistics(small_model), compile=True)
    detector = pipeline("object-detection", model=optimized, image_processor=YoloxImageProcessor(size=64))
    assert isinstance(detector(Image.new("RGB", (64, 64))), list)
    pixel_values = images(1, 2, 64, 96)
    with torch.no_grad():
        expected = small_model(pixel_values).logits
        torch.testing.assert_close(optimized(pixel_values).logits, expected, atol=1e-4, rtol=1e-4)
    assert asked == [{"dynamic": False, "options": {"freezing": True}}]


def test_wrong_use_is_named(small_model):
    with pytest.raises(
        ValueError, match=r"`dtype` must be one of torch.float32, torch.bfloat16, torch.float16, got torch.int8"
    ):
        optimize_for_inference(small_model, dtype="int8")
    with pytest.raises(TypeError, match="`model` must be a YoloxForObjectDetection, got YoloxModel"):
        optimize_for_inference(small_model.model)


def test_freed_memory_is_kept():
    """In a process of its own: the pages that one more tensor of a size waits for, before and after the call."""
    script = """if True:
        import resource, torch
        from yolox_hf.optimization import keep_freed_memory

        def fetched():
            for _ in range(5):
                torch.ones(2**24)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            torch.ones(2**24)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        print(fetched(), keep_freed_memory(), fetched())
    """
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before, kept, after = process.stdout.split()
    if kept == "False":
        pytest.skip("the C library is not glibc")
    assert int(after) < 100 < int(before)
