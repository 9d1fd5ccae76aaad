# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
import numpy as np
import pytest

from yolox_hf import scenes
from yolox_hf.data import load_detection_data
from yolox_hf.scenes import SHAPES, render_scene, write_scenes


def test_scenes_are_determined_by_seed_and_index():
    first, objects = render_scene(3, 1)
    again, same_objects = render_scene(3, 1)
    assert np.array_equal(first, again) and objects == same_objects
    assert render_scene(3, 2)[1] != objects and render_scene(4, 1)[1] != objects


def test_a_larger_picture_shows_the_same_scene():
    for index in range(10):
        _, small = render_scene(0, index, 160, 128)
        _, large = render_scene(0, index, 640, 512)
        if len(small["bbox"]) == len(large["bbox"]):  # one may be just visible enough
            assert small["category"] == large["category"]
            assert np.array(small["bbox"]) == pytest.approx(np.array(large["bbox"]) / 4, abs=2)


def test_boxes_are_around_what_is_visible(monkeypatch):
    masks = []
    draw = scenes._mask
    monkeypatch.setattr(scenes, "_mask", lambda *args: masks.append(np.asarray(mask := draw(*args)) / 255) or mask)
    occluded = 0
    for index in range(20):
        masks.clear()
        _, objects = render_scene(0, index)
        boxes = []
        for position, mask in enumerate(masks):
            rest = mask.copy()
            for later in masks[position + 1 :]:
                rest = (rest - later).clip(0)
            rows, columns = np.nonzero(rest >= 0.5)
            if (
                len(rows)
                and (rest >= 0.5).sum() >= 0.75 * (mask >= 0.5).sum()
                and columns.min() > 0
                and rows.min() > 0
            ):
                box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
                boxes.append([int(side) for side in box])
                occluded += int((rest >= 0.5).sum() < (mask >= 0.5).sum())
        inside = [box for box in boxes if box[0] + box[2] < 320 and box[1] + box[3] < 256]
        assert inside and all(box in objects["bbox"] for box in inside)
    assert occluded > 5


def test_written_scenes_are_coco_data(tmp_path):
    write_scenes(tmp_path / "data", {"train": 3, "validation": 2}, seed=5)
    data = load_detection_data(tmp_path / "data")
    assert list(data.id2label.values()) == list(SHAPES) and not data.problems
    image, objects = render_scene(6, 1)  # the second split has the next seed
    row = data.splits["validation"][1]
    assert np.array_equal(row["image"], image)
    assert row["objects"]["bbox"] == objects["bbox"] and row["objects"]["category"] == objects["category"]


def test_scenes_refuse_a_folder_that_is_in_use(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="not an empty folder"):
        write_scenes(tmp_path, {"train": 1})
    with pytest.raises(ValueError, match="at least 1"):
        write_scenes(tmp_path / "new", {"train": 0})
    assert not (tmp_path / "new").exists()
