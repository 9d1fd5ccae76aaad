# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
import pytest
import torch

from yolox_hf.evaluation import coco_metrics, confusion_matrix, precision_recall_curves

CATEGORIES = [{"id": index, "name": name} for index, name in enumerate(("cat", "dog"))]


def truth(*objects):
    annotations = [
        {
            "id": index + 1,
            "image_id": 1,
            "category_id": category,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": crowd,
        }
        for index, (category, box, crowd) in enumerate(objects)
    ]
    images = [{"id": 1, "width": 100, "height": 100}]
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def found(category, box, score):
    return {"image_id": 1, "category_id": category, "bbox": box, "score": score}


def test_confusion_matrix():
    objects = truth((0, [0, 0, 10, 10], 0), (1, [50, 50, 20, 20], 0), (1, [0, 80, 10, 10], 0), (0, [80, 0, 20, 20], 1))
    detections = [
        found(0, [0, 0, 10, 10], 0.9),  # right
        found(0, [50, 50, 20, 20], 0.8),  # a dog taken for a cat
        found(1, [51, 50, 20, 20], 0.7),  # that dog is taken already: background
        found(1, [30, 30, 5, 5], 0.6),  # background
        found(0, [82, 2, 10, 10], 0.6),  # in a crowd
        found(1, [0, 80, 10, 10], 0.1),  # not sure enough: the third object is missed
    ]
    expected = [[1, 0, 0], [1, 0, 1], [0, 2, 0]]
    assert confusion_matrix(objects, detections).tolist() == expected
    assert confusion_matrix(objects, []).tolist() == [[0, 0, 1], [0, 0, 2], [0, 0, 0]]


def test_precision_recall_curves():
    objects = truth((0, [0, 0, 10, 10], 0), (0, [50, 50, 20, 20], 0))
    detections = [
        found(0, [0, 0, 10, 10], 0.9),
        found(0, [30, 30, 5, 5], 0.8),
        found(0, [50, 50, 20, 20], 0.7),
    ]
    curves = precision_recall_curves(objects, detections)
    assert curves.keys() == {"cat"}  # no dogs in the truth
    # One of one until half of the objects are found, then two of three.
    assert curves["cat"][:51].tolist() == [1.0] * 51
    torch.testing.assert_close(curves["cat"][51:], torch.full((50,), 2 / 3, dtype=torch.float64))
    assert coco_metrics(objects, detections)["map_cat"] == pytest.approx(float(curves["cat"].mean()))
    assert precision_recall_curves(objects, []) == {}
