import hashlib
import http.server
import json
import os
import pickle
import runpy
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import images

from yolox_hf import YoloxConfig, YoloxForObjectDetection, YoloxImageProcessor, conversion
from yolox_hf.configuration_yolox import VARIANTS
from yolox_hf.conversion import (
    convert_checkpoint,
    convert_state_dict,
    convert_stem,
    identify_checkpoint,
    original_key,
    read_checkpoint,
    read_labels,
)

SCRIPT = Path(__file__).parents[1] / "conversion" / "convert_yolox_to_hf.py"


def original_state_dict(variant: str = "yolox-nano", num_labels: int = 3) -> dict[str, torch.Tensor]:
    """Random weights in the original's layout."""
    torch.manual_seed(0)
    config = YoloxConfig.from_variant(variant, num_labels=num_labels)
    state_dict = {}
    for key, value in YoloxForObjectDetection(config).state_dict().items():
        if key == "model.backbone.stem.conv.weight" and config.backbone_type == "csp_darknet":
            value = torch.randn(len(value), 12, 3, 3)
        state_dict[original_key(key, config)] = value
    return state_dict


def save(content, path: Path) -> Path:
    torch.save(content, path)
    return path


def run_script(*arguments) -> int:
    return runpy.run_path(str(SCRIPT))["main"]([str(argument) for argument in arguments])


# ---- names and shapes


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_and_shapes_are_the_originals(variant, shared):
    manifest = json.loads((shared / "reference" / "manifest.json").read_text())["variants"]
    expected = {key: tuple(shape) for key, shape in manifest[variant.removeprefix("yolox-")]["state_dict"].items()}
    with torch.device("meta"):
        state_dict = original_state_dict(variant, num_labels=80)
    assert {key: tuple(value.shape) for key, value in state_dict.items()} == expected
    assert identify_checkpoint(state_dict) == (variant, 80)


def test_stem_equals_focus():
    bgr = images(0, 2, 32, 64)
    weight = torch.randn(5, 12, 3, 3)
    patches = (bgr[..., ::2, ::2], bgr[..., 1::2, ::2], bgr[..., ::2, 1::2], bgr[..., 1::2, 1::2])
    expected = torch.conv2d(torch.cat(patches, dim=1), weight, padding=1)
    actual = torch.conv2d(bgr.flip(1), convert_stem(weight, flip_channels=True), stride=2, padding=2)
    torch.testing.assert_close(actual, expected, atol=1e-2, rtol=1e-5)  # of levels up to 255 * 108
    unflipped = torch.conv2d(bgr, convert_stem(weight, flip_channels=False), stride=2, padding=2)
    torch.testing.assert_close(unflipped, expected, atol=1e-2, rtol=1e-5)


def test_conversion_changes_nothing_it_is_given():
    state_dict = original_state_dict()
    before = {key: value.clone() for key, value in state_dict.items()}
    convert_state_dict(state_dict, YoloxConfig.from_variant("yolox-nano", num_labels=3), flip_channels=True)
    assert all(torch.equal(state_dict[key], before[key]) for key in before)


def test_missing_unexpected_and_misshapen_keys_are_listed():
    state_dict = original_state_dict()
    del state_dict["backbone.C3_p4.conv1.bn.bias"]
    state_dict["head.angle_preds.0.weight"] = torch.zeros(1)
    state_dict["head.obj_preds.1.weight"] = torch.zeros(2, 64, 1, 1)
    with pytest.raises(ValueError) as error:
        convert_state_dict(state_dict, YoloxConfig.from_variant("yolox-nano", num_labels=3), flip_channels=True)
    assert "missing: backbone.C3_p4.conv1.bn.bias" in str(error.value)
    assert "unexpected: head.angle_preds.0.weight" in str(error.value)
    assert "of another shape: head.obj_preds.1.weight (2, 64, 1, 1) for our (1, 64, 1, 1)" in str(error.value)


# ---- reading


def test_containers_and_prefixes(tmp_path):
    raw, averaged = {"a.weight": torch.zeros(2)}, {"a.weight": torch.ones(2)}
    for content, expected in (
        (raw, 0),
        ({"model": raw, "start_epoch": 300, "best_ap": 0.25}, 0),
        ({"model": raw, "ema": averaged}, 1),
        ({"model": raw, "ema_model": {f"module.{key}": value for key, value in averaged.items()}}, 1),
        ({"model": {f"module._orig_mod.{key}": value for key, value in raw.items()}}, 0),
        ({"model": raw, "ema": None}, 0),
    ):
        state_dict = read_checkpoint(save(content, tmp_path / "checkpoint.pth")).weights
        assert list(state_dict) == ["a.weight"]
        assert state_dict["a.weight"].mean() == expected


@pytest.mark.parametrize("legacy", [False, True])
def test_numpy_scalars_are_allowed(legacy, tmp_path):
    content = {
        "model": {"weight": torch.ones(1)},
        "curr_ap": np.float64(0.4),
        "best": np.float32(0.5),
        "n": np.int64(3),
    }
    torch.save(content, tmp_path / "checkpoint.pth", _use_new_zipfile_serialization=not legacy)
    assert read_checkpoint(tmp_path / "checkpoint.pth").weights["weight"].item() == 1


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("container", ["zip", "legacy", "pickle"])
def test_a_malicious_pickle_is_refused_by_name_and_not_run(container, tmp_path):
    marker, path = tmp_path / "executed", tmp_path / "checkpoint.pth"
    content = {"model": {"weight": torch.ones(1)}, "exploit": Malicious(marker)}
    if container == "pickle":
        path.write_bytes(pickle.dumps(Malicious(marker), protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=container == "zip")
    with pytest.raises(
        ValueError, match=r"refused and nothing in it was run: besides weights it names (posix|nt)\.mkdir"
    ):
        read_checkpoint(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Malicious(marker)))
    assert marker.exists()  # it would have run


def test_unreadable_files(tmp_path):
    whole = save({"model": original_state_dict()}, tmp_path / "whole.pth")
    truncated, text, empty = (tmp_path / name for name in ("truncated.pth", "text.pth", "empty.pth"))
    truncated.write_bytes(whole.read_bytes()[:-5000])
    text.write_text("<html>404</html>")
    empty.touch()
    for path in (truncated, text, empty):
        with pytest.raises(ValueError, match=rf"{path.name} \({path.stat().st_size} bytes\) is not a readable"):
            read_checkpoint(path)
    with pytest.raises(OSError, match="no checkpoint file at"):
        read_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(ValueError, match="holds no weights; its keys are epoch"):
        read_checkpoint(save({"epoch": 3}, tmp_path / "none.pth"))
    with pytest.raises(ValueError, match="holds a list, not a state dict"):
        read_checkpoint(save([torch.ones(1)], tmp_path / "list.pth"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value, tmp_path):
    state_dict = original_state_dict()
    state_dict["head.stems.1.bn.running_mean"][3] = value
    with pytest.raises(ValueError, match=r"not finite \(NaN or infinite\): head.stems.1.bn.running_mean"):
        read_checkpoint(save(state_dict, tmp_path / "checkpoint.pth"))


# ---- recognising


def test_checkpoints_of_other_models():
    with pytest.raises(ValueError, match=r"no YOLOX checkpoint .* Its keys are layer1.0.conv1.weight"):
        identify_checkpoint({"layer1.0.conv1.weight": torch.zeros(1)})
    state_dict = original_state_dict()
    state_dict["backbone.backbone.stem.conv.conv.weight"] = torch.zeros(20, 12, 3, 3)
    with pytest.raises(ValueError, match=r"is none of yolox-nano, .*: its stem has 20 channels"):
        identify_checkpoint(state_dict)


def test_labels_file(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("red cell\nwhite cell\n\nplatelet\n")
    assert read_labels(path, 3) == {0: "red cell", 1: "white cell", 2: "platelet"}
    with pytest.raises(ValueError, match="has 3 names, but the checkpoint has 4 classes"):
        read_labels(path, 4)
    path.write_text("cell\ncell\n")
    with pytest.raises(ValueError, match="names cell more than once"):
        read_labels(path, 2)


# ---- converting


@pytest.mark.parametrize("preprocessing", ["bgr255", "rgb255", "rgb_imagenet"])
def test_preprocessing(preprocessing, tmp_path, photo):
    state_dict = original_state_dict()
    path = save({"model": state_dict}, tmp_path / "checkpoint.pth")
    model, processor = convert_checkpoint(
        path, tmp_path / "folder", preprocessing=preprocessing, image_size=(64, 96), variant="yolox-nano"
    )
    flipped = preprocessing == "bgr255"
    stem = convert_stem(state_dict["backbone.backbone.stem.conv.conv.weight"], flip_channels=flipped)
    assert torch.equal(model.model.backbone.stem.conv.weight, stem)
    assert (processor.size.height, processor.size.width) == (64, 96)
    pixel_values = YoloxImageProcessor.from_pretrained(tmp_path / "folder")(photo, return_tensors="pt").pixel_values
    assert (pixel_values.max() < 3) == (preprocessing == "rgb_imagenet")


def test_what_is_written(tmp_path):
    path = save({"model": original_state_dict("yolox-tiny", num_labels=2)}, tmp_path / "checkpoint.pth")
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    assert run_script("--checkpoint", path, "--output-dir", tmp_path / "out", "--labels", tmp_path / "labels.txt") == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "conversion.json",
        "configuration_yolox.py",
        "modeling_yolox.py",
        "image_processing_yolox.py",
        "loss_yolox.py",
    }
    assert json.loads((tmp_path / "out" / "conversion.json").read_text()) == {
        "source": "checkpoint.pth",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "variant": "yolox-tiny",
        "preprocessing": "bgr255",
    }
    model = YoloxForObjectDetection.from_pretrained(tmp_path / "out")
    assert model.config.id2label == {0: "cat", 1: "dog"}
    assert YoloxImageProcessor.from_pretrained(tmp_path / "out").size.height == 416
    model(images(0, 1, 64, 64))


def test_an_interrupted_conversion_leaves_nothing_that_loads(tmp_path, monkeypatch):
    checkpoint, output = save(original_state_dict(), tmp_path / "checkpoint.pth"), tmp_path / "out"
    convert_checkpoint(checkpoint, output)  # an older model lies there already
    moved: list[Path] = []

    def replace_one(path, target):
        if moved:
            raise KeyboardInterrupt
        moved.append(path)
        os.replace(path, target)

    monkeypatch.setattr(Path, "replace", replace_one)
    with pytest.raises(KeyboardInterrupt):
        convert_checkpoint(checkpoint, output)
    assert len(moved) == 1 and not (output / "config.json").exists()


def test_half_precision_checkpoints_become_float32(tmp_path):
    half = {key: value.half() if value.is_floating_point() else value for key, value in original_state_dict().items()}
    model, _ = convert_checkpoint(save(half, tmp_path / "checkpoint.pth"), tmp_path / "out")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variant", "yolox-s"], "is a yolox-nano checkpoint, not yolox-s"),
        (["--variant", "yolox-huge"], "`variant` must be one of yolox-nano"),
        (["--preprocessing", "bgr"], "`preprocessing` must be one of bgr255"),
        (["--image-size", "100", "100"], "`image_size` must be positive multiples of 32, got 100 x 100"),
        (["--labels", "absent.txt"], "absent.txt"),
    ],
)
def test_bad_arguments_are_one_line_and_write_nothing(arguments, message, tmp_path, capsys):
    path = save(original_state_dict(), tmp_path / "checkpoint.pth")
    assert run_script("--checkpoint", path, "--output-dir", tmp_path / "out", *arguments) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_output_that_is_a_file(tmp_path, capsys):
    path = save(original_state_dict(), tmp_path / "checkpoint.pth")
    assert run_script("--checkpoint", path, "--output-dir", path) == 1
    assert "is a file" in capsys.readouterr().err


# ---- downloading and uploading


@pytest.fixture
def release_server(tmp_path, monkeypatch):
    """A local stand-in for the release page; yields its folder."""
    folder = tmp_path / "release"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(conversion.official, "OFFICIAL_URL", f"http://127.0.0.1:{server.server_port}/")
    yield folder
    server.shutdown()
    server.server_close()


def test_official_file_is_downloaded(release_server, tmp_path, capsys):
    path = save({"model": original_state_dict("yolox-nano", num_labels=80)}, release_server / "yolox_nano.pth")
    assert run_script("--variant", "yolox-nano", "--output-dir", tmp_path / "out") == 0
    provenance = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert provenance["source"].endswith("/yolox_nano.pth") and provenance["source"].startswith("http://127.0.0.1")
    captured = capsys.readouterr()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == provenance["sha256"]
    assert provenance["sha256"] in captured.out
    assert "100%" in captured.err  # the progress bar
    assert YoloxForObjectDetection.from_pretrained(tmp_path / "out").config.id2label[16] == "dog"


def test_a_file_that_is_not_there(release_server, tmp_path, capsys):
    assert run_script("--variant", "yolox-s", "--output-dir", tmp_path / "out") == 1
    assert "could not be downloaded (HTTP Error 404" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_offline(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(conversion.official, "OFFICIAL_URL", "http://127.0.0.1:9/")
    assert run_script("--variant", "yolox-s", "--output-dir", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "fetch the file elsewhere and give its path as the checkpoint" in error and error.count("\n") == 1


def test_official_files():
    assert conversion.OFFICIAL_FILES == {
        "yolox-nano": "yolox_nano.pth",
        "yolox-tiny": "yolox_tiny.pth",
        "yolox-s": "yolox_s.pth",
        "yolox-m": "yolox_m.pth",
        "yolox-l": "yolox_l.pth",
        "yolox-x": "yolox_x.pth",
        "yolox-darknet53": "yolox_darknet.pth",
    }
    assert conversion.OFFICIAL_URL == "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/"


def test_upload_needs_a_token(tmp_path, monkeypatch, capsys):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    path = save(original_state_dict(), tmp_path / "checkpoint.pth")
    arguments = ["--checkpoint", path, "--output-dir", tmp_path / "out", "--push-to-hub", "someone/yolox-nano"]
    assert run_script(*arguments) == 1
    assert "there is no Hub token" in capsys.readouterr().err


def test_upload_is_one_commit_of_the_folder(tmp_path, monkeypatch, capsys):
    calls = []

    class Api:
        def __init__(self, token):
            calls.append(token)

        def create_repo(self, repo_id, **kwargs):
            calls.append(("create", repo_id, kwargs))

        def create_commit(self, repo_id, operations, **kwargs):
            calls.append(("commit", repo_id, sorted(operation.path_in_repo for operation in operations)))
            return type("Commit", (), {"commit_url": "https://example.invalid/commit/1"})

    monkeypatch.setattr("huggingface_hub.get_token", lambda: "token")
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    path = save(original_state_dict(), tmp_path / "checkpoint.pth")
    assert run_script("--checkpoint", path, "--output-dir", tmp_path / "out", "--push-to-hub", "me/nano") == 0
    assert calls == [
        "token",
        ("create", "me/nano", {"private": False, "exist_ok": True}),
        ("commit", "me/nano", sorted([*os.listdir(tmp_path / "out"), "README.md"])),
    ]
    assert "https://example.invalid/commit/1" in capsys.readouterr().out


def test_the_script_needs_a_checkpoint_or_a_variant(capsys):
    with pytest.raises(SystemExit) as stop:
        run_script("--output-dir", "out")
    assert stop.value.code == 2
    assert "give --checkpoint FILE, or --variant NAME" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run_script("--checkpoint", "file.pth")
    assert "give --output-dir FOLDER" in capsys.readouterr().err


def test_the_script_goes_back_to_the_original(tmp_path, capsys):
    state_dict = original_state_dict()
    path = save({"model": state_dict}, tmp_path / "checkpoint.pth")
    assert run_script("--checkpoint", path, "--output-dir", tmp_path / "out") == 0
    assert run_script("--to-original", tmp_path / "out", tmp_path / "back.pth") == 0
    assert capsys.readouterr().out.endswith("back.pth\n")
    back = read_checkpoint(tmp_path / "back.pth").weights
    assert all(torch.equal(back[key], value) for key, value in state_dict.items())
    assert run_script("--to-original", tmp_path / "absent", tmp_path / "back.pth") == 1
    assert "no model folder" in capsys.readouterr().err
