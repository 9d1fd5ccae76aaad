# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Every command: what it does, and what it says to those who use it wrongly."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import small_config
from PIL import Image
from safetensors.torch import save_file

from yolox_hf import YoloxForObjectDetection, YoloxImageProcessor, optimization
from yolox_hf.cards import DEMO_MODEL
from yolox_hf.cli import main
from yolox_hf.cli.common import Dtype, load_detector
from yolox_hf.evaluation import COCO_STATISTICS
from yolox_hf.scenes import SHAPES, render_scene, write_scenes


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def model_dir(tmp_path) -> Path:
    """A model of scenes that finds something everywhere."""
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(SHAPES)), "label2id": {name: index for index, name in enumerate(SHAPES)}}
    model = YoloxForObjectDetection(small_config(num_labels=len(SHAPES), **labels)).eval()
    for predictor in (*model.head.objectness_predictors, *model.head.class_predictors):
        torch.nn.init.constant_(predictor.bias, 1.0)
    model.save_pretrained(tmp_path / "model")
    YoloxImageProcessor(size=64).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    for index, name in enumerate(("one.png", "two.jpg", "deeper/one.png")):
        render_scene(0, index, 96, 64)[0].save(folder / name)
    return folder


def error_line(capsys) -> str:
    """The one line on stderr."""
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), captured.err
    return lines[0]


# ---- detect


def test_detect_a_folder(model_dir, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("detect", photos, "--model", model_dir, "--output-dir", out) == 0
    entries = json.loads((out / "detections.json").read_text())
    assert [Path(entry["image"]).name for entry in entries] == ["one.png", "one.png", "two.jpg"]
    assert sorted(path.name for path in out.iterdir()) == ["detections.json", "one-2.jpg", "one.jpg", "two.jpg"]
    assert all(entry["detections"] for entry in entries)
    for found in entries[0]["detections"]:
        assert found["label"] in SHAPES and 0.25 <= found["score"] <= 1
        x1, y1, x2, y2 = found["box"]
        assert 0 <= x1 <= x2 <= 96 and 0 <= y1 <= y2 <= 64
    assert "3 images" in capsys.readouterr().out


def test_batches_do_not_change_what_is_detected(model_dir, photos, tmp_path):
    results = []
    for batch_size in (1, 2, 8):
        out = tmp_path / f"out{batch_size}"
        arguments = ("--model", model_dir, "--output-dir", out, "--batch-size", batch_size, "--no-pictures")
        assert run("detect", photos, *arguments) == 0
        results.append(json.loads((out / "detections.json").read_text()))
        assert [path.name for path in out.iterdir()] == ["detections.json"]
    for other in results[1:]:
        for entry, expected in zip(other, results[0]):
            assert [found["label"] for found in entry["detections"]] == [
                found["label"] for found in expected["detections"]
            ]
            for found, single in zip(entry["detections"], expected["detections"]):
                assert found["box"] == pytest.approx(single["box"], abs=0.05)


def test_formats_agree(model_dir, photos, tmp_path, capsys):
    for format in ("json", "coco", "csv"):
        assert run("detect", photos, "--model", model_dir, "--output-dir", tmp_path / format, "--format", format) == 0
    listed = json.loads((tmp_path / "json" / "detections.json").read_text())
    flat = [(entry["image"], found) for entry in listed for found in entry["detections"]]
    coco = json.loads((tmp_path / "coco" / "detections.json").read_text())
    assert [image["width"] for image in coco["images"]] == [96, 96, 96]
    assert [category["name"] for category in coco["categories"]] == list(SHAPES)
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    for (image, found), item in zip(flat, coco["annotations"], strict=True):
        x, y, width, height = item["bbox"]
        assert names[item["image_id"]] == image
        assert coco["categories"][item["category_id"]]["name"] == found["label"]
        assert [x, y, x + width, y + height] == pytest.approx(found["box"], abs=0.011)
    with open(tmp_path / "csv" / "detections.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for (image, found), row in zip(flat, rows, strict=True):
        assert (row["image"], row["label"], float(row["score"])) == (image, found["label"], found["score"])
        assert [float(row[side]) for side in ("x1", "y1", "x2", "y2")] == found["box"]
    capsys.readouterr()
    assert run("detect", photos, "--model", model_dir, "--output-dir", tmp_path / "again", "--json") == 0
    assert [json.loads(line)["image"] for line in capsys.readouterr().out.splitlines()] == [
        entry["image"] for entry in listed
    ]


def test_a_broken_file_does_not_stop_the_rest(model_dir, photos, tmp_path, capsys):
    (photos / "broken.jpg").write_bytes(b"no picture")
    out = tmp_path / "out"
    assert run("detect", photos, "--model", model_dir, "--output-dir", out) == 1
    captured = capsys.readouterr()
    assert "broken.jpg cannot be read" in captured.err and "1 of 4 images" in captured.err
    assert len(json.loads((out / "detections.json").read_text())) == 3


def test_detect_a_video(model_dir, tmp_path, capsys, monkeypatch):
    av = pytest.importorskip("av")
    clip, out = tmp_path / "clip.mp4", tmp_path / "out"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(3):
            container.mux(stream.encode(av.VideoFrame.from_image(render_scene(0, index, 96, 64)[0])))
        container.mux(stream.encode())
    assert run("detect", clip, "--model", model_dir, "--output-dir", out) == 0
    assert [entry["image"] for entry in json.loads((out / "detections.json").read_text())] == [
        f"{clip}#{index:06}" for index in range(3)
    ]
    assert sorted(path.name for path in out.glob("*.jpg")) == [f"clip_mp4_{index:06}.jpg" for index in range(3)]
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "av", None)
    assert run("detect", clip, "--model", model_dir, "--output-dir", tmp_path / "none") == 1
    assert 'pip install "yolox-hf[video]"' in error_line(capsys)
    assert not (tmp_path / "none").exists()


def recording(dtypes: list):
    """`optimize_for_inference`, that notes for which dtype it was called."""
    original = optimization.optimize_for_inference
    return lambda model, dtype: dtypes.append(dtype) or original(model, dtype=dtype)


def test_options_of_speed(photos, tmp_path, monkeypatch):
    def found(name, *options):
        assert run("detect", photos, "--model", DEMO_MODEL, "--output-dir", tmp_path / name, *options) == 0
        entries = json.loads((tmp_path / name / "detections.json").read_text())
        return [found for entry in entries for found in entry["detections"]]

    optimized = []
    monkeypatch.setattr("yolox_hf.cli.common.optimize_for_inference", recording(optimized))
    plain = found("plain", "--workers", 0)
    assert len(plain) > 3
    assert found("workers", "--workers", 3) == plain
    for options, score, pixels in (
        (["--optimize"], 1e-3, 0.02),
        (["--dtype", "bfloat16"], 0.05, 4),
        (["--optimize", "--dtype", "bfloat16"], 0.05, 4),
    ):
        other = found("-".join(options), *options)
        assert "bfloat16" not in options or other != plain
        for expected in [item for item in plain if item["score"] > 0.3]:
            assert any(
                item["label"] == expected["label"]
                and item["score"] == pytest.approx(expected["score"], abs=score)
                and item["box"] == pytest.approx(expected["box"], abs=pixels)
                for item in other
            ), (options, expected)
    assert optimized == [None, "bfloat16"]
    assert found("rectangular", "--rectangular") != plain


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("dtype", [None, Dtype.bfloat16, Dtype.float16])
def test_optimize_and_dtype_reach_the_model(optimize, dtype):
    model = load_detector(str(DEMO_MODEL), None, "cpu", optimize, dtype).model
    assert model.dtype == (torch.float32 if dtype is None else getattr(torch, dtype.value))
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()) != optimize


def test_a_command_keeps_the_memory_that_it_frees(monkeypatch):
    calls = []
    monkeypatch.setattr("yolox_hf.cli.common.keep_freed_memory", lambda: calls.append("kept"))
    load_detector(str(DEMO_MODEL), None, "cpu", False, None)
    assert calls == ["kept"]


def test_an_exported_model_is_what_it_is(monkeypatch):
    monkeypatch.setattr("yolox_hf.cli.common.Detector", lambda *_, **__: SimpleNamespace(model=object()))
    with pytest.raises(ValueError, match="for models that are not exported, as exported/ is"):
        load_detector("exported/", None, None, True, None)


def test_supervision_takes_what_the_processor_returns(model_dir, photos):
    supervision = pytest.importorskip("supervision")
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    model, processor = (
        AutoModelForObjectDetection.from_pretrained(model_dir),
        AutoImageProcessor.from_pretrained(model_dir),
    )
    with Image.open(photos / "one.png") as image, torch.no_grad():
        outputs = model(**processor(image, return_tensors="pt"))
        (result,) = processor.post_process_object_detection(outputs, 0.25, [(image.height, image.width)])
    detections = supervision.Detections.from_transformers(result, model.config.id2label)
    assert len(detections) == len(result["scores"]) > 0
    assert list(detections.data["class_name"]) == [model.config.id2label[label] for label in result["labels"].tolist()]


# ---- the others


def test_scenes_train_evaluate_resume(tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "out"
    assert run("scenes", data, "--train", 8, "--validation", 4, "--width", 96, "--height", 64) == 0
    arguments = ("train", data, "--from-scratch", "--image-size", 64, 96, "--batch-size", 4, "--output-dir", out)
    assert run(*arguments, "--epochs", 1) == 0
    assert run(*arguments, "--epochs", 2, "--resume") == 0
    assert json.loads((out / "checkpoint-4" / "trainer_state.json").read_text())["global_step"] == 4
    capsys.readouterr()
    plots = tmp_path / "plots"
    assert run("evaluate", data, "--model", out, "--json", "--plots", plots) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["split"] == "validation" and summary["images"] == 4
    assert 0 <= summary["metrics"]["map"] <= 1
    assert all(value > 0 for value in summary["milliseconds"].values())
    assert {path.name for path in plots.iterdir()} == {"precision_recall.png", "confusion.png"}


def test_train_options_from_a_file(tmp_path, capsys):
    data, config = tmp_path / "data", tmp_path / "options.yaml"
    write_scenes(data, {"train": 4, "validation": 2}, width=96, height=64)
    config.write_text(
        f"data: {data}\noutput-dir: {tmp_path / 'out'}\nfrom_scratch: true\nimage-size: [64, 96]\n"
        "batch_size: 2\nepochs: 3\n"
    )
    assert run("train", "--config", config, "--epochs", 1) == 0
    processor = YoloxImageProcessor.from_pretrained(tmp_path / "out")
    assert (processor.size["height"], processor.size["width"]) == (64, 96)
    state = json.loads((tmp_path / "out" / "checkpoint-2" / "trainer_state.json").read_text())
    assert (state["num_train_epochs"], state["train_batch_size"]) == (1, 2)
    config.write_text(config.read_text().replace("epochs: 3", "epochs: many"))
    assert run("train", "--config", config) == 2


def test_evaluate_with_optimize_and_dtype(tmp_path, capsys, monkeypatch):
    write_scenes(tmp_path, {"train": 1, "validation": 12})
    metrics, optimized = [], []
    monkeypatch.setattr("yolox_hf.cli.common.optimize_for_inference", recording(optimized))
    for options in ((), ("--optimize",), ("--optimize", "--dtype", "bfloat16")):
        assert run("evaluate", tmp_path, "--model", DEMO_MODEL, "--json", *options) == 0
        metrics.append(json.loads(capsys.readouterr().out)["metrics"]["map"])
    assert metrics[0] > 0.5 and optimized == [None, "bfloat16"]
    assert metrics[1:] == [pytest.approx(metrics[0], abs=1e-3), pytest.approx(metrics[0], abs=0.03)]


def test_evaluate_gives_the_recorded_metrics(shared, nano_dir, capsys):
    recorded = json.loads((shared / "reference" / "coco_tiny_val_metrics.json").read_text())["metrics"]
    assert run("evaluate", shared / "data" / "coco_tiny_val", "--model", nano_dir, "--no-clip", "--json") == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    for (name, expected), ours in zip(recorded.items(), COCO_STATISTICS, strict=True):
        assert metrics[ours] == pytest.approx(expected, abs=2e-3), name
    assert metrics["map_person"] > 0.3


def test_convert_info_and_back(shared, tmp_path, capsys):
    checkpoint = shared / "weights" / "yolox_nano.pth"
    assert run("convert", checkpoint, tmp_path / "nano") == 0
    assert run("convert", tmp_path / "nano", tmp_path / "back.pth", "--to-original") == 0
    original, back = (torch.load(path, weights_only=True)["model"] for path in (checkpoint, tmp_path / "back.pth"))
    assert all(torch.equal(original[key], back[key]) for key in original)
    capsys.readouterr()
    assert run("info", tmp_path / "nano", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["parameters"], facts["gflops"], facts["input"]) == (912159, 1.08, [416, 416])
    assert facts["labels"][16] == "dog" and facts["origin"]["source"] == "yolox_nano.pth"
    assert run("info", tmp_path / "nano") == 0
    assert "912,159" in capsys.readouterr().out


def test_push_is_a_dry_run_by_default(model_dir, capsys):
    assert run("push", model_dir, "someone/shapes") == 0
    out = capsys.readouterr().out
    assert "model.safetensors" in out and "README.md" in out and "Nothing was sent" in out


def test_demo(tmp_path, capsys):
    assert run("demo", "--output-dir", tmp_path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert Image.open(found["picture"]).size == (640, 512)
    _, truth = render_scene(1000, width=640, height=512)
    names = [list(SHAPES)[category] for category in truth["category"]]
    assert sorted(item["label"] for item in found["detections"]) == sorted(names)
    assert run("demo", "--output-dir", tmp_path) == 0
    assert "The picture: " in capsys.readouterr().out


# ---- wrong use


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["detect", "absent.jpg", "--model", "{model}"], "no file or folder at absent.jpg"),
        (["detect", "{empty}", "--model", "{model}"], "holds no images"),
        (["detect", "{photos}", "--model", "{empty}"], "without config.json"),
        (["detect", "{photos}", "--model", "yolox-huge"], "none of the official names yolox-nano"),
        (["detect", "{photos}", "--model", "yolox-s"], "HF_HUB_OFFLINE"),
        (["detect", "{photos}", "--model", "{broken}"], "cannot be loaded"),
        (["detect", "{photos}", "--model", "{model}", "--output-dir", "{file}"], "is a file"),
        (["detect", "{photos}", "--model", "{model}", "--image-size", "100", "64"], "multiples of 32"),
        (["detect", "{photos}", "--model", "{model}", "--device", "nonsense"], "`device` nonsense"),
        (["evaluate", "{photos}", "--model", "{model}"], "is no detection data"),
        (["evaluate", "absent/", "--model", "{model}"], "no file or folder"),
        (["evaluate", "{data}", "--model", "{other}"], "but the categories of"),
        (["evaluate", "{data}", "--model", "{model}", "--split", "test"], "no split 'test'"),
        (["evaluate", "{data}", "--model", "{model}", "--plots", "{file}"], "`--plots` {file} is a file"),
        (["train", "{photos}", "--output-dir", "out"], "is no detection data"),
        (["train", "{data}", "--output-dir", "out", "--recipe", "magic"], "`--recipe` must be one of fine-tuning"),
        (["train", "{data}", "--output-dir", "out", "--resume"], "no checkpoint to resume from"),
        (["train", "{data}", "--output-dir", "{file}"], "is a file"),
        (["train", "--config", "absent.yaml"], "No such file"),
        (["train", "--config", "{unknown}"], "has no option epoch; there are data, output_dir, model, "),
        (["train", "--config", "{file}"], "must have lines of `option: value`, got 'no checkpoint'"),
        (["train", "--config", "{malformed}"], "is no YAML file"),
        (["convert", "absent.pth", "out"], "no checkpoint file at absent.pth"),
        (["convert", "{file}", "out"], "not a readable PyTorch checkpoint"),
        (["convert", "{empty}", "out.pth", "--to-original"], "no config.json"),
        (["push", "{empty}", "me/model"], "no complete model folder"),
        (["push", "{model}", "model"], "must be owner/name"),
        (["info", "{empty}"], "without config.json"),
        (["scenes", "{photos}"], "not an empty folder"),
        (["demo", "--output-dir", "{file}"], "is a file"),
    ],
)
def test_wrong_use_is_one_line_and_leaves_nothing(
    arguments, message, model_dir, photos, tmp_path, capsys, monkeypatch
):
    places = {name: tmp_path / name for name in ("empty", "broken", "other", "data", "file", "unknown", "malformed")}
    places["empty"].mkdir()
    places["file"].write_text("no checkpoint")
    places["unknown"].write_text("epoch: 3")
    places["malformed"].write_text("epochs: [3")
    write_scenes(places["data"], {"train": 2, "validation": 2}, width=96, height=64)
    YoloxForObjectDetection(small_config()).save_pretrained(places["other"])
    YoloxImageProcessor(size=64).save_pretrained(places["other"])
    places["broken"].mkdir()
    for path in model_dir.iterdir():
        (places["broken"] / path.name).write_bytes(
            path.read_bytes()[: 1000 if path.suffix == ".safetensors" else None]
        )
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(tmp_path.rglob("*"))
    filled = [argument.format(**places, model=model_dir, photos=photos) for argument in arguments]
    assert run(*filled) == 1
    captured = capsys.readouterr()
    assert message.format(**places) in captured.err and captured.err.startswith("error: ")
    assert "Traceback" not in captured.err
    left = [path for path in sorted(tmp_path.rglob("*")) if path not in before and not path.is_dir()]
    assert not left, left


def test_usage_errors(capsys):
    assert run("detect") == 2
    assert run("nonsense") == 2
    assert run("--help") == 0
    assert "detect" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["/proc", "{photos}/one.png/out", "{locked}"])
def test_an_unwritable_output(place, model_dir, photos, tmp_path, capsys):
    """Also for root, who may write to /proc as far as permissions tell, and cannot."""
    if (place == "/proc" and not Path("/proc/self").exists()) or (place == "{locked}" and os.geteuid() == 0):
        pytest.skip("there is no /proc, or root can write to locked folders")
    (tmp_path / "locked").mkdir(mode=0o500)
    output = place.format(photos=photos, locked=tmp_path / "locked")
    assert run("detect", photos, "--model", model_dir, "--output-dir", output) == 1
    assert f"`--output-dir` {output} cannot be written" in error_line(capsys)


# ---- interruptions


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_interrupting_leaves_no_half_list(model_dir, photos, tmp_path):
    image = (photos / "one.png").read_bytes()
    for index in range(3000):
        (photos / f"{index}.png").write_bytes(image)
    out = tmp_path / "out"
    code = "import sys; from yolox_hf.cli import main; sys.exit(main(sys.argv[1:]))"
    command = ["detect", photos, "--model", model_dir, "--output-dir", out, "--batch-size", 1]
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, command)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(out.glob("*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.strip().splitlines()[-1] == "interrupted" and "Traceback" not in error
    assert not list(out.glob("detections*"))


def test_an_interrupted_training_resumes(tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    write_scenes(data, {"train": 4, "validation": 2}, width=96, height=64)
    arguments = ["train", data, "--from-scratch", "--image-size", 64, 96, "--batch-size", 2, "--output-dir", out]
    code = "import sys; from yolox_hf.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *map(str, arguments), "--epochs", "1000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(out.glob("checkpoint-*/ema.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.strip().splitlines()[-1] == "interrupted" and "Traceback" not in error
    assert not (out / "config.json").exists()
    steps = max(int(path.parent.name.rpartition("-")[2]) for path in out.glob("checkpoint-*/ema.safetensors"))
    assert run(*arguments, "--epochs", steps // 2 + 1, "--resume") == 0
    state = json.loads((out / f"checkpoint-{steps + 2}" / "trainer_state.json").read_text())
    assert state["global_step"] == steps + 2 and state["log_history"][0]["step"] == 2
    assert YoloxForObjectDetection.from_pretrained(out).config.num_labels == len(SHAPES)


def test_resuming_takes_the_last_whole_checkpoint(tmp_path, capsys, monkeypatch):
    data, out = tmp_path / "data", tmp_path / "out"
    write_scenes(data, {"train": 4, "validation": 2}, width=96, height=64)
    arguments = ["train", data, "--from-scratch", "--image-size", 64, 96, "--batch-size", 2, "--output-dir", out]
    saves = iter((save_file, interrupt))
    with monkeypatch.context() as patch:
        # The averaged weights are what a checkpoint gets last.
        patch.setattr("yolox_hf.training.save_file", lambda *arguments: next(saves)(*arguments))
        assert run(*arguments, "--epochs", 3) == 130
    assert capsys.readouterr().err.strip().splitlines()[-1] == "interrupted"
    assert {path.name for path in out.iterdir()} == {"checkpoint-2", "checkpoint-4"}
    assert run(*arguments, "--epochs", 3, "--resume") == 0
    state = json.loads((out / "checkpoint-6" / "trainer_state.json").read_text())
    assert [entry["step"] for entry in state["log_history"] if "loss" in entry] == [2, 4, 6]


@pytest.mark.parametrize(
    ("arguments", "moment"),
    [
        (["convert", "{checkpoint}", "{out}"], "yolox_hf.YoloxImageProcessor.save_pretrained"),
        (["convert", "{model}", "{out}", "--to-original"], "torch.save"),
        (["push", "{model}", "someone/shapes", "--upload"], "huggingface_hub.HfApi.create_repo"),
        (["evaluate", "{data}", "--model", "{model}", "--plots", "{plots}"], "yolox_hf.evaluation.coco_metrics"),
    ],
)
def test_interrupting_leaves_nothing_half(arguments, moment, shared, model_dir, tmp_path, capsys, monkeypatch):
    places = {name: tmp_path / name for name in ("out", "data", "plots")}
    write_scenes(places["data"], {"train": 1, "validation": 1}, width=96, height=64)
    places |= {"checkpoint": shared / "weights" / "yolox_nano.pth", "model": model_dir}
    before = set(tmp_path.rglob("*"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(moment, interrupt)
    assert run(*(argument.format(**places) for argument in arguments)) == 130
    assert capsys.readouterr().err.strip().splitlines()[-1] == "interrupted"
    assert {path for path in tmp_path.rglob("*") if path.is_file()} <= before
