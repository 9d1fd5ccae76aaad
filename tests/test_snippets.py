# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""What README and model cards tell a reader to run, run: in a folder that has what they name."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from yolox_hf.configuration_yolox import VARIANTS
from yolox_hf.scenes import write_scenes

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "model_cards").glob("*.md"))]
# What `.ci/run` does itself, and what runs this very test.
NOT_RUN = ("python3 -m venv", "make check")


@pytest.fixture
def place(shared, nano_dir, tmp_path, monkeypatch):
    """A checkout beside the reference material, with a converted model under every name and a labelled folder."""
    here = tmp_path / "checkout"
    here.mkdir()
    (tmp_path / "shared").symlink_to(shared)
    for folder in ("conversion", "examples"):
        (here / folder).symlink_to(ROOT / folder)
    for name in VARIANTS:
        shutil.copytree(nano_dir, here / name)
    shutil.copytree(ROOT / "src" / "yolox_hf" / "demo", here / "yolox-demo")
    shutil.copy(shared / "images" / "dog.jpg", here / "photo.jpg")
    write_scenes(here / "FOLDER", {"train": 4, "validation": 2})
    monkeypatch.chdir(here)
    return here


def run_block(language: str, block: str, names: dict) -> None:
    if language == "python":
        exec(compile(block.replace("num_train_epochs=30", "num_train_epochs=1"), "snippet", "exec"), names)
        return
    # Scenes by the thousand, and epochs on them, are the same commands with larger numbers.
    block = re.sub(r"--(train|validation) \d+", r"--\1 2", block)
    for line in block.replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith(NOT_RUN):
            continue
        command = shlex.split(line, comments=True)
        if command[0] == "yolox-hf":
            command = ["python", "-c", "import sys; from yolox_hf.cli import main; sys.exit(main())", *command[1:]]
        assert command[0] == "python", f"the test does not know how to run {line!r}"
        if "fine_tune.py" in line or " train " in line:
            command += ["--epochs", "1"]  # of several, the last counts
        process = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True, timeout=300)
        assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_snippets_run(document, place, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str(os.cpu_count()))
    blocks = re.findall(
        r"^```(python|bash)\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert blocks
    names: dict = {}
    for language, block in blocks:
        run_block(language, block, names)
