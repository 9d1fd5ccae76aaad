"""The detector as users meet it: Auto classes, `pipeline`, remote code, and the original's detections and metrics."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_config
from PIL import Image
from transformers import (
    AutoBackbone,
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForObjectDetection,
    pipeline,
)

import yolox_hf
from yolox_hf import YoloxForObjectDetection, YoloxImageProcessor

EXPECTED = [
    ("dog", 0.8551, (132, 206, 325, 543)),
    ("bicycle", 0.8026, (51, 137, 572, 423)),
    ("car", 0.7982, (466, 78, 692, 171)),
]  # the recorded detections above 0.5, truncated to pixels as the pipeline does


def assert_finds_all_three(detections, score_tolerance=2e-3, box_tolerance=1):
    assert [found["label"] for found in detections] == [label for label, *_ in EXPECTED]
    for found, (_, score, box) in zip(detections, EXPECTED):
        assert found["score"] == pytest.approx(score, abs=score_tolerance)
        assert list(found["box"].values()) == pytest.approx(box, abs=box_tolerance)


@pytest.fixture
def small_dir(small_model, tmp_path) -> Path:
    small_model.save_pretrained(tmp_path)
    YoloxImageProcessor(size=64).save_pretrained(tmp_path)
    return tmp_path


# ---- equal to the original


def test_detections_equal_the_original(shared, nano_dir, dog):
    model = AutoModelForObjectDetection.from_pretrained(nano_dir)
    processor = AutoImageProcessor.from_pretrained(nano_dir)
    runs = json.loads((shared / "reference" / "detections_nano_dog.json").read_text())["runs"]
    assert len(runs) == 9
    for run in runs:
        size = {"height": run["input_height"], "width": run["input_width"]}
        with torch.no_grad():
            outputs = model(**processor(dog, size=size, return_tensors="pt"))
        found = processor.post_process_object_detection(
            outputs,
            run["score_threshold"],
            [(dog.height, dog.width)],
            nms_threshold=run["nms_threshold"],
            class_agnostic=run["class_agnostic"],
            size=size,
        )[0]
        expected = torch.tensor(run["detections_xyxy_score_class"])
        boxes = expected[:, :4].clamp(min=0)  # the original does not clip
        boxes = torch.minimum(boxes, torch.tensor([dog.width, dog.height] * 2))
        assert found["labels"].tolist() == expected[:, 5].long().tolist()
        torch.testing.assert_close(found["scores"], expected[:, 4], atol=2e-3, rtol=0)
        torch.testing.assert_close(found["boxes"], boxes, atol=0.5, rtol=0)


def test_coco_metrics_equal_the_original(shared, nano_dir):
    faster_coco_eval = pytest.importorskip("faster_coco_eval")
    recorded = json.loads((shared / "reference" / "coco_tiny_val_metrics.json").read_text())
    folder = shared / "data" / "coco_tiny_val"
    coco = faster_coco_eval.COCO(str(next(folder.rglob("instances_val2017.json"))))
    category_ids = sorted(coco.getCatIds())
    model = AutoModelForObjectDetection.from_pretrained(nano_dir)
    processor = AutoImageProcessor.from_pretrained(nano_dir)
    results = []
    for info in coco.dataset["images"]:
        photo = Image.open(next(folder.rglob(info["file_name"]))).convert("RGB")
        with torch.no_grad():
            outputs = model(**processor(photo, return_tensors="pt"))
        found = processor.post_process_object_detection(
            outputs,
            recorded["score_threshold"],
            [(photo.height, photo.width)],
            nms_threshold=recorded["nms_threshold"],
            clip_boxes=False,  # as the original leaves them
        )[0]
        boxes = torch.cat((found["boxes"][:, :2], found["boxes"][:, 2:] - found["boxes"][:, :2]), dim=1)
        results += [
            {"image_id": info["id"], "category_id": category_ids[label], "bbox": box, "score": score}
            for label, box, score in zip(found["labels"].tolist(), boxes.tolist(), found["scores"].tolist())
        ]
    evaluation = faster_coco_eval.COCOeval_faster(coco, coco.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    for (metric, expected), actual in zip(recorded["metrics"].items(), evaluation.stats, strict=True):
        assert actual == pytest.approx(expected, abs=2e-3), metric
    assert abs(len(results) - recorded["num_detections"]) <= 5


# ---- Auto classes


def test_auto_classes_know_the_model(small_dir, caplog, recwarn):
    assert type(AutoConfig.from_pretrained(small_dir)) is yolox_hf.YoloxConfig
    assert type(AutoModel.from_pretrained(small_dir)) is yolox_hf.YoloxModel
    assert type(AutoModelForObjectDetection.from_pretrained(small_dir)) is yolox_hf.YoloxForObjectDetection
    assert type(AutoBackbone.from_config(small_config())) is yolox_hf.YoloxBackbone
    for backend in (None, "pil", "torchvision"):
        assert type(AutoImageProcessor.from_pretrained(small_dir, backend=backend)) is YoloxImageProcessor
    assert not caplog.records and not recwarn.list


def run_python(code: str, *arguments, isolated: bool = False) -> subprocess.CompletedProcess:
    """Run code in a fresh process; `isolated`: one that cannot import `yolox_hf`."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if isolated:
        # An import hook, as the package may be installed in this very environment.
        code = "import sys\nsys.modules['yolox_hf'] = None\n" + code
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )


def test_importing_and_loading_logs_nothing(small_dir):
    code = """
import sys, yolox_hf
from transformers import pipeline
from transformers.utils import logging
logging.disable_progress_bar()
pipeline("object-detection", model=sys.argv[1])
"""
    process = run_python(code, small_dir)
    assert process.returncode == 0, process.stderr
    assert process.stderr.strip() == "" and process.stdout.strip() == ""


REMOTE = """
import json, os, sys
try:
    import yolox_hf
    sys.exit("yolox_hf can be imported")
except ImportError:
    pass
from transformers import AutoModel, AutoBackbone, AutoImageProcessor, pipeline
from transformers.utils import logging
logging.disable_progress_bar()
folder, photo = sys.argv[1:]
detector = pipeline("object-detection", model=folder, trust_remote_code=True)
detections = detector(photo, threshold=0.5)
assert detector.model.__module__.startswith("transformers_modules."), detector.model.__module__
assert type(AutoModel.from_pretrained(folder, trust_remote_code=True)).__name__ == "YoloxModel"
detector.model.save_pretrained(folder + "/again")
detector.image_processor.save_pretrained(folder + "/again")
again = pipeline("object-detection", model=folder + "/again", trust_remote_code=True)
assert again(photo, threshold=0.5) == detections
print(json.dumps(detections))
"""


def test_remote_code_without_the_package(small_dir, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    Image.fromarray(photo).save(tmp_path / "photo.png")
    process = run_python(REMOTE, small_dir, tmp_path / "photo.png", isolated=True)
    assert process.returncode == 0, process.stderr
    assert process.stderr.strip() == ""
    assert json.loads(process.stdout) == pipeline("object-detection", model=small_dir)(
        str(tmp_path / "photo.png"), threshold=0.5
    )


def test_remote_code_finds_all_three(shared, nano_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    process = run_python(REMOTE, nano_dir, shared / "images" / "dog.jpg", isolated=True)
    assert process.returncode == 0, process.stderr
    assert_finds_all_three(json.loads(process.stdout))


# ---- pipeline


def test_pipeline_finds_all_three(nano_dir, shared, dog):
    detector = pipeline("object-detection", model=str(nano_dir), device="cpu")
    assert_finds_all_three(detector(str(shared / "images" / "dog.jpg")))
    assert_finds_all_three(detector(dog))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.02), (torch.bfloat16, 0.06)])
def test_pipeline_in_half_precision(nano_dir, dog, dtype, tolerance):
    detector = pipeline("object-detection", model=str(nano_dir), dtype=dtype)
    assert detector.model.dtype == dtype
    assert_finds_all_three(detector(dog), score_tolerance=tolerance, box_tolerance=12)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_pipeline_takes_every_mode(nano_dir, dog, mode):
    found = {detection["label"] for detection in pipeline("object-detection", model=str(nano_dir))(dog.convert(mode))}
    assert {"dog", "car"} <= found


def test_batches_equal_one_by_one(small_dir):
    random = np.random.RandomState(0)
    photos = [
        Image.fromarray(random.randint(0, 256, (h, w, 3)).astype(np.uint8)) for h, w in ((40, 90), (64, 64), (200, 30))
    ]
    detector = pipeline("object-detection", model=str(small_dir))
    detector.model.head.objectness_predictors.apply(lambda m: hasattr(m, "bias") and m.bias.data.fill_(2.0))
    detector.model.head.class_predictors.apply(lambda m: hasattr(m, "bias") and m.bias.data.fill_(2.0))
    one_by_one = [detector(photo, threshold=0.5) for photo in photos * 2]
    assert all(one_by_one)
    assert_same_detections(detector(photos * 2, batch_size=4, threshold=0.5), one_by_one)


def test_batches_of_real_photos_equal_one_by_one(nano_dir, shared, dog):
    photos = [
        dog,
        dog.rotate(90, expand=True),
        *(Image.open(path) for path in sorted((shared / "data" / "coco_tiny_val").rglob("*.jpg"))[:7]),
    ]
    detector = pipeline("object-detection", model=str(nano_dir))
    batched = detector(photos, batch_size=4, threshold=0.25)
    assert_same_detections(batched, [detector(photo, threshold=0.25) for photo in photos])
    assert_finds_all_three(batched[0][:3])


def assert_same_detections(actual, expected):
    """Equal but for the rounding of a convolution over another batch size."""
    assert len(actual) == len(expected)
    for found, single in zip(actual, expected):
        assert [detection["label"] for detection in found] == [detection["label"] for detection in single]
        for one, other in zip(found, single):
            assert one["score"] == pytest.approx(other["score"], abs=1e-4)
            assert list(one["box"].values()) == pytest.approx(list(other["box"].values()), abs=1)


def test_saving_a_loaded_model_carries_its_code(small_dir, tmp_path):
    model = YoloxForObjectDetection.from_pretrained(small_dir, num_labels=7, ignore_mismatched_sizes=True)
    model.save_pretrained(tmp_path / "tuned")
    auto_map = json.loads((tmp_path / "tuned" / "config.json").read_text())["auto_map"]
    assert set(auto_map) == {"AutoConfig", "AutoModel", "AutoModelForObjectDetection", "AutoBackbone"}
    for reference in auto_map.values():
        assert (tmp_path / "tuned" / f"{reference.split('.')[0]}.py").is_file()
