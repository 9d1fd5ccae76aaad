# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Checkpoints in other layouts than the original's, ONNX files, and the way back."""

import json
import sys

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForObjectDetection

from yolox_hf import YoloxConfig, YoloxForObjectDetection
from yolox_hf.conversion import (
    convert_checkpoint,
    convert_state_dict,
    export_original,
    original_key,
    read_checkpoint,
    restore_state_dict,
)


def detect(folder, image):
    model, processor = AutoModelForObjectDetection.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        outputs = model(**processor(image, return_tensors="pt"))
    return processor.post_process_object_detection(outputs, 0.25, [(image.height, image.width)])[0]


def reference_weights(recipe, manifest: dict) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(np.asarray(recipe.tensor_for(key, shape, 0))) for key, shape in manifest.items()}


@pytest.mark.parametrize("size", ["s", "tiny"])
@pytest.mark.parametrize("release", ["published", "2.x", "3.x"])
def test_mmdetection(shared, recipe, tmp_path, size, release):
    manifest = json.loads((shared / "reference" / "mmdet_manifest.json").read_text())["variants"][size]
    weights = reference_weights(recipe, manifest)
    # Both hooks swap before saving (mmdet/core/hook/ema.py: "the original model parameters are actually saved in ema
    # field"; mmengine's `EMAHook.before_save_checkpoint`): what the file calls EMA are the raw weights.
    raw = {key: torch.zeros_like(value) for key, value in weights.items()}
    checkpoint = {
        "published": {"state_dict": weights},
        "2.x": {"state_dict": weights | {"ema_" + key.replace(".", "_"): value for key, value in raw.items()}},
        "3.x": {
            "state_dict": weights,
            "ema_state_dict": {"steps": torch.tensor(7), **{f"module.{key}": value for key, value in raw.items()}},
        },
    }[release]
    names = tuple(f"thing {index}" for index in range(80))
    torch.save({**checkpoint, "meta": {"dataset_meta": {"classes": names}}}, tmp_path / "mmdet.pth")
    model, _ = convert_checkpoint(tmp_path / "mmdet.pth", tmp_path / "model")
    assert model.config.id2label[79] == "thing 79"
    pixel_values = torch.from_numpy(recipe.images(1, (2, 3, 64, 96))).flip(1)
    with torch.no_grad():
        maps = model.head(model.model(pixel_values).feature_maps)
    ours = torch.cat(
        [
            torch.cat((boxes, objectness.sigmoid(), classes.sigmoid()), dim=1).flatten(2).transpose(1, 2)
            for boxes, objectness, classes in zip(maps.box_maps, maps.objectness_maps, maps.class_maps)
        ],
        dim=1,
    )
    theirs = np.load(shared / "reference" / f"mmdet_forward_{size}.npz")["rect_raw"]
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-4)


def test_libreyolo(shared, tmp_path):
    weights = read_checkpoint(shared / "weights" / "yolox_nano.pth").weights
    raw = {key: torch.zeros_like(value) for key, value in weights.items()}
    # As its trainer saves: the averages are what `model` holds.
    content = {"model": weights, "is_ema_weights": True, "ema": weights, "train_model": raw}
    content |= {"model_family": "yolox", "size": "n", "nc": 80, "imgsz": 320}
    names = [f"thing {index}" for index in range(80)]
    for kind in (names, dict(enumerate(names)), {str(index): names[index] for index in reversed(range(80))}):
        torch.save({**content, "names": kind}, tmp_path / "libre.pt")
        model, processor = convert_checkpoint(tmp_path / "libre.pt", tmp_path / "model")
        assert model.config.id2label == dict(enumerate(names))
        assert dict(processor.size) == {"height": 320, "width": 320}
    for key, value in restore_state_dict(model.state_dict(), model.config, flip_channels=True).items():
        assert torch.equal(value, weights[key]), key
    _, processor = convert_checkpoint(tmp_path / "libre.pt", tmp_path / "wide", image_size=(256, 320))
    assert dict(processor.size) == {"height": 256, "width": 320}


@pytest.mark.parametrize(
    "metadata",
    [{"names": ["one"], "imgsz": ["a", 3]}, {"names": {"a": "b"}}, {"names": torch.ones(2), "meta": {"CLASSES": 3}}],
)
def test_metadata_that_does_not_fit_is_left_out(shared, tmp_path, metadata):
    weights = read_checkpoint(shared / "weights" / "yolox_nano.pth").weights
    torch.save({"model": weights, **metadata}, tmp_path / "checkpoint.pt")
    model, processor = convert_checkpoint(tmp_path / "checkpoint.pt", tmp_path / "model")
    assert model.config.id2label[16] == "dog" and processor.size.height == 416


def test_image_size_of_the_checkpoint_is_checked(shared, tmp_path):
    weights = read_checkpoint(shared / "weights" / "yolox_nano.pth").weights
    torch.save({"model": weights, "imgsz": 100}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="`image_size` must be positive multiples of 32, got 100 x 100"):
        convert_checkpoint(tmp_path / "checkpoint.pt", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_bytetrack(shared, recipe, tmp_path):
    manifest = json.loads((shared / "reference" / "manifest.json").read_text())
    shapes = {
        key: [1, *shape[1:]] if ".cls_preds." in key else shape
        for key, shape in manifest["variants"]["nano"]["state_dict"].items()
    }
    torch.save({"model": reference_weights(recipe, shapes)}, tmp_path / "bytetrack.pth.tar")
    model, processor = convert_checkpoint(
        tmp_path / "bytetrack.pth.tar", tmp_path / "model", preprocessing="rgb_imagenet", image_size=(800, 1440)
    )
    assert model.config.num_labels == 1
    assert processor.do_normalize and processor.do_rescale
    assert dict(processor.size) == {"height": 800, "width": 1440}
    # It takes RGB: the stem is not flipped.
    export_original(tmp_path / "model", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    stem = "backbone.backbone.stem.conv.conv.weight"
    assert torch.equal(back[stem], torch.from_numpy(recipe.tensor_for(stem, shapes[stem], 0)))


def test_onnx_gives_the_detections_of_the_checkpoint(shared, nano_dir, dog, tmp_path):
    pytest.importorskip("onnxruntime")
    model, processor = convert_checkpoint(shared / "weights" / "yolox_nano.onnx", tmp_path / "model")
    assert dict(processor.size) == {"height": 416, "width": 416}
    expected, found = detect(nano_dir, dog), detect(tmp_path / "model", dog)
    assert torch.equal(found["labels"], expected["labels"])
    torch.testing.assert_close(found["scores"], expected["scores"], atol=1e-5, rtol=0)
    torch.testing.assert_close(found["boxes"], expected["boxes"], atol=1e-2, rtol=0)
    # Trainable: the batch norms that do nothing have gradients.
    model.train()
    labels = [{"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.5, 0.5]])}] * 2
    model(torch.rand(2, 3, 64, 64) * 255, labels=labels).loss.backward()
    assert model.model.backbone.stem.norm.weight.grad.abs().sum() > 0


def rename_weights(onnx, model):
    names = {tensor.name: str(1000 + index) for index, tensor in enumerate(model.graph.initializer)}
    for tensor in model.graph.initializer:
        tensor.name = names[tensor.name]
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def share_a_tensor(onnx, model):
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    shared_bias = onnx.helper.make_node("Identity", [node.input[2]], ["same"])
    node.input[2] = "same"
    model.graph.node.insert(0, shared_bias)


def list_weights_as_inputs(onnx, model):
    (image,) = model.graph.input
    weights = [
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in model.graph.initializer
    ]
    entries = [*weights, onnx.ValueInfoProto.FromString(image.SerializeToString())]
    del model.graph.input[:]
    model.graph.input.extend(entries)


def free_the_sides(onnx, model):
    batch_size, _, height, width = model.graph.input[0].type.tensor_type.shape.dim
    batch_size.dim_param, height.dim_param, width.dim_param = "batch", "height", "width"
    del model.graph.value_info[:]


def take_two_images(onnx, model):
    for entry in (*model.graph.input, *model.graph.output):
        entry.type.tensor_type.shape.dim[0].dim_value = 2
    del model.graph.value_info[:]
    for tensor in model.graph.initializer:
        if tensor.dims == [3]:  # the shape that the maps are flattened to
            shape = onnx.numpy_helper.to_array(tensor)
            if shape.tolist() == [1, 85, -1]:
                shape = np.array([2, 85, -1], dtype=shape.dtype)
                tensor.CopyFrom(onnx.numpy_helper.from_array(shape, tensor.name))


def decode(onnx, model):
    """Boxes in pixels, as the original writes them with `--decode_in_inference`."""
    cells, strides = [], []
    for stride in (8, 16, 32):
        rows, columns = np.mgrid[: 416 // stride, : 416 // stride]
        cells.append(np.stack((columns.ravel(), rows.ravel()), axis=1))
        strides.append(np.full((rows.size, 1), stride))
    constants = {
        "cells": np.concatenate(cells).astype(np.float32),
        "strides": np.concatenate(strides).astype(np.float32),
    }
    raw = model.graph.output[0].name
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    model.graph.node.extend(
        [
            onnx.helper.make_node("Split", [raw], ["offset", "log_size", "scores"], axis=2, split=[2, 2, 81]),
            onnx.helper.make_node("Add", ["offset", "cells"], ["center_in_cells"]),
            onnx.helper.make_node("Mul", ["center_in_cells", "strides"], ["center"]),
            onnx.helper.make_node("Exp", ["log_size"], ["size_in_cells"]),
            onnx.helper.make_node("Mul", ["size_in_cells", "strides"], ["size"]),
            onnx.helper.make_node("Concat", ["center", "size", "scores"], ["decoded"], axis=2),
        ]
    )
    model.graph.output[0].name = "decoded"


@pytest.mark.parametrize(
    "change", [rename_weights, share_a_tensor, list_weights_as_inputs, free_the_sides, take_two_images, decode]
)
def test_onnx_files_of_other_makers(shared, tmp_path, change):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    expected = read_checkpoint(shared / "weights" / "yolox_nano.pth").weights
    graph = onnx.load(str(shared / "weights" / "yolox_nano.onnx"))
    change(onnx, graph)
    onnx.save(graph, str(tmp_path / "changed.onnx"))
    model, processor = convert_checkpoint(tmp_path / "changed.onnx", tmp_path / "model")
    assert dict(processor.size) == {"height": 416, "width": 416}
    restored = restore_state_dict(model.state_dict(), model.config, flip_channels=True)
    assert restored.keys() == expected.keys()
    for key, value in restored.items():
        torch.testing.assert_close(value, expected[key], atol=1e-6, rtol=1e-5, msg=key)


def test_onnx_without_its_packages(shared, tmp_path, monkeypatch):
    for name in ("onnx", "onnxruntime"):
        with (
            monkeypatch.context() as missing,
            pytest.raises(ImportError, match=rf'{name}: `pip install "yolox-hf\[onnx'),
        ):
            missing.setitem(sys.modules, name, None)
            convert_checkpoint(shared / "weights" / "yolox_nano.onnx", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_onnx_that_onnx_runtime_does_not_run(shared, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    graph = onnx.load(str(shared / "weights" / "yolox_nano.onnx"))
    graph.opset_import[0].version = 9999
    onnx.save(graph, str(tmp_path / "future.onnx"))
    with pytest.raises(ValueError, match=r"ONNX Runtime cannot run .*future\.onnx"):
        convert_checkpoint(tmp_path / "future.onnx", tmp_path / "model")


def test_onnx_that_is_not_yolox(shared, tmp_path):
    onnx = pytest.importorskip("onnx")
    with pytest.raises(OSError, match="no checkpoint file"):
        convert_checkpoint(tmp_path / "absent.onnx", tmp_path / "model")
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(ValueError, match="not a readable ONNX file"):
        convert_checkpoint(tmp_path / "text.onnx", tmp_path / "model")

    model = onnx.load(str(shared / "weights" / "yolox_nano.onnx"))
    nodes = list(model.graph.node)
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    # Both convolutions at the entrance of a CSP block have the same shape, and may run in any order: only the
    # comparison with ONNX Runtime can tell that they are taken for each other.
    main, shortcut = (node for node in convolutions if next(iter(node.input)) == convolutions[3].input[0])
    nodes.remove(shortcut)
    nodes.insert(nodes.index(main), shortcut)
    write_graph(onnx, model, nodes, tmp_path / "shuffled.onnx")
    with pytest.raises(ValueError, match="differs from ONNX Runtime"):
        convert_checkpoint(tmp_path / "shuffled.onnx", tmp_path / "model")
    assert not (tmp_path / "model").exists()

    nodes.remove(convolutions[-1])
    write_graph(onnx, model, nodes, tmp_path / "short.onnx")
    with pytest.raises(ValueError, match="The 112 convolutions"):
        convert_checkpoint(tmp_path / "short.onnx", tmp_path / "model")


def write_graph(onnx, model, nodes, path):
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    onnx.save(changed, str(path))


def test_round_trip_of_the_real_weights_is_bit_equal(shared, nano_dir, tmp_path):
    export_original(nano_dir, tmp_path / "back.pth")
    original = torch.load(shared / "weights" / "yolox_nano.pth", weights_only=True)["model"]
    back = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    assert back.keys() == original.keys()
    for key, value in original.items():
        assert back[key].dtype == value.dtype and torch.equal(back[key], value), key


@pytest.mark.parametrize(
    ("variant", "preprocessing"), [("nano", "bgr255"), ("tiny", "rgb_imagenet"), ("darknet53", "bgr255")]
)
def test_round_trip_of_reference_weights_is_bit_equal(variant, preprocessing, shared, recipe, tmp_path):
    manifest = json.loads((shared / "reference" / "manifest.json").read_text())["variants"][variant]["state_dict"]
    original = reference_weights(recipe, manifest)
    original = {key: value + 5 if value.dtype == torch.int64 else value for key, value in original.items()}
    torch.save({"model": original}, tmp_path / "original.pth")
    convert_checkpoint(tmp_path / "original.pth", tmp_path / "model", preprocessing=preprocessing)
    for trained_further in (False, True):
        if trained_further:  # `save_pretrained` writes no such file
            (tmp_path / "model" / "conversion.json").unlink()
        export_original(tmp_path / "model", tmp_path / "back.pth")
        back = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
        assert back.keys() == original.keys()
        for key, value in original.items():
            assert back[key].dtype == value.dtype and torch.equal(back[key], value), key
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.pth", "model", "original.pth"]


@pytest.mark.parametrize("variant", ["yolox-tiny", "yolox-darknet53"])
def test_round_trip_of_every_backbone(variant, tmp_path):
    torch.manual_seed(0)
    config = YoloxConfig.from_variant(variant, stem_channels=8, stage_channels=(8, 8, 16, 16), head_channels=8)
    model = YoloxForObjectDetection(config)
    for flip_channels in (True, False):
        restored = restore_state_dict(model.state_dict(), config, flip_channels)
        assert set(restored) == {original_key(key, config) for key in model.state_dict()}
        again = convert_state_dict(restored, config, flip_channels)
        for key, value in model.state_dict().items():
            assert torch.equal(again[key], value), key


def test_export_says_what_is_missing(tmp_path, nano_dir):
    with pytest.raises(OSError, match=r"no config\.json"):
        export_original(tmp_path, tmp_path / "back.pth")
    with pytest.raises(OSError, match="in a folder that exists"):
        export_original(nano_dir, tmp_path / "absent" / "back.pth")
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(OSError, match="must be a file"):
        export_original(nano_dir, tmp_path / "folder.pth")
