# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from yolox_hf import YoloxForObjectDetection
from yolox_hf.cards import DEMO_MODEL, PUBLISHED_AP, all_cards

FOLDER = Path(__file__).parents[1] / "model_cards"


@pytest.mark.parametrize("name", [*PUBLISHED_AP, "yolox-demo"])
def test_the_card_says_what_the_code_says(name):
    written = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    assert written == str(all_cards()[name]), "run `python -m yolox_hf.cards model_cards`"


def test_there_are_no_other_cards():
    assert {path.stem for path in FOLDER.iterdir()} == {*PUBLISHED_AP, "yolox-demo"}


@pytest.mark.parametrize("name", PUBLISHED_AP)
def test_metadata_is_the_hubs(name):
    data = ModelCard.load(FOLDER / f"{name}.md").data
    assert (data.pipeline_tag, data.library_name, data.license) == ("object-detection", "transformers", "apache-2.0")
    (result,) = data.eval_results
    assert (result.metric_value, result.dataset_split) == PUBLISHED_AP[name]


def test_the_demo_model_is_small_and_of_the_card():
    assert sum(path.stat().st_size for path in DEMO_MODEL.iterdir()) < 4e6
    model = YoloxForObjectDetection.from_pretrained(DEMO_MODEL)
    assert f"{model.num_parameters():,}" in (FOLDER / "yolox-demo.md").read_text(encoding="utf-8")
