# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Fine-tuning with transformers' `Trainer`: collator, recipes, optimizer and schedule, averaged weights.

Each piece can be used alone; `YoloxTrainer` puts them together.
"""

import copy
import io
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

from .augmentation import Batch, BatchAugmentation
from .image_processing_yolox import YoloxImageProcessor
from .loss_yolox import check_labels, pad_labels

logger = logging.get_logger(__name__)

EMA_FILE = "ema.safetensors"


# ---- data


class YoloxDataCollator:
    """Rows of a detection dataset to a batch for `YoloxForObjectDetection`.

    A row has `image` (a PIL image, or `{"path": ..., "bytes": ...}` as `datasets` gives it undecoded), `image_id`, and
    `objects` with `bbox` (x, y, width, height) in pixels and `category`, the class index.

    Args:
        image_processor: resizes and pads.
        num_labels: number of classes, to refuse class indices out of range.
        on_broken_image: `"raise"`, or `"skip"` to leave a row out whose image cannot be decoded and count it in
            `num_skipped`. Only undecoded images can be skipped.
    """

    def __init__(
        self,
        image_processor: YoloxImageProcessor,
        num_labels: int,
        on_broken_image: Literal["raise", "skip"] = "raise",
    ):
        self.image_processor = image_processor
        self.num_labels = num_labels
        self.on_broken_image = on_broken_image
        self.num_skipped = 0

    def __call__(self, rows: list[Mapping[str, Any]]) -> dict[str, Any]:
        images, annotations = [], []
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # Pillow decodes without the GIL
            decoded = list(pool.map(self._decode, rows))
        for row, image in zip(rows, decoded):
            if isinstance(image, OSError):
                if self.on_broken_image == "raise":
                    raise image
                self.num_skipped += 1
                logger.warning(f"Left out: {image}")
                continue
            images.append(image)
            objects = row["objects"]
            crowds = objects.get("iscrowd") or [0] * len(objects["bbox"])
            annotations.append(
                {
                    "image_id": int(row["image_id"]),
                    "annotations": [
                        {"bbox": list(bbox), "category_id": category, "iscrowd": crowd, "area": bbox[2] * bbox[3]}
                        for bbox, category, crowd in zip(objects["bbox"], objects["category"], crowds)
                    ],
                }
            )
        if not images:
            raise OSError(f"None of the {len(rows)} images of a batch can be decoded; the last: {rows[-1]['image']}.")
        features = self.image_processor(images, annotations=annotations, return_tensors="pt")
        check_labels(features["labels"], len(images), self.num_labels)
        return {"pixel_values": features["pixel_values"], "labels": [dict(label) for label in features["labels"]]}

    @staticmethod
    def _decode(row: Mapping[str, Any]) -> Image.Image | OSError:
        """The image of a row, or why there is none."""
        image = row["image"]
        if isinstance(image, Mapping):
            name = image.get("path") or f"image {row['image_id']}"
            try:
                image = Image.open(io.BytesIO(image["bytes"]) if image.get("bytes") else image["path"])
                image.load()
            except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
                return OSError(f"{name} cannot be decoded: {error}")
            ImageOps.exif_transpose(image, in_place=True)
        return image if image.mode == "RGB" else image.convert("RGB")


# ---- recipes


@dataclass(frozen=True)
class TrainingRecipe:
    """What a run does, whatever its length: phases are fractions of its steps.

    Args:
        optimizer: `"adamw"`, or `"sgd"` with Nesterov momentum 0.9.
        learning_rate: at a batch of `batch_size`; it scales with the batch for SGD (linearly) and not for AdamW.
        batch_size: see `learning_rate`.
        weight_decay: of weights; biases and batch norms have none.
        backbone_multiplier: of the learning rate, in the backbone.
        warmup_fraction: of the steps, with a quadratic rise of the learning rate.
        final_fraction: of the steps at the end, without mosaic, mixup and affine, with the L1 loss, and, in the
            paper's schedule, at the lowest learning rate.
        flat_fraction: of the steps, at the full learning rate between warm-up and cosine.
        cosine_until_final: the cosine ends where the final phase begins (the paper), or with the run.
        min_learning_rate_ratio: where the cosine ends.
        l1_throughout: the L1 loss from the first step on.
        max_grad_norm: gradients are clipped to this norm; 0 for not at all.
        ema_horizon: over how much of the run the weights are averaged, as a fraction of its steps; None for the
            paper's fixed decay.
        augmentation: a name of `augmentation.PRESETS`.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 4e-3
    batch_size: int = 8
    weight_decay: float = 0.05
    backbone_multiplier: float = 1.0
    warmup_fraction: float = 0.1
    flat_fraction: float = 0.0
    final_fraction: float = 0.15
    cosine_until_final: bool = False
    min_learning_rate_ratio: float = 0.05
    l1_throughout: bool = True
    max_grad_norm: float = 0.0
    ema_horizon: float | None = 0.05
    augmentation: str = "fine-tuning"


_PAPER: dict[str, Any] = {
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "batch_size": 64,
    "weight_decay": 5e-4,
    "warmup_fraction": 5 / 300,
    "final_fraction": 15 / 300,
    "cosine_until_final": True,
    "l1_throughout": False,
    "ema_horizon": None,
}
RECIPES: dict[str, TrainingRecipe] = {
    "fine-tuning": TrainingRecipe(),
    "paper": TrainingRecipe(**_PAPER, augmentation="yolox"),
    "paper-nano": TrainingRecipe(**_PAPER, augmentation="yolox-nano"),
    "paper-tiny": TrainingRecipe(**_PAPER, augmentation="yolox-tiny"),
}
"""`"fine-tuning"`, and the original's recipes for training from scratch."""


def parameter_groups(model: nn.Module, recipe: TrainingRecipe, learning_rate: float) -> list[dict[str, Any]]:
    """Parameters of a detector by learning rate and weight decay: norms and biases (one dimension) have no decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((".backbone." in name, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": learning_rate * (recipe.backbone_multiplier if in_backbone else 1.0),
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (in_backbone, decays), parameters in groups.items()
    ]


def create_optimizer(model: nn.Module, recipe: TrainingRecipe, batch_size: int) -> torch.optim.Optimizer:
    """The optimizer of a recipe, for `batch_size` images a step over all processes and accumulation steps."""
    if recipe.optimizer == "sgd":
        learning_rate = recipe.learning_rate * batch_size / recipe.batch_size
        groups = parameter_groups(model, recipe, learning_rate)
        return torch.optim.SGD(groups, lr=learning_rate, momentum=0.9, nesterov=True)
    groups = parameter_groups(model, recipe, recipe.learning_rate)
    fused = {parameter.device.type for parameter in model.parameters()} <= {"cpu", "cuda"}
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=fused)


def learning_rate_factor(step: int, num_training_steps: int, recipe: TrainingRecipe) -> float:
    """The factor of the learning rate at a step: quadratic warm-up, then cosine (section 2, "Training strategies")."""
    warmup_steps = round(recipe.warmup_fraction * num_training_steps)
    if step < warmup_steps:
        return (step / warmup_steps) ** 2
    final_steps = round(recipe.final_fraction * num_training_steps) if recipe.cosine_until_final else 0
    start = warmup_steps + round(recipe.flat_fraction * num_training_steps)
    progress = min(max(step - start, 0) / max(num_training_steps - final_steps - start, 1), 1.0)
    low = recipe.min_learning_rate_ratio
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))


def create_schedule(
    optimizer: torch.optim.Optimizer, num_training_steps: int, recipe: TrainingRecipe
) -> torch.optim.lr_scheduler.LambdaLR:
    """The learning rate schedule of a recipe, to be stepped after each optimizer step."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, num_training_steps, recipe)
    )


# ---- callbacks


def ema_decay(update: int, decay: float = 0.9998, ramp: float = 2000) -> float:
    """Decay of the averaged weights at an update, counted from 1: it rises from 0 to `decay`."""
    return decay * (1 - math.exp(-update / ramp))


class EmaCallback(TrainerCallback):
    """Averages the weights while training (exponential moving average), evaluates with them, and ends with them.

    Checkpoints hold the raw weights, which training goes on from, and beside them the averaged ones in
    `ema.safetensors`. At the end of the training the model holds the averaged weights (of the best checkpoint, where
    `load_best_model_at_end` is set).

    Args:
        horizon: the steps that the average reaches back, as a fraction of the run, so that short runs do not end with
            an average of their beginning. None for the original's decay of 0.9998 after a ramp of 2,000 steps, which
            is for runs of many thousands.
    """

    def __init__(self, horizon: float | None = 0.05):
        if horizon is not None and not 0 < horizon <= 1:
            raise ValueError(f"`horizon` must be in (0, 1] or None, got {horizon}.")
        self.horizon = horizon
        self.averaged: dict[str, torch.Tensor] = {}
        self._current: dict[str, torch.Tensor] = {}
        self._raw: dict[str, torch.Tensor] | None = None  # the model's own weights, while the averaged ones are in it

    def _decay(self, state) -> float:
        if self.horizon is None:
            return ema_decay(state.global_step)
        steps = max(self.horizon * state.max_steps, 1.0)
        return ema_decay(state.global_step, 1 - 1 / steps, ramp=steps)

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self._current = model.state_dict()  # the weights themselves, looked up once
        self.averaged = copy.deepcopy(dict(self._current))
        if state.global_step == 0:
            return
        folder = self._checkpoint(args, state.global_step)
        saved = load_file(folder / EMA_FILE)
        for name, value in self.averaged.items():
            value.copy_(saved[name])

    @staticmethod
    def _checkpoint(args, step: int) -> Path:
        candidates = [Path(args.output_dir) / f"checkpoint-{step}"]
        if isinstance(args.resume_from_checkpoint, str):
            candidates.insert(0, Path(args.resume_from_checkpoint))
        for folder in candidates:
            if (folder / EMA_FILE).is_file():
                return folder
        raise OSError(
            f"The averaged weights of step {step} are not in {' or '.join(map(str, candidates))}: was {EMA_FILE} "
            "deleted, or the run started without `EmaCallback`?"
        )

    @torch.no_grad()
    def on_step_end(self, args, state, control, model=None, **kwargs):
        weight = 1 - self._decay(state)
        current = self._current
        moving = [name for name, value in self.averaged.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.averaged[name] for name in moving], [current[name] for name in moving], weight)
        for name, value in self.averaged.items():
            if not value.is_floating_point():
                value.copy_(current[name])
        self._before_evaluation(control, model)

    def on_epoch_end(self, args, state, control, model=None, **kwargs):
        self._before_evaluation(control, model)

    def _before_evaluation(self, control, model):
        if control.should_evaluate and self._raw is None:
            self._raw = copy.deepcopy(dict(model.state_dict()))
            model.load_state_dict(self.averaged)

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        if self._raw is not None:
            model.load_state_dict(self._raw)
            self._raw = None

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            save_file({name: value.contiguous() for name, value in self.averaged.items()}, folder / EMA_FILE)

    def on_train_end(self, args, state, control, model=None, **kwargs):
        if args.load_best_model_at_end and state.best_model_checkpoint:
            best = load_file(Path(state.best_model_checkpoint) / EMA_FILE)
            model.load_state_dict({name: best[name].to(value.device) for name, value in self.averaged.items()})
        else:
            model.load_state_dict(self.averaged)


class FinalPhaseCallback(TrainerCallback):
    """The last part of a run (section 2, "Strong data augmentation"): no mosaic, mixup and affine, but the L1 loss.

    Args:
        augmentation: what loses mosaic, mixup and affine; None if there is none.
        fraction: the part of the steps.
    """

    def __init__(self, augmentation: BatchAugmentation | None, fraction: float):
        self.augmentation, self.fraction = augmentation, fraction

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step >= state.max_steps - round(self.fraction * state.max_steps):
            if self.augmentation is not None:
                self.augmentation.config = self.augmentation.config.without_mixing()
            model.config.use_l1_loss = True


# ---- trainer


class YoloxTrainer(Trainer):
    """transformers' `Trainer` with a recipe: its optimizer and schedule, averaged weights, and augmentation of whole
    batches on the model's device. Logs each term of the loss.

    Args:
        recipe: a `TrainingRecipe` or a name of `RECIPES`.
        augmentation: replaces the recipe's; None for none at all.
        model, args, **kwargs: of `Trainer`. Learning rate, schedule, weight decay and gradient clipping are the
            recipe's business, whatever the `TrainingArguments` say; `optimizers` replace the first three.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        args: TrainingArguments | None = None,
        *,
        recipe: TrainingRecipe | str = "fine-tuning",
        augmentation: BatchAugmentation | str | None = "recipe",
        **kwargs,
    ):
        if isinstance(recipe, str):
            if recipe not in RECIPES:
                raise ValueError(f"`recipe` must be one of {', '.join(RECIPES)}, got {recipe!r}.")
            recipe = RECIPES[recipe]
        args = copy.copy(args) if args is not None else TrainingArguments()
        args.max_grad_norm = recipe.max_grad_norm
        super().__init__(model, args, **kwargs)
        self.recipe = recipe
        # Each process augments its own images in its own way.
        seed = 1_000_003 * self.args.seed + self.args.process_index
        if isinstance(augmentation, str):
            name = recipe.augmentation if augmentation == "recipe" else augmentation
            augmentation = BatchAugmentation(name, seed=seed)
        self.augmentation = augmentation
        self._seed, self._augmented_step = seed, -1
        self._loss_terms: dict[str, torch.Tensor] = {}
        self._num_losses = 0
        detector: Any = self.model
        detector.config.use_l1_loss = recipe.l1_throughout
        detector.to(memory_format=torch.channels_last)
        self.add_callback(EmaCallback(recipe.ema_horizon))
        self.add_callback(FinalPhaseCallback(augmentation, recipe.final_fraction))

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
            self.optimizer = create_optimizer(model or self.model, self.recipe, batch_size)  # type: ignore[arg-type]
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        if self.lr_scheduler is None:
            optimizer = optimizer or self.create_optimizer()
            self.lr_scheduler = create_schedule(optimizer, num_training_steps, self.recipe)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        inputs = self._prepare_inputs(inputs)
        if self.augmentation is not None:
            # From the step's number alone, so that a resumed run augments as the uninterrupted one does.
            if self.state.global_step != self._augmented_step:
                self._augmented_step = self.state.global_step
                self.augmentation.generator.manual_seed(self._seed + 7919 * self.state.global_step)
            inputs = augment_inputs(inputs, self.augmentation)
        pixel_values = inputs["pixel_values"].contiguous(memory_format=torch.channels_last)
        return super().training_step(model, {**inputs, "pixel_values": pixel_values}, num_items_in_batch)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        if model.training and outputs.loss_dict is not None:
            self._num_losses += 1
            for name, term in outputs.loss_dict.items():
                self._loss_terms[name] = self._loss_terms.get(name, 0) + term.detach()
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        if "loss" in logs and self._num_losses:
            logs = {**logs, **{name: float(total) / self._num_losses for name, total in self._loss_terms.items()}}
            self._loss_terms, self._num_losses = {}, 0
        super().log(logs, *args, **kwargs)


def augment_inputs(inputs: Mapping[str, Any], augmentation: BatchAugmentation) -> dict[str, Any]:
    """What a collator returned, augmented: `pixel_values`, and `labels` of `class_labels` and `boxes`."""
    pixel_values = inputs["pixel_values"]
    batch = augmentation(Batch(pixel_values, *pad_labels(inputs["labels"], pixel_values.device)))
    labels = [{"class_labels": row, "boxes": boxes} for row, boxes in zip(batch.class_labels, batch.boxes)]
    return {**inputs, "pixel_values": batch.pixel_values, "labels": labels}
