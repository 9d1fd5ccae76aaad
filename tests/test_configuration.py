import json

import pytest
from huggingface_hub.errors import StrictDataclassError

from yolox_hf import YoloxConfig
from yolox_hf.configuration_yolox import COCO_CLASSES, VARIANTS


def test_coco_is_the_default():
    config = YoloxConfig()
    assert config.num_labels == 80
    assert (config.id2label[0], config.id2label[16], config.id2label[79]) == ("person", "dog", "toothbrush")
    assert config.label2id["dog"] == 16
    assert len(set(COCO_CLASSES)) == 80


@pytest.mark.parametrize("variant", VARIANTS)
def test_json_round_trip(variant, tmp_path):
    config = YoloxConfig.from_variant(variant, num_labels=3, batch_norm_momentum=0.1)
    config.save_pretrained(tmp_path)
    reloaded = YoloxConfig.from_pretrained(tmp_path)
    assert reloaded.to_dict() == {
        **config.to_dict(),
        "transformers_version": reloaded.to_dict()["transformers_version"],
    }
    assert reloaded.num_labels == 3
    assert reloaded.batch_norm_eps == 1e-3
    assert reloaded.batch_norm_momentum == 0.1
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "yolox"


def test_variants_are_told_apart_by_width_and_depth():
    config = YoloxConfig.from_variant("yolox-x")
    assert (config.stem_channels, config.stage_channels[-1], config.depths, config.head_channels) == (
        80,
        1280,
        [4, 12, 12, 4],
        320,
    )
    assert YoloxConfig.from_variant("yolox-nano").depthwise
    assert VARIANTS["yolox-nano"]["stage_channels"] == (32, 64, 128, 256)  # a row is not changed by its use


def test_custom_labels():
    config = YoloxConfig.from_variant("yolox-s", id2label={"0": "cat", "1": "dog"})
    assert config.num_labels == 2
    assert config.id2label == {0: "cat", 1: "dog"}
    assert config.label2id == {"cat": 0, "dog": 1}


def test_out_features():
    assert YoloxConfig().out_features == ["stage4"]
    assert YoloxConfig(out_features=["stem", "stage2"]).out_indices == [0, 2]
    with pytest.raises(ValueError, match="subset of stage_names"):
        YoloxConfig(out_features=["dark5"])


def test_unknown_variant():
    with pytest.raises(ValueError, match=r"`variant` must be one of yolox-nano, .*, got 'yolox-huge'"):
        YoloxConfig.from_variant("yolox-huge")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depths": (1, 2)}, "one entry for each of the 4 stages"),
        ({"stage_channels": (64, 128, 255, 512)}, "must be even"),
        ({"depths": (1, 0, 3, 1)}, "`depths` must be at least 1"),
        ({"head_channels": 0}, "`head_channels` must be at least 1, got 0"),
        ({"batch_norm_eps": 0.0}, "`batch_norm_eps` must be positive"),
        ({"batch_norm_momentum": 1.5}, r"`batch_norm_momentum` in \(0, 1\]"),
        ({"prior_probability": 1.0}, r"`prior_probability` must be in \(0, 1\), got 1.0"),
        ({"backbone_type": "darknet53", "depthwise": True}, "`depthwise=True` needs"),
        ({"backbone_type": "resnet"}, "backbone_type"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"stem_channels": "32"}, "stem_channels"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises((ValueError, TypeError, StrictDataclassError), match=message):
        YoloxConfig(**fields)
