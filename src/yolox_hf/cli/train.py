# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""`yolox-hf train` and `yolox-hf scenes`."""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml

from ..conversion import resolve_model
from .common import Model, check_output_dir


def _read_options(context: typer.Context, path: Path | None) -> Path | None:
    """Make what a YAML file says the default of the command's options."""
    if path is None:
        return None
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"`--config` {path} is no YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(options, dict):
        raise ValueError(f"`--config` {path} must have lines of `option: value`, got {options!r}.")
    options = {str(key).replace("-", "_"): value for key, value in options.items()}
    allowed = [option.name for option in context.command.params if option.name != "config"]
    if unknown := [key for key in options if key not in allowed]:
        raise ValueError(f"`--config` {path} has no option {', '.join(unknown)}; there are {', '.join(allowed)}.")
    context.default_map = options
    return path


def _last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that is whole: the averaged weights are what a checkpoint gets last."""
    from ..training import EMA_FILE

    whole = [path.parent for path in folder.glob(f"checkpoint-[0-9]*/{EMA_FILE}")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def train(
    data: Annotated[str, typer.Argument(help="Folder, json or YAML file of labelled images, or a Hub dataset.")],
    output_dir: Annotated[Path, typer.Option(help="Folder for the checkpoints and the model.")],
    model: Model = "yolox-nano",
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Start from random weights; --model then names a variant.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1)] = 30,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a step and device.")] = 8,
    recipe: Annotated[str, typer.Option(help="fine-tuning, paper, paper-tiny or paper-nano.")] = "fine-tuning",
    augmentation: Annotated[
        str, typer.Option(help="recipe (the recipe's), fine-tuning, flip, none, yolox, yolox-tiny or yolox-nano.")
    ] = "recipe",
    image_size: Annotated[
        tuple[int, int] | None, typer.Option(help="Height and width, multiples of 32.", metavar="H W")
    ] = None,
    seed: int = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images.")] = 0,
    on_problem: Annotated[str, typer.Option(help="raise, or skip (and list) images and boxes with errors.")] = "raise",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --output-dir.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(callback=_read_options, help="YAML file of these options and data; those given here win."),
    ] = None,
) -> None:
    """Fine-tune a model on labelled images (COCO, YOLO or Pascal VOC) and evaluate it."""
    from datasets import Image
    from transformers import TrainingArguments

    from ..augmentation import PRESETS
    from ..configuration_yolox import YoloxConfig
    from ..data import load_detection_data
    from ..evaluation import CocoMetrics
    from ..image_processing_yolox import YoloxImageProcessor
    from ..modeling_yolox import YoloxForObjectDetection
    from ..optimization import keep_freed_memory
    from ..training import RECIPES, YoloxDataCollator, YoloxTrainer

    if recipe not in RECIPES:
        raise ValueError(f"`--recipe` must be one of {', '.join(RECIPES)}, got {recipe!r}.")
    if augmentation not in ("recipe", *PRESETS):
        raise ValueError(f"`--augmentation` must be recipe or one of {', '.join(PRESETS)}, got {augmentation!r}.")
    if image_size is not None and any(side < 32 or side % 32 for side in image_size):
        raise ValueError(f"`--image-size` must be multiples of 32, got {image_size[0]} {image_size[1]}.")
    checkpoint = None
    if resume:
        checkpoint = _last_checkpoint(output_dir)
        if checkpoint is None:
            raise OSError(f"There is no checkpoint to resume from in {output_dir}.")
    else:
        check_output_dir(output_dir)
    detection_data = load_detection_data(data, on_problem=on_problem)  # type: ignore[arg-type]
    if "train" not in detection_data.splits:
        raise ValueError(f"{data} has no training split, only {', '.join(detection_data.splits)}.")
    id2label = detection_data.id2label
    labels: dict[str, Any] = {"id2label": id2label, "label2id": {name: index for index, name in id2label.items()}}
    size: dict[str, Any] = {} if image_size is None else {"size": {"height": image_size[0], "width": image_size[1]}}
    if from_scratch:
        detector = YoloxForObjectDetection(YoloxConfig.from_variant(model, **labels))
        processor = YoloxImageProcessor.from_variant(model, **size)
    else:
        folder = resolve_model(model)
        detector = YoloxForObjectDetection.from_pretrained(folder, **labels, ignore_mismatched_sizes=True)
        processor = YoloxImageProcessor.from_pretrained(folder, **size)

    # The collator decodes the images. The rows of the split that is not evaluated are never read.
    splits = detection_data.splits.cast_column("image", Image(decode=False))
    held_out = next((splits[name] for name in ("validation", "test") if name in splits), None)
    trainer = YoloxTrainer(
        detector,
        TrainingArguments(
            output_dir=str(output_dir),
            num_train_epochs=epochs,
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=batch_size,
            eval_strategy="no" if held_out is None else "epoch",
            save_strategy="epoch",
            save_total_limit=2,  # with one, there would be none while the next is written
            logging_strategy="epoch",
            remove_unused_columns=False,
            eval_do_concat_batches=False,
            batch_eval_metrics=True,
            dataloader_num_workers=workers,
            dataloader_pin_memory=torch.accelerator.is_available(),
            seed=seed,
            report_to="none",
        ),
        recipe=recipe,
        augmentation=augmentation,
        data_collator=YoloxDataCollator(processor, len(id2label), "skip" if on_problem == "skip" else "raise"),
        train_dataset=splits["train"],
        eval_dataset=held_out,
        compute_metrics=None if held_out is None else CocoMetrics(processor, held_out, id2label),
    )
    if not torch.accelerator.is_available():
        keep_freed_memory()
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model(str(output_dir))
    processor.save_pretrained(output_dir)
    if held_out is not None:
        metrics = next(entry for entry in reversed(trainer.state.log_history) if "eval_map" in entry)
        print(f"AP {metrics['eval_map']:.3f}, AP50 {metrics['eval_map_50']:.3f} on {len(held_out)} held-out images")
    print(f"Written to {output_dir}")


def scenes(
    folder: Annotated[Path, typer.Argument(help="Where to; an empty folder, or a new one.")],
    train: Annotated[int, typer.Option(min=1, help="Scenes to train on.")] = 1600,
    validation: Annotated[int, typer.Option(min=1, help="Scenes to evaluate on.")] = 200,
    seed: int = 0,
    width: Annotated[int, typer.Option(min=32)] = 320,
    height: Annotated[int, typer.Option(min=32)] = 256,
) -> None:
    """Render labelled scenes of simple shapes, as a COCO dataset to try everything on."""
    from ..scenes import SHAPES, write_scenes

    write_scenes(folder, {"train": train, "validation": validation}, seed, width, height)
    print(f"{train} + {validation} scenes of {len(SHAPES)} classes in {folder}")
