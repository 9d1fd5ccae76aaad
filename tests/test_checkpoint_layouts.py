# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Checkpoints in other layouts than the original's, ONNX files, and the way back."""

import json

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
@pytest.mark.parametrize("container", ["state_dict", "ema_state_dict", "ema in state_dict"])
def test_mmdetection(shared, recipe, tmp_path, size, container):
    manifest = json.loads((shared / "reference" / "mmdet_manifest.json").read_text())["variants"][size]
    weights = reference_weights(recipe, manifest)
    raw = {key: torch.zeros_like(value) for key, value in weights.items()}
    checkpoint = {
        "state_dict": {"state_dict": weights},
        "ema_state_dict": {
            "state_dict": raw,
            "ema_state_dict": {f"module.{key}": value for key, value in weights.items()},
        },
        "ema in state_dict": {
            "state_dict": raw | {"ema_" + key.replace(".", "_"): value for key, value in weights.items()}
        },
    }[container]
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
    names = {index: f"thing {index}" for index in range(80)}
    raw = {key: torch.zeros_like(value) for key, value in weights.items()}
    content = {"model": raw, "ema": weights, "model_family": "yolox", "size": "n", "names": names, "imgsz": 320}
    torch.save(content, tmp_path / "libre.pt")
    model, processor = convert_checkpoint(tmp_path / "libre.pt", tmp_path / "model")
    assert model.config.id2label[3] == "thing 3"
    assert dict(processor.size) == {"height": 320, "width": 320}
    assert model.num_parameters() and any(value.abs().sum() > 0 for value in model.state_dict().values())
    _, processor = convert_checkpoint(tmp_path / "libre.pt", tmp_path / "wide", image_size=(256, 320))
    assert dict(processor.size) == {"height": 256, "width": 320}


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
