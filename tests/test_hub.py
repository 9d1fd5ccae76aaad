# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Loading from the Hub and uploading to it, against a local server."""

import json
import os
import subprocess
import sys

import pytest
import torch
from conftest import small_config
from hub_server import REPO, HubServer
from huggingface_hub import ModelCard
from PIL import Image
from transformers import pipeline

from yolox_hf import YoloxForObjectDetection, YoloxImageProcessor
from yolox_hf.export import export_model
from yolox_hf.hub import push_to_hub

TOKEN = "hf_secret"
LOAD = """
import json, sys
if sys.argv[3] == "remote":
    sys.modules["yolox_hf"] = None
else:
    import yolox_hf
from transformers import pipeline
detector = pipeline("object-detection", model=sys.argv[1], trust_remote_code=sys.argv[3] == "remote")
assert detector.model.__module__.startswith("transformers_modules.") == (sys.argv[3] == "remote")
print(json.dumps(detector(sys.argv[2], threshold=0.3)))
"""
PUSH = """
import sys
from yolox_hf.cli import main
sys.exit(main(["push", *sys.argv[1:]]))
"""


@pytest.fixture
def model_dir(tmp_path):
    torch.manual_seed(0)
    model = YoloxForObjectDetection(small_config()).eval()
    for predictor in (*model.head.objectness_predictors, *model.head.class_predictors):
        torch.nn.init.constant_(predictor.bias, 0.5)
    model.save_pretrained(tmp_path / "model")
    YoloxImageProcessor(size=64).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def picture(photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def run(code, hub, home, *arguments, token=None):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    if token is not None:
        environment["HF_TOKEN"] = token
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("how", ["package", "remote"])
def test_pipeline_loads_from_the_hub(how, model_dir, picture, tmp_path):
    expected = pipeline("object-detection", model=str(model_dir))(str(picture), threshold=0.3)
    assert expected
    with HubServer(contents(model_dir)) as hub:
        process = run(LOAD, hub, tmp_path / "home", REPO, picture, how)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == expected


def test_an_export_loads_from_the_hub(model_dir, picture, tmp_path):
    pytest.importorskip("onnxruntime")
    exported = export_model(model_dir, tmp_path / "exported", format="onnx")
    expected = pipeline("object-detection", model=str(exported))(str(picture), threshold=0.3)
    assert expected
    with HubServer(contents(exported)) as hub:
        process = run(LOAD, hub, tmp_path / "home", REPO, picture, "package")
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == expected


def test_a_dropped_connection_leaves_nothing_that_is_taken_for_whole(model_dir, picture, tmp_path):
    expected = pipeline("object-detection", model=str(model_dir))(str(picture), threshold=0.3)
    with HubServer(contents(model_dir)) as hub:
        hub.cut["model.safetensors"] = 1000
        process = run(LOAD, hub, tmp_path / "home", REPO, picture, "package")
        assert process.returncode != 0
        cached = list((tmp_path / "home").rglob("model.safetensors"))
        assert not cached
        hub.cut.clear()
        process = run(LOAD, hub, tmp_path / "home", REPO, picture, "package")
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == expected
    (cached,) = (tmp_path / "home").rglob("model.safetensors")
    assert cached.read_bytes() == (model_dir / "model.safetensors").read_bytes()


def test_a_connection_that_drops_once_resumes(model_dir, picture, tmp_path):
    with HubServer(contents(model_dir)) as hub:
        hub.cut["model.safetensors"] = 1
        process = run(LOAD, hub, tmp_path / "home", REPO, picture, "package")
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)
    content = (model_dir / "model.safetensors").read_bytes()
    (cached,) = (tmp_path / "home").rglob("model.safetensors")
    assert cached.read_bytes() == content


def test_push_to_a_repository_behind_a_token(model_dir, picture, tmp_path):
    with HubServer(token=TOKEN) as hub:
        process = run(PUSH, hub, tmp_path / "home", model_dir, REPO, "--upload", token=TOKEN)
        assert process.returncode == 0, process.stderr
        assert len(hub.commits) == 1
        assert hub.files.keys() == contents(model_dir).keys() | {"README.md"}
        assert hub.files["model.safetensors"] == (model_dir / "model.safetensors").read_bytes()
        assert hub.large == {"model.safetensors"}
        card = hub.files["README.md"].decode()
        assert "pipeline_tag: object-detection" in card and "license" not in ModelCard(card).data.to_dict()
        assert f'model="{REPO}")' in card and f'model="{REPO}", trust_remote_code=True)' in card
        loaded = run(LOAD, hub, tmp_path / "home2", REPO, picture, "remote", token=TOKEN)
        assert loaded.returncode == 0, loaded.stderr
        refused = run(LOAD, hub, tmp_path / "home3", REPO, picture, "package")
        assert refused.returncode != 0


@pytest.mark.parametrize("token", [None, "hf_wrong"])
def test_push_without_the_right_token(token, model_dir, tmp_path):
    with HubServer(token=TOKEN) as hub:
        process = run(PUSH, hub, tmp_path / "home", model_dir, REPO, "--upload", token=token)
        assert hub.commits == [] and hub.files is None
    assert process.returncode == 1
    assert process.stderr.startswith("error: ") and "Traceback" not in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1
    assert ("no Hub token" if token is None else "refused") in process.stderr


def test_push_without_a_network(model_dir, tmp_path):
    with HubServer() as hub:
        pass  # its address answers no more
    process = run(PUSH, hub, tmp_path / "home", model_dir, REPO, "--upload", token=TOKEN)
    assert process.returncode == 1
    assert process.stderr.startswith("error: The Hub could not be reached") and "Traceback" not in process.stderr


@pytest.mark.parametrize("repo_id", ["yolox", "some one/yolox", "someone/yolox/nano"])
def test_a_dry_run_checks_the_name(repo_id, model_dir):
    with pytest.raises(ValueError, match="`repo_id`"):
        push_to_hub(model_dir, repo_id)


def test_a_dry_run_needs_no_network(model_dir):
    (model_dir / "pytorch_model.bin").write_bytes(b"pickle")
    upload = push_to_hub(model_dir, REPO)
    assert upload.url is None
    assert upload.files.keys() == contents(model_dir).keys() - {"pytorch_model.bin"} | {"README.md"}
    assert upload.files["model.safetensors"] == (model_dir / "model.safetensors").stat().st_size
    (model_dir / "config.json").unlink()
    with pytest.raises(OSError, match=r"config\.json missing"):
        push_to_hub(model_dir, REPO)
