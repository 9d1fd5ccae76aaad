# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""COCO metrics (average precision over IoU 0.50 to 0.95) while a `Trainer` evaluates."""

import contextlib
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from transformers import EvalPrediction

from .image_processing_yolox import YoloxImageProcessor
from .loss_yolox import box_iou

COCO_STATISTICS = (
    "map",
    "map_50",
    "map_75",
    "map_small",
    "map_medium",
    "map_large",
    "mar_1",
    "mar_10",
    "mar_100",
    "mar_small",
    "mar_medium",
    "mar_large",
)
"""Names of COCO's twelve statistics, in its order; those of a size without objects are -1."""


def coco_ground_truth(rows: Iterable[Mapping[str, Any]], id2label: Mapping[int, str]) -> dict[str, list]:
    """The objects of a detection dataset as COCO writes them.

    Args:
        rows: with `image_id`, `width`, `height` and `objects` (`bbox` as (x, y, width, height) in pixels, `category`
            as class index, and optionally `area` and `iscrowd`).
        id2label: the name of each class index; the indices are the category ids.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for row in rows:
        images.append({"id": row["image_id"], "width": row["width"], "height": row["height"]})
        objects = row["objects"]
        for index, (bbox, category) in enumerate(zip(objects["bbox"], objects["category"])):
            area = objects["area"][index] if "area" in objects else bbox[2] * bbox[3]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": row["image_id"],
                    "category_id": category,
                    "bbox": list(bbox),
                    "area": area,
                    "iscrowd": objects["iscrowd"][index] if "iscrowd" in objects else 0,
                }
            )
    categories = [{"id": index, "name": name} for index, name in id2label.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco_detections(image_id: int, result: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
    """What `post_process_object_detection` returns for an image, as COCO writes it; category ids are class indices."""
    boxes = torch.cat((result["boxes"][:, :2], result["boxes"][:, 2:] - result["boxes"][:, :2]), dim=1)
    return [
        {"image_id": image_id, "category_id": category, "bbox": box, "score": score}
        for category, box, score in zip(result["labels"].tolist(), boxes.tolist(), result["scores"].tolist())
    ]


def _evaluate(ground_truth: dict[str, list], detections: list[dict[str, Any]]) -> Any:
    """faster-coco-eval's evaluation, accumulated.

    Raises:
        ImportError: faster-coco-eval is not installed; it comes with the extra `train`.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        raise ImportError("COCO metrics need faster-coco-eval: `pip install yolox-hf[train]`.") from None
    with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress by printing
        coco = COCO(ground_truth)
        evaluation = COCOeval_faster(coco, coco.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _class_precisions(evaluation: Any) -> dict[str, torch.Tensor]:
    """For each class with objects (IoU thresholds, recalls): all sizes, 100 detections an image."""
    precision = torch.as_tensor(evaluation.eval["precision"])[:, :, :, 0, -1]
    names = [evaluation.cocoGt.cats[category_id]["name"] for category_id in evaluation.params.catIds]
    # -1 where no objects are
    return {name: rows for name, rows in zip(names, precision.unbind(dim=2)) if (rows > -1).any()}


def coco_metrics(ground_truth: dict[str, list], detections: list[dict[str, Any]]) -> dict[str, float]:
    """COCO's statistics, and `map_<class name>` for each class that has objects.

    Args:
        ground_truth: as `coco_ground_truth` returns it.
        detections: dictionaries of `image_id`, `category_id`, `bbox` (x, y, width, height) in pixels, and `score`.

    Raises:
        ImportError: faster-coco-eval is not installed; it comes with the extra `train`.
    """
    if not detections:
        return dict.fromkeys(COCO_STATISTICS, 0.0)
    evaluation = _evaluate(ground_truth, detections)
    metrics = {name: float(value) for name, value in zip(COCO_STATISTICS, evaluation.stats)}
    for name, precision in _class_precisions(evaluation).items():
        metrics[f"map_{name}"] = float(precision[precision > -1].mean())
    return metrics


def precision_recall_curves(
    ground_truth: dict[str, list], detections: list[dict[str, Any]]
) -> dict[str, torch.Tensor]:
    """For each class with objects its precision at the 101 recalls 0, 0.01 ... 1, at IoU 0.50. Arguments and errors
    are those of `coco_metrics`."""
    if not detections:
        return {}
    return {name: precision[0] for name, precision in _class_precisions(_evaluate(ground_truth, detections)).items()}


def confusion_matrix(
    ground_truth: dict[str, list],
    detections: list[dict[str, Any]],
    score_threshold: float = 0.25,
    iou_threshold: float = 0.5,
) -> torch.Tensor:
    """Which class was found as which.

    The surest detection takes the free object with which it overlaps most, of whatever class. Crowds count neither as
    objects nor as background.

    Args:
        ground_truth, detections: as in `coco_metrics`, with category ids 0..N-1.
        score_threshold, iou_threshold: the least score of a detection, and the least overlap with an object.

    Returns:
        (N + 1, N + 1) int64, rows for the objects' classes and columns for the detections'; the last row is
        background that was taken for an object, the last column objects that were not found.
    """
    background = len(ground_truth["categories"])
    matrix = torch.zeros(background + 1, background + 1, dtype=torch.long)
    objects, found = defaultdict(list), defaultdict(list)
    for item in ground_truth["annotations"]:
        objects[item["image_id"]].append(item)
    for item in detections:
        if item["score"] >= score_threshold:
            found[item["image_id"]].append(item)
    for image_id in objects.keys() | found.keys():
        truths = objects[image_id]
        free = {index for index, truth in enumerate(truths) if not truth["iscrowd"]}
        images_found = sorted(found[image_id], key=lambda item: -item["score"])
        overlaps = box_iou(_corners(images_found), _corners(truths))
        for item, row in zip(images_found, overlaps.tolist()):
            candidates = [index for index in free if row[index] >= iou_threshold]
            if candidates:
                best = max(candidates, key=lambda index: row[index])
                free.remove(best)
                matrix[truths[best]["category_id"], item["category_id"]] += 1
            elif not any(truth["iscrowd"] and overlap > 0 for truth, overlap in zip(truths, row)):
                matrix[background, item["category_id"]] += 1
        for index in free:
            matrix[truths[index]["category_id"], background] += 1
    return matrix


def _corners(items: list[dict[str, Any]]) -> torch.Tensor:
    boxes = torch.tensor([item["bbox"] for item in items], dtype=torch.float32).view(-1, 4)
    return torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), dim=1)


class CocoMetrics:
    """`compute_metrics` for a `Trainer`: turns each batch into detections, and those into COCO's metrics at the end.

    With `batch_eval_metrics=True` in the `TrainingArguments`, only detections are kept in memory. Without it the
    `Trainer` keeps every raw output; then `eval_do_concat_batches=False` is needed.

    Args:
        image_processor: what prepared the images.
        rows: the evaluation dataset, as `coco_ground_truth` takes it. Only its objects are read, not its images.
        id2label: the name of each class index.
        threshold: the least score that counts.
        nms_threshold: of the non-maximum suppression.
        max_detections: most detections for each image; COCO looks at 100.
    """

    def __init__(
        self,
        image_processor: YoloxImageProcessor,
        rows,
        id2label: Mapping[int, str],
        threshold: float = 0.01,
        nms_threshold: float = 0.65,
        max_detections: int = 100,
    ):
        columns = ["image_id", "width", "height", "objects"]
        if hasattr(rows, "select_columns"):
            rows = rows.select_columns(columns)
        self.ground_truth = coco_ground_truth(rows, id2label)
        self.sizes = {image["id"]: (image["height"], image["width"]) for image in self.ground_truth["images"]}
        self.image_processor = image_processor
        self.options: dict[str, Any] = {
            "threshold": threshold,
            "nms_threshold": nms_threshold,
            "max_detections": max_detections,
        }
        self.detections: dict[int, list[dict[str, Any]]] = {}

    def __call__(self, prediction: EvalPrediction, compute_result: bool = True) -> dict[str, float]:
        predictions: Any = prediction.predictions
        labels: Any = prediction.label_ids
        # One batch is (loss_dict, logits, pred_boxes) and its labels; the whole set is a list of those.
        if labels and isinstance(labels[0], Mapping):
            predictions, labels = [predictions], [labels]
        for (_, logits, pred_boxes, *_), batch_labels in zip(predictions, labels):
            self.add(torch.as_tensor(logits), torch.as_tensor(pred_boxes), batch_labels)
        if not compute_result:
            return {}
        metrics = coco_metrics(self.ground_truth, [found for image in self.detections.values() for found in image])
        self.detections = {}
        return metrics

    def add(self, logits: torch.Tensor, pred_boxes: torch.Tensor, labels: list[Mapping[str, Any]]) -> None:
        """Keep the detections of one batch; of its `labels` only `image_id` is read.

        accelerate cuts every tensor of the last batch, labels included, to as many rows as that batch has images.
        """
        outputs = SimpleNamespace(logits=logits, pred_boxes=pred_boxes)
        image_ids = [int(label["image_id"][0]) for label in labels]
        sizes = [self.sizes[image_id] for image_id in image_ids]
        results = self.image_processor.post_process_object_detection(outputs, target_sizes=sizes, **self.options)
        for image_id, result in zip(image_ids, results):
            # By image: in distributed evaluation the last batch is filled up with images that were seen already.
            self.detections[image_id] = coco_detections(image_id, result)
