# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""YOLOX-Nano fine-tuned (or trained from scratch) on BCCD, as recorded in `benchmarks/RESULTS.md`.

    python benchmarks/bccd.py --data ../shared/data/bccd --checkpoint ../shared/weights/yolox_nano.pth --seeds 0 1 2

One line of JSON for each run: AP on val (and with `--test` on test, which is for the end), its course, and the time.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from datasets import Image
from transformers import TrainingArguments

from yolox_hf import YoloxConfig, YoloxForObjectDetection, YoloxImageProcessor
from yolox_hf.conversion import convert_checkpoint
from yolox_hf.data import DetectionData, load_detection_data
from yolox_hf.evaluation import CocoMetrics
from yolox_hf.training import RECIPES, TrainingRecipe, YoloxDataCollator, YoloxTrainer


def new_model(checkpoint: Path | None, data: DetectionData, folder: str) -> YoloxForObjectDetection:
    labels = {
        "id2label": data.id2label,
        "label2id": {name: index for index, name in data.id2label.items()},
    }
    if checkpoint is None:
        return YoloxForObjectDetection(YoloxConfig.from_variant("yolox-nano", **labels))
    convert_checkpoint(checkpoint, folder)
    return YoloxForObjectDetection.from_pretrained(folder, **labels, ignore_mismatched_sizes=True)


def freeze_batch_norm(model: torch.nn.Module) -> None:
    """Pretrained statistics stay: `train()` leaves the batch norms in evaluation mode."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module


def override(recipe: TrainingRecipe, changes: list[str]) -> TrainingRecipe:
    """The recipe with fields changed, each given as `name=number`."""
    return replace(recipe, **{name: float(value) for name, value in (change.split("=") for change in changes)})


def run(options: argparse.Namespace, data: DetectionData, seed: int) -> dict:
    torch.manual_seed(seed)
    splits = data.splits.cast_column("image", Image(decode=False))
    processor = YoloxImageProcessor.from_variant("yolox-nano")
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=f"{folder}/run",
            num_train_epochs=options.epochs,
            per_device_train_batch_size=8,
            per_device_eval_batch_size=8,
            eval_strategy="epoch" if options.curve else "no",
            save_strategy="no",
            logging_strategy="epoch",
            remove_unused_columns=False,
            eval_do_concat_batches=False,
            batch_eval_metrics=True,
            seed=seed,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            use_cpu=options.cpu,
        )
        trainer = YoloxTrainer(
            new_model(options.checkpoint, data, f"{folder}/model"),
            arguments,
            recipe=override(RECIPES[options.recipe], options.override),
            data_collator=YoloxDataCollator(processor, len(data.id2label)),
            train_dataset=splits["train"],
            eval_dataset=splits["validation"],
            compute_metrics=CocoMetrics(processor, splits["validation"], data.id2label),
        )
        if options.freeze_batch_norm:
            freeze_batch_norm(trainer.model)
        start = time.perf_counter()
        trainer.train()
        result: dict = {
            "recipe": " ".join(
                (options.recipe, *options.override, *["frozen batch norm"] * options.freeze_batch_norm)
            ),
            "pretrained": options.checkpoint is not None,
            "epochs": options.epochs,
            "seed": seed,
            "minutes": round((time.perf_counter() - start) / 60, 1),
            "threads": torch.get_num_threads(),
        }
        metrics = trainer.evaluate()
        result["val"] = [round(metrics[name], 4) for name in ("eval_map", "eval_map_50")]
        if options.test:
            trainer.compute_metrics = CocoMetrics(processor, splits["test"], data.id2label)
            metrics = trainer.evaluate(splits["test"])
            result["test"] = [round(metrics[name], 4) for name in ("eval_map", "eval_map_50")]
        history = trainer.state.log_history
        result["loss"] = [round(entry["loss"], 3) for entry in history if "loss" in entry]
        if options.curve:
            result["val_map"] = [round(entry["eval_map"], 3) for entry in history if "eval_map" in entry]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, help="the original's .pth; from scratch without it")
    parser.add_argument("--recipe", default="fine-tuning")
    parser.add_argument("--override", nargs="+", default=[], help="fields of the recipe, as backbone_multiplier=0.3")
    parser.add_argument("--freeze-batch-norm", action="store_true")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--test", action="store_true", help="evaluate on test too")
    parser.add_argument("--curve", action="store_true", help="evaluate on val after each epoch")
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    data = load_detection_data(options.data)
    for seed in options.seeds:
        print(json.dumps(run(options, data, seed)), flush=True)


if __name__ == "__main__":
    main()
