# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""`yolox-hf evaluate`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..detection import batched
from .common import (
    Device,
    ImageSize,
    Json,
    Model,
    NmsThreshold,
    Optimize,
    Precision,
    Threshold,
    check_output_dir,
    load_detector,
    progress,
)


def evaluate(
    data: Annotated[str, typer.Argument(help="Folder, json or YAML file of labelled images, or a Hub dataset.")],
    model: Model,
    split: Annotated[str | None, typer.Option(help="By default validation, else test, else the only one.")] = None,
    threshold: Threshold = 0.01,
    nms_threshold: NmsThreshold = 0.65,
    clip: Annotated[bool, typer.Option(help="Clip boxes to the photo; the original's evaluation does not.")] = True,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    image_size: ImageSize = None,
    device: Device = None,
    optimize: Optimize = False,
    dtype: Precision = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for precision-recall and confusion pictures.")] = None,
    on_problem: Annotated[str, typer.Option(help="raise, or skip images and boxes with errors.")] = "raise",
    as_json: Json = False,
) -> None:
    """COCO metrics of a model on labelled images, for each class too, and the time of each step."""
    from ..data import load_detection_data
    from ..evaluation import coco_detections, coco_ground_truth, coco_metrics, confusion_matrix
    from ..evaluation import precision_recall_curves as curves
    from ..visualization import save_confusion_matrix, save_precision_recall

    if plots is not None:
        check_output_dir(plots, "--plots")
    options = {"threshold": threshold, "nms_threshold": nms_threshold, "clip_boxes": clip}
    detector = load_detector(model, image_size, device, optimize, dtype, **options)
    id2label = detector.model.config.id2label
    # The model's classes in the model's order: data with others is not data for this model, and is refused.
    loaded = load_detection_data(data, on_problem=on_problem, class_names=list(id2label.values()))  # type: ignore[arg-type]
    splits = loaded.splits
    name = split or next((name for name in ("validation", "test") if name in splits), next(iter(splits)))
    if name not in splits:
        raise ValueError(f"{data} has no split {name!r}, only {', '.join(splits)}.")
    rows = splits[name]
    detections = []
    for batch in batched(progress(rows, len(rows), "images"), batch_size):
        results = detector([row["image"].convert("RGB") for row in batch])
        for row, result in zip(batch, results):
            detections += coco_detections(row["image_id"], result)
    truth = coco_ground_truth(rows.remove_columns("image"), id2label)
    metrics = coco_metrics(truth, detections)
    times = {step: 1000 * seconds / len(rows) for step, seconds in detector.seconds.items()}
    if plots is not None:
        save_precision_recall(plots / "precision_recall.png", curves(truth, detections))
        save_confusion_matrix(
            plots / "confusion.png",
            confusion_matrix(truth, detections),
            [id2label[index] for index in sorted(id2label)],
        )
    if as_json:
        summary = {"split": name, "images": len(rows), "metrics": metrics, "milliseconds": times}
        json.dump(summary, sys.stdout)
        print()
        return
    statistics = {metric: value for metric, value in metrics.items() if metric[4:] not in id2label.values()}
    for metric, value in statistics.items():
        print(f"{metric:12} {value:6.3f}")
    print(f"\n{'class':20} {'AP':>6} {'objects':>8}")
    counts = [0] * len(id2label)
    for item in truth["annotations"]:
        counts[item["category_id"]] += 1
    for index, label in sorted(id2label.items()):
        if f"map_{label}" in metrics:
            print(f"{label:20} {metrics[f'map_{label}']:6.3f} {counts[index]:8}")
    print(f"\n{len(rows)} images of {name}; milliseconds an image:", end=" ")
    print(", ".join(f"{step} {value:.1f}" for step, value in times.items()))
    if plots is not None:
        print(f"Pictures in {plots}")
