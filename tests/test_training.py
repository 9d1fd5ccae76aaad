import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import small_config
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from yolox_hf import YoloxForObjectDetection, YoloxImageProcessor
from yolox_hf.evaluation import CocoMetrics, coco_ground_truth, coco_metrics
from yolox_hf.training import (
    RECIPES,
    EmaCallback,
    TrainingRecipe,
    YoloxDataCollator,
    YoloxTrainer,
    create_optimizer,
    ema_decay,
    learning_rate_factor,
)

ID2LABEL = {0: "red", 1: "green", 2: "blue"}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Dataset:
    """12 images of 64 x 96 with up to three filled rectangles, one colour a class; the last image is empty."""
    folder = tmp_path_factory.mktemp("scenes")
    random, rows = np.random.RandomState(0), []
    for image_id in range(12):
        image = Image.new("RGB", (96, 64), "black")
        objects = {"bbox": [], "category": [], "area": [], "iscrowd": []}
        for category in range(0 if image_id == 11 else 1 + image_id % 3):
            width, height = (int(side) for side in random.randint(12, 30, 2))
            x, y = int(random.randint(0, 96 - width)), int(random.randint(0, 64 - height))
            ImageDraw.Draw(image).rectangle((x, y, x + width - 1, y + height - 1), list(ID2LABEL.values())[category])
            objects["bbox"].append([x, y, width, height])
            objects["category"].append(category)
            objects["area"].append(width * height)
            objects["iscrowd"].append(0)
        image.save(folder / f"{image_id}.png")
        rows.append(
            {
                "image_id": image_id,
                "image": str(folder / f"{image_id}.png"),
                "width": 96,
                "height": 64,
                "objects": objects,
            }
        )
    features = Features(
        {
            "image_id": Value("int64"),
            "image": ImageFeature(decode=False),
            "width": Value("int64"),
            "height": Value("int64"),
            "objects": {
                "bbox": [[Value("float32")]],
                "category": [Value("int64")],
                "area": [Value("float32")],
                "iscrowd": [Value("int64")],
            },
        }
    )
    return Dataset.from_list(rows, features=features)


@pytest.fixture(scope="module")
def processor() -> YoloxImageProcessor:
    return YoloxImageProcessor(size={"height": 64, "width": 96})


def new_model() -> YoloxForObjectDetection:
    torch.manual_seed(0)
    return YoloxForObjectDetection(small_config(id2label=ID2LABEL))


def arguments(folder, **kwargs) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        **{
            "per_device_train_batch_size": 4,
            "per_device_eval_batch_size": 5,
            "num_train_epochs": 2,
            "remove_unused_columns": False,
            "eval_do_concat_batches": False,
            "batch_eval_metrics": True,
            "logging_steps": 2,
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            **kwargs,
        },
    )


# ---- schedule and optimizer


def test_learning_rates_equal_the_original(shared):
    reference = json.loads((shared / "reference" / "schedule.json").read_text())["lr_schedule"]
    total = reference["iters_per_epoch"] * reference["epochs"]
    recipe = TrainingRecipe(
        warmup_fraction=reference["warmup_epochs"] / reference["epochs"],
        final_fraction=reference["no_aug_epochs"] / reference["epochs"],
        min_learning_rate_ratio=reference["min_lr_ratio"],
        cosine_until_final=True,
    )
    for step, expected in reference["lr_at_step"].items():
        actual = reference["base_lr"] * learning_rate_factor(int(step), total, recipe)
        assert actual == pytest.approx(expected, rel=1e-9, abs=1e-15), step


def test_ema_decay_equals_the_original(shared):
    reference = json.loads((shared / "reference" / "schedule.json").read_text())["ema"]
    for update, expected in reference["value_at_update"].items():
        assert ema_decay(int(update), reference["decay"], ramp=2000) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("steps", [1, 10, 1000])
def test_every_phase_fits_into_a_run_of_any_length(name, steps):
    factors = [learning_rate_factor(step, steps, RECIPES[name]) for step in range(steps)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert max(factors) > 0.9
    assert steps == 1 or factors[-1] < max(factors)


def test_a_flat_part_keeps_the_full_rate_before_the_cosine():
    recipe = TrainingRecipe(flat_fraction=0.4, warmup_fraction=0.1)
    factors = [learning_rate_factor(step, 100, recipe) for step in range(101)]
    assert factors[10:51] == [1.0] * 41
    assert factors[51] < 1 and factors[75] == pytest.approx((1 + 0.05) / 2) and factors[100] == pytest.approx(0.05)


def test_norms_and_biases_have_no_decay():
    model = new_model()
    for recipe in (RECIPES["paper"], TrainingRecipe(backbone_multiplier=0.1)):
        optimizer = create_optimizer(model, recipe, batch_size=16)
        rate = recipe.learning_rate / 4 if recipe.optimizer == "sgd" else recipe.learning_rate
        settings = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
        assert len(settings) == len(list(model.parameters()))
        for name, parameter in model.named_parameters():
            expected_rate = rate * (recipe.backbone_multiplier if ".backbone." in name else 1)
            decay = recipe.weight_decay if name.endswith("weight") and ".norm." not in name else 0
            assert settings[id(parameter)] == (pytest.approx(expected_rate), decay), name
    assert isinstance(create_optimizer(model, RECIPES["paper"], 64), torch.optim.SGD)


# ---- collator


def test_collator(scenes, processor):
    batch = YoloxDataCollator(processor, num_labels=3)([scenes[2], scenes[11]])
    assert batch["pixel_values"].shape == (2, 3, 64, 96)
    label, empty = batch["labels"]
    x, y, width, height = scenes[2]["objects"]["bbox"][1]
    torch.testing.assert_close(
        label["boxes"][1], torch.tensor([(x + width / 2) / 96, (y + height / 2) / 64, width / 96, height / 64])
    )
    assert label["class_labels"].tolist() == [0, 1, 2]
    assert empty["boxes"].shape == (0, 4)
    green = batch["pixel_values"][0, :, int(y + height / 2), int(x + width / 2)]
    assert green[1] > 0 or 2 in label["class_labels"]


def test_a_corrupt_image_is_an_error_or_skipped_and_counted(scenes, processor, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(scenes[0]["image"]["path"]).read_bytes()[:100])
    rows = [scenes[1], {**scenes[0], "image": {"path": str(broken), "bytes": None}}, scenes[2]]
    with pytest.raises(OSError, match=r"broken.png cannot be decoded"):
        YoloxDataCollator(processor, num_labels=3)(rows)
    collator = YoloxDataCollator(processor, num_labels=3, on_broken_image="skip")
    assert [int(label["image_id"]) for label in collator(rows)["labels"]] == [1, 2]
    assert collator.num_skipped == 1
    with pytest.raises(OSError, match="None of the 1 images of a batch can be decoded"):
        collator(rows[1:2])


def test_collator_refuses_classes_out_of_range(scenes, processor):
    with pytest.raises(ValueError, match=r"`class_labels` must be in \[0, 2\), got 2 in image 1"):
        YoloxDataCollator(processor, num_labels=2)([scenes[0], scenes[2]])


# ---- metrics


def test_perfect_detections_have_a_map_of_one(scenes):
    ground_truth = coco_ground_truth(scenes, ID2LABEL)
    detections = [
        {key: annotation[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
        for annotation in ground_truth["annotations"]
    ]
    metrics = coco_metrics(ground_truth, detections)
    assert metrics["map"] == metrics["map_50"] == metrics["map_red"] == metrics["map_blue"] == pytest.approx(1)
    without_blue = [found for found in detections if found["category_id"] != 2]
    metrics = coco_metrics(ground_truth, without_blue)
    assert (metrics["map"], metrics["map_blue"]) == (pytest.approx(2 / 3), 0)
    assert coco_metrics(ground_truth, [])["map"] == 0


def test_metrics_see_what_the_labels_say(scenes, processor):
    """Labels turned into outputs and back through the processor are perfect detections, batch by batch or at once."""
    collator, batches = YoloxDataCollator(processor, num_labels=3), []
    for start in (0, 6):
        labels = collator([scenes[index] for index in range(start, start + 6)])["labels"]
        logits, boxes = torch.full((6, 3, 3), -20.0), torch.zeros(6, 3, 4)
        for image, label in enumerate(labels):
            for anchor, (category, box) in enumerate(zip(label["class_labels"], label["boxes"])):
                logits[image, anchor, category], boxes[image, anchor] = 5.0, box
        numpy_labels = [{key: value.numpy() for key, value in label.items()} for label in labels]
        batches.append((({}, logits.numpy(), boxes.numpy()), numpy_labels))
    for _ in range(2):  # the second evaluation starts afresh
        metrics = CocoMetrics(processor, scenes, ID2LABEL)
        assert metrics(SimpleNamespace(predictions=batches[0][0], label_ids=batches[0][1]), compute_result=False) == {}
        result = metrics(SimpleNamespace(predictions=batches[1][0], label_ids=batches[1][1]), compute_result=True)
        assert result["map"] == pytest.approx(1)
    at_once = SimpleNamespace(predictions=[batch[0] for batch in batches], label_ids=[batch[1] for batch in batches])
    assert metrics(at_once)["map"] == pytest.approx(1)


# ---- Trainer


def test_plain_trainer(scenes, processor, tmp_path):
    model = new_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = Trainer(
        model,
        arguments(tmp_path, learning_rate=1e-3),
        data_collator=YoloxDataCollator(processor, num_labels=3),
        train_dataset=scenes,
        eval_dataset=scenes,
        compute_metrics=CocoMetrics(processor, scenes, ID2LABEL),
    )
    trainer.train()
    metrics = trainer.evaluate()
    assert math.isfinite(metrics["eval_loss"]) and 0 <= metrics["eval_map"] <= 1
    assert not torch.equal(model.head.stems[0].conv.weight, before["head.stems.0.conv.weight"])


def test_trainer_learns_and_logs_each_term(scenes, processor, tmp_path):
    trainer = YoloxTrainer(
        new_model(),
        arguments(tmp_path, num_train_epochs=30, logging_steps=10, seed=0),
        data_collator=YoloxDataCollator(processor, num_labels=3),
        train_dataset=scenes,
        recipe=TrainingRecipe(learning_rate=1e-2),
        augmentation=None,
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert {"loss_bbox", "loss_objectness", "loss_classification", "loss_l1", "num_foreground"} <= logs[0].keys()
    terms = sum(logs[0][name] for name in ("loss_bbox", "loss_objectness", "loss_classification", "loss_l1"))
    assert terms == pytest.approx(logs[0]["loss"], rel=1e-3)
    assert logs[-1]["loss"] < 0.7 * logs[0]["loss"]


def train(scenes, processor, folder, resume=None, **kwargs):
    model = new_model()
    trainer = YoloxTrainer(
        model,
        arguments(folder, num_train_epochs=4, save_strategy="steps", save_steps=5, seed=3, **kwargs),
        data_collator=YoloxDataCollator(processor, num_labels=3),
        train_dataset=scenes,
        recipe=TrainingRecipe(ema_horizon=0.5),
    )
    trainer.train(resume_from_checkpoint=resume)
    return model.state_dict(), trainer


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(scenes, processor, tmp_path):
    whole, trainer = train(scenes, processor, tmp_path / "whole")
    assert trainer.state.global_step == 12
    shutil.copytree(tmp_path / "whole" / "checkpoint-5", tmp_path / "resumed" / "checkpoint-5")
    resumed, trainer = train(
        scenes, processor, tmp_path / "resumed", resume=str(tmp_path / "resumed" / "checkpoint-5")
    )
    assert trainer.state.global_step == 12
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    for file in ("model.safetensors", "ema.safetensors"):
        one, other = (load_file(tmp_path / run / "checkpoint-12" / file) for run in ("whole", "resumed"))
        assert all(torch.equal(one[name], other[name]) for name in one)
    raw, averaged = (
        load_file(tmp_path / "whole" / "checkpoint-12" / f"{kind}.safetensors") for kind in ("model", "ema")
    )
    assert not torch.equal(raw["head.stems.0.conv.weight"], averaged["head.stems.0.conv.weight"])
    assert torch.equal(whole["head.stems.0.conv.weight"], averaged["head.stems.0.conv.weight"])
    (tmp_path / "resumed" / "checkpoint-5" / "ema.safetensors").unlink()
    with pytest.raises(OSError, match="averaged weights of step 5 are not in"):
        train(scenes, processor, tmp_path / "resumed", resume=str(tmp_path / "resumed" / "checkpoint-5"))


@pytest.mark.parametrize("horizon", [None, 0.5])
def test_averaged_weights_follow_their_definition(horizon):
    model = torch.nn.Linear(2, 1)
    callback = EmaCallback(horizon)
    control = SimpleNamespace(should_evaluate=False)
    callback.on_train_begin(None, SimpleNamespace(global_step=0), control, model=model)
    expected = model.weight.detach().clone()
    for step in range(1, 7):
        with torch.no_grad():
            model.weight += step
        callback.on_step_end(None, SimpleNamespace(global_step=step, max_steps=6), control, model=model)
        decay = 0.9998 * (1 - math.exp(-step / 2000)) if horizon is None else (1 - 1 / 3) * (1 - math.exp(-step / 3))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    torch.testing.assert_close(callback.averaged["weight"], expected)
    raw = model.weight.detach().clone()
    control.should_evaluate = True
    callback.on_epoch_end(None, None, control, model=model)
    torch.testing.assert_close(model.weight.detach(), expected)  # what is evaluated
    callback.on_evaluate(None, None, control, model=model)
    assert torch.equal(model.weight, raw)  # what training goes on from


def test_the_final_phase(scenes, processor, tmp_path):
    recipe = TrainingRecipe(final_fraction=0.5, l1_throughout=False, augmentation="yolox-nano")
    trainer = YoloxTrainer(
        new_model(),
        arguments(tmp_path, num_train_epochs=2, logging_steps=1),
        data_collator=YoloxDataCollator(processor, num_labels=3),
        train_dataset=scenes,
        recipe=recipe,
    )
    assert trainer.augmentation.config.mosaic_probability > 0
    trainer.train()
    assert ["loss_l1" in entry for entry in trainer.state.log_history if "loss" in entry] == [False] * 3 + [True] * 3
    assert trainer.augmentation.config.mosaic_probability == 0 and trainer.augmentation.config.flip_probability > 0


def test_the_recipe_decides_about_clipping_and_leaves_the_arguments_alone(tmp_path):
    given = arguments(tmp_path)
    trainer = YoloxTrainer(new_model(), given, recipe=TrainingRecipe(max_grad_norm=5.0))
    assert (trainer.args.max_grad_norm, given.max_grad_norm) == (5.0, TrainingArguments(str(tmp_path)).max_grad_norm)


def test_bad_options_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"`horizon` must be in \(0, 1\] or None, got 5"):
        EmaCallback(horizon=5)
    with pytest.raises(ValueError, match="`recipe` must be one of fine-tuning, paper"):
        YoloxTrainer(new_model(), arguments(tmp_path), recipe="best")
