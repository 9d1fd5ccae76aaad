"""The examples, run small."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import small_config
from PIL import Image, ImageDraw

from yolox_hf import YoloxForObjectDetection, YoloxImageProcessor
from yolox_hf.cards import DEMO_MODEL
from yolox_hf.cli import main
from yolox_hf.scenes import render_scene

EXAMPLES = Path(__file__).parents[1] / "examples"


def coco_folder(root: Path) -> Path:
    """Two splits of three images of 64 x 64, each with a white square; the categories have gaps."""
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (root / split).mkdir()
        content: dict = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 3, "name": "square"}, {"id": 7, "name": "no"}],
        }
        for index in range(3):
            image = Image.new("RGB", (64, 64))
            ImageDraw.Draw(image).rectangle((10 * index, 20, 10 * index + 19, 39), "white")
            image.save(root / split / f"{index}.png")
            content["images"].append({"id": index, "file_name": f"{index}.png", "width": 64, "height": 64})
            content["annotations"].append(
                {"id": index, "image_id": index, "category_id": 3, "bbox": [10 * index, 20, 20, 20], "area": 400}
            )
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def test_fine_tune(tmp_path, capsys):
    model, output = tmp_path / "model", tmp_path / "tuned"
    YoloxForObjectDetection(small_config(num_labels=5)).save_pretrained(model)
    YoloxImageProcessor(size=64).save_pretrained(model)
    arguments = ["--data", coco_folder(tmp_path / "data"), "--model", model, "--output-dir", output]
    arguments += ["--epochs", 1, "--batch-size", 2]
    runpy.run_path(str(EXAMPLES / "fine_tune.py"))["main"]([str(argument) for argument in arguments])
    assert "eval_map_50" in capsys.readouterr().out
    tuned = YoloxForObjectDetection.from_pretrained(output)
    assert tuned.config.id2label == {0: "square", 1: "no"}
    assert (output / "preprocessor_config.json").is_file() and (output / "modeling_yolox.py").is_file()


@pytest.fixture
def photos(tmp_path) -> Path:
    """Six photos in two shapes, and a file that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(6):
        render_scene(0, index, *((160, 128) if index % 2 else (128, 160)))[0].save(folder / f"{index}.png")
    (folder / "3broken.png").write_bytes(b"no picture")
    return folder


def assert_boxes_of_one_process(path: Path, photos: Path, tmp_path: Path) -> None:
    """The entries in `path` are those of `yolox-hf detect`, but for what other batches round differently."""
    entries = json.loads(path.read_text())
    assert [Path(entry["image"]).name for entry in entries] == sorted(photo.name for photo in photos.iterdir())
    assert [entry["image"] for entry in entries if "error" in entry] == [str(photos / "3broken.png")]
    main(["detect", str(photos), "--model", str(DEMO_MODEL), "--output-dir", str(tmp_path / "one"), "--no-pictures"])
    expected = json.loads((tmp_path / "one" / "detections.json").read_text())
    assert sum(len(entry["detections"]) for entry in expected) > 5
    for entry, single in zip([entry for entry in entries if "error" not in entry], expected, strict=True):
        assert (entry["image"], entry["width"], entry["height"]) == (
            single["image"],
            single["width"],
            single["height"],
        )
        for found, other in zip(entry["detections"], single["detections"], strict=True):
            assert found["label"] == other["label"]
            assert found["score"] == pytest.approx(other["score"], abs=1.1e-4)
            assert found["box"] == pytest.approx(other["box"], abs=0.011)


def test_detect_accelerate(photos, tmp_path):
    output = tmp_path / "detections.json"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, EXAMPLES / "detect_accelerate.py", photos, "--model", DEMO_MODEL, "--output", output, "--cpu"]
    process = subprocess.run([*map(str, command), "--batch-size", "2"], capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    assert "7 images, 2 processes" in process.stdout
    assert_boxes_of_one_process(output, photos, tmp_path)


def test_detect_ray(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # its token would be written to the home folder
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        output = tmp_path / "detections.json"
        arguments = [photos, "--model", DEMO_MODEL, "--output", output, "--batch-size", 2, "--actors", 2]
        runpy.run_path(str(EXAMPLES / "detect_ray.py"))["main"]([str(argument) for argument in arguments])
    finally:
        ray.shutdown()
    assert_boxes_of_one_process(output, photos, tmp_path)
