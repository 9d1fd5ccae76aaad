# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Exported graphs against the eager model: raw outputs, detections, metadata, int8, and what goes wrong."""

import importlib.util
import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import images, small_config
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForObjectDetection, pipeline

from yolox_hf import YoloxForObjectDetection, YoloxImageProcessor
from yolox_hf.cli import main
from yolox_hf.export import YoloxExportedForObjectDetection, export_model, load_exported
from yolox_hf.export.exporting import describe_graph
from yolox_hf.export.graphs import YoloxDetectionsOutput, YoloxRawOutput, restore_output
from yolox_hf.export.runtimes import PACKAGES, check_extra, find_tail

logging.getLogger("torch.__trace").propagate = False  # pytest would keep its thousands of records, slowly

SHAPES = ((1, 64, 64), (3, 64, 64), (3, 64, 96))  # batch size, height, width
NMS = {"nms_threshold": 0.65, "score_threshold": 0.54}  # the former is what pipelines use
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


def needs(format: str):
    missing = [name for name in PACKAGES.get(format, ()) if importlib.util.find_spec(name) is None]
    return pytest.param(format, marks=pytest.mark.skipif(bool(missing), reason=f"{missing} not installed"))


FORMATS = [needs(format) for format in ("onnx", "openvino", "torch")]
GRAPH_FORMATS = [needs(format) for format in ("onnx", "openvino")]


def seeded_model() -> YoloxForObjectDetection:
    """Small, depthwise as YOLOX-Nano, of outputs that differ from place to place and do not magnify rounding."""
    torch.manual_seed(0)
    model = YoloxForObjectDetection(small_config(depthwise=True))
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    for norm in norms:
        norm.momentum = 1.0
    model(images(0, 32, 64, 96))  # whose statistics the norms take over
    for norm in norms:
        norm.running_var.clamp_(min=0.3)
    for predictor in model.head.box_predictors:
        torch.nn.init.normal_(predictor.weight, std=0.1)
        torch.nn.init.constant_(predictor.bias, 2.0)  # seven cells wide and high, so that boxes overlap
    for predictor in (*model.head.objectness_predictors, *model.head.class_predictors):
        torch.nn.init.constant_(predictor.bias, 1.0)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> YoloxForObjectDetection:
    return seeded_model()


@pytest.fixture(scope="module")
def exports(model, tmp_path_factory):
    """Makes an export on its first use, and keeps it."""
    made: dict[str, Path] = {}

    def export(format: str, **options) -> Path:
        key = f"{format}-{options}"
        if key not in made:
            made[key] = tmp_path_factory.mktemp("exports") / "exported"
            export_model(model, made[key], format=format, processor=YoloxImageProcessor(size=64), **options)
        return made[key]

    return export


def load(folder: Path) -> YoloxExportedForObjectDetection:
    return load_exported(folder, trust_remote_code=True)


def eager(model, pixel_values):
    with torch.inference_mode():
        return model(pixel_values)


def assert_same_detections(found, expected):
    """Of `post_process_object_detection`: the same, but for rounding."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert len(other["scores"]) > 0
        for name in ("scores", "labels", "boxes"):
            torch.testing.assert_close(one[name], other[name], atol=1e-4, rtol=1e-4)


# ---- equal to eager


@pytest.mark.parametrize("format", FORMATS)
def test_outputs_equal_eager_at_any_batch_size_and_sides(model, exports, format):
    detector = load(exports(format))
    for batch_size, height, width in SHAPES:
        pixel_values = images(1, batch_size, height, width)
        outputs, expected = detector(pixel_values), eager(model, pixel_values)
        assert outputs.keys() == {"logits", "pred_boxes"}
        torch.testing.assert_close(outputs.logits, expected.logits, **TOLERANCE)
        torch.testing.assert_close(outputs.pred_boxes, expected.pred_boxes, **TOLERANCE)


@pytest.mark.parametrize("format", FORMATS)
def test_static_graphs_of_raw_boxes_equal_eager_too(model, exports, format):
    detector = load(exports(format, boxes="raw", dynamic=False, image_size=(64, 96)))
    pixel_values = images(2, 3, 64, 96)  # a batch goes through image by image
    outputs, expected = detector(pixel_values), eager(model, pixel_values)
    torch.testing.assert_close(outputs.logits, expected.logits, **TOLERANCE)
    torch.testing.assert_close(outputs.pred_boxes, expected.pred_boxes, **TOLERANCE)
    with pytest.raises(ValueError, match="exported for, 64 x 96, got 96 x 64"):
        detector(images(2, 1, 96, 64))


@pytest.mark.parametrize(("format", "dynamic"), [("onnx", True), ("openvino", False)])
def test_nms_in_the_graph_is_the_processors(model, exports, format, dynamic):
    pytest.importorskip({"onnx": "onnxruntime"}.get(format, format))
    detector = load(exports(format, nms=True, **NMS, dynamic=dynamic))
    processor = YoloxImageProcessor(size=64)
    pixel_values = torch.cat((images(3, 2, 64, 64), torch.zeros(1, 3, 64, 64)))
    options = {"threshold": NMS["score_threshold"], "nms_threshold": NMS["nms_threshold"]}
    expected = processor.post_process_object_detection(eager(model, pixel_values), **options)
    assert len({int(label) for result in expected for label in result["labels"]}) > 1
    assert len({len(result["labels"]) for result in expected}) > 1  # so that some images are filled up
    # The graph has done it all already: neither threshold is needed any more.
    found = processor.post_process_object_detection(detector(pixel_values), threshold=0.0, nms_threshold=1.0)
    assert_same_detections(found, expected)


def test_detections_of_no_image_become_outputs_without_anchors():
    nothing = YoloxDetectionsOutput(
        torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64), torch.empty(0), torch.empty(0, 4)
    )
    outputs = restore_output(nothing, torch.zeros(2, 3, 64, 64), num_labels=3)
    assert outputs.logits.shape == (2, 0, 3)
    assert outputs.pred_boxes.shape == (2, 0, 4)
    results = YoloxImageProcessor(size=64).post_process_object_detection(outputs, target_sizes=[(9, 9)] * 2)
    assert [len(result["scores"]) for result in results] == [0, 0]


def test_raw_predictions_have_the_originals_layout(model, exports):
    pixel_values = images(4, 1, 64, 96)
    raw = load(exports("torch", boxes="raw", dynamic=False, image_size=(64, 96))).exported(pixel_values=pixel_values)
    assert isinstance(raw, YoloxRawOutput)
    maps = model.head(model.model(pixel_values).feature_maps)
    anchor = (64 // 8) * (96 // 8) + 1 * (96 // 16) + 2  # stride 16, row 1, column 2
    expected = torch.cat(
        (
            maps.box_maps[1][:, :, 1, 2],
            maps.objectness_maps[1][:, :, 1, 2].sigmoid(),
            maps.class_maps[1][:, :, 1, 2].sigmoid(),
        ),
        dim=1,
    )
    torch.testing.assert_close(raw.predictions[:, anchor], expected, **TOLERANCE)


@pytest.mark.parametrize("format", GRAPH_FORMATS)
def test_the_real_nano_finds_the_same_in_the_dog_photo(nano_dir, dog, tmp_path, format):
    nano = YoloxForObjectDetection.from_pretrained(nano_dir)
    # Static, since such an export is made in a third of the time.
    export_model(nano_dir, tmp_path / "exported", format=format, dynamic=False, image_size=(320, 512))
    processor = AutoImageProcessor.from_pretrained(tmp_path / "exported")
    inputs = processor([dog] * 3, return_tensors="pt")["pixel_values"]
    outputs, expected = load_exported(tmp_path / "exported")(inputs), eager(nano, inputs)
    torch.testing.assert_close(outputs.logits, expected.logits, **TOLERANCE)
    torch.testing.assert_close(outputs.pred_boxes, expected.pred_boxes, **TOLERANCE)
    options = {"threshold": 0.3, "target_sizes": [(dog.height, dog.width)] * 3}
    results = [processor.post_process_object_detection(one, **options) for one in (outputs, expected)]
    for found, wanted in zip(*results):
        assert {nano.config.id2label[label] for label in found["labels"].tolist()} >= {"dog", "bicycle", "car"}
        assert found["labels"].tolist() == wanted["labels"].tolist()
        torch.testing.assert_close(found["boxes"], wanted["boxes"], atol=0.05, rtol=0)


# ---- in pipelines and commands


@pytest.mark.parametrize("format", GRAPH_FORMATS)
@pytest.mark.parametrize("nms", [False, True])
def test_pipelines_run_exports_loaded_or_by_their_folder(model, exports, photo, format, nms):
    folder = exports(format, nms=True, **NMS, dynamic=format == "onnx") if nms else exports(format)
    processor = AutoImageProcessor.from_pretrained(folder)
    photos = [Image.fromarray(photo), Image.fromarray(photo[:, ::-1])]
    expected = pipeline("object-detection", model=model, image_processor=processor)(photos, threshold=0.54)
    assert all(expected)
    for source in (load_exported(folder), str(folder)):
        detector = pipeline("object-detection", model=source, image_processor=processor)
        for batch_size in (1, 2):
            found = detector(photos, threshold=0.54, batch_size=batch_size)
            for one, other in zip(found, expected):
                assert [(item["label"], item["box"]) for item in one] == [
                    (item["label"], item["box"]) for item in other
                ]
                scores = [[item["score"] for item in result] for result in (one, other)]
                assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_the_folder_saved_again_is_the_same_model(model, exports, tmp_path):
    load(exports("torch")).save_pretrained(tmp_path)
    pixel_values = images(5, 1, 64, 64)
    torch.testing.assert_close(load(tmp_path)(pixel_values).logits, eager(model, pixel_values).logits, **TOLERANCE)


@pytest.mark.parametrize("format", GRAPH_FORMATS)
def test_runtimes_use_as_many_threads_as_pytorch_and_openvino_computes_in_float32(exports, format):
    runner = load(exports(format)).exported.runners["model"]
    if format == "onnx":
        assert runner.session.get_session_options().intra_op_num_threads == torch.get_num_threads()
    else:
        compiled = runner.compiled_model
        assert compiled.get_property("INFERENCE_NUM_THREADS") == torch.get_num_threads()
        assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
        chosen = load_exported(exports(format), config={"INFERENCE_NUM_THREADS": 1})
        assert chosen.exported.runners["model"].compiled_model.get_property("INFERENCE_NUM_THREADS") == 1


# ---- the folder


def test_onnx_metadata_tells_what_the_graph_takes_and_returns(model, exports):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(exports("onnx", nms=True, **NMS, dynamic=True) / "model.onnx", load_external_data=False)
    onnx.checker.check_model(str(exports("onnx", nms=True, **NMS, dynamic=True) / "model.onnx"))
    metadata = {item.key: item.value for item in graph.metadata_props}
    assert json.loads(metadata["names"]) == {str(index): name for index, name in model.config.id2label.items()}
    assert json.loads(metadata["image_size"]) == [64, 64]
    assert metadata["color_order"] == "RGB"
    assert metadata["value_range"] == "0..255"
    assert metadata["padding"] == "114, right and bottom"
    assert metadata["boxes"] == "detections"
    assert "pixels of the padded input" in metadata["box_format"]
    assert [value.name for value in graph.graph.output] == ["batch_index", "labels", "scores", "boxes"]
    sides = [side.dim_param or side.dim_value for side in graph.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", 3, "height", "width"]


def test_openvino_metadata_tells_the_colour_order(exports):
    openvino = pytest.importorskip("openvino")
    program = openvino.Core().read_model(
        exports("openvino", boxes="raw", dynamic=False, image_size=(64, 96)) / "openvino_model.xml"
    )
    assert program.get_rt_info(["model_info", "color_order"]).astype(str) == "RGB"
    assert program.get_rt_info(["model_info", "boxes"]).astype(str) == "raw"


def test_metadata_states_the_normalisation_of_checkpoints_that_have_one(model):
    processor = YoloxImageProcessor(size=64, do_rescale=True, do_normalize=True)
    value_range = describe_graph(model, processor, "decoded", dynamic=False, source="")["value_range"]
    assert value_range.startswith("0..255, times 0.0039") and "minus [0.485," in value_range


def test_exporting_changes_neither_model_nor_processor(model, exports):
    training, state = seeded_model().train(), seeded_model().state_dict()
    processor = YoloxImageProcessor(size=96)
    folder = exports("torch").parent / "other"
    export_model(training, folder, format="torch", processor=processor, image_size=(32, 64))  # one row of cells
    assert training.training
    assert all(torch.equal(value, state[name]) for name, value in training.state_dict().items())
    assert dict(processor.size) == {"height": 96, "width": 96}
    assert dict(AutoImageProcessor.from_pretrained(folder).size) == {"height": 32, "width": 64}


def test_the_auto_class_leads_to_the_export(exports):
    pytest.importorskip("onnxruntime")
    detector = AutoModelForObjectDetection.from_pretrained(exports("onnx"))
    assert isinstance(detector, YoloxExportedForObjectDetection)
    assert detector.device == torch.device("cpu") and detector.dtype == torch.float32


# ---- int8


@pytest.mark.parametrize("format", GRAPH_FORMATS)
def test_int8_stays_near_float(model, tmp_path, photo, format):
    if format == "openvino":
        pytest.importorskip("nncf")
    for index in range(4):
        Image.fromarray(np.roll(photo, 9 * index, axis=1)).save(tmp_path / f"{index}.png")
    processor = YoloxImageProcessor(size=64)
    export_model(model, tmp_path / "int8", format=format, processor=processor, calibration=tmp_path, dynamic=False)
    detector = load_exported(tmp_path / "int8")
    pixel_values = processor(photo, return_tensors="pt")["pixel_values"]
    outputs, expected = detector(pixel_values), eager(model, pixel_values)
    assert not torch.allclose(outputs.logits, expected.logits, atol=1e-4)  # else nothing is quantised
    assert (outputs.logits.sigmoid() - expected.logits.sigmoid()).abs().mean() < 0.05
    assert (outputs.pred_boxes - expected.pred_boxes).abs().mean() < 0.02


def test_the_tail_begins_with_the_predictors():
    users = {"conv1": ["act"], "act": ["conv2", "conv3"], "conv2": ["add"], "constant": ["add"], "conv3": ["add"]}
    users["add"] = []
    assert find_tail(users, {"conv1", "conv2", "conv3"}) == {"conv2", "conv3", "constant", "add"}


# ---- ExecuTorch


def test_executorch_programs_equal_eager(model, tmp_path):
    pytest.importorskip("executorch.runtime")
    export_model(model, tmp_path / "exported", format="executorch", processor=YoloxImageProcessor(size=64))
    pixel_values = images(6, 3, 64, 64)
    outputs, expected = load_exported(tmp_path / "exported")(pixel_values), eager(model, pixel_values)
    torch.testing.assert_close(outputs.logits, expected.logits, **TOLERANCE)
    torch.testing.assert_close(outputs.pred_boxes, expected.pred_boxes, **TOLERANCE)


# ---- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tflite"}, "`format` must be one of onnx, openvino, executorch, torch, got 'tflite'"),
        ({"boxes": "corners"}, '`boxes` must be "decoded" or "raw", got \'corners\''),
        ({"boxes": "raw", "nms": True}, '`nms=True` needs `boxes="decoded"`'),
        ({"nms_threshold": 1.5}, r"`nms_threshold` must be in \[0, 1\], got 1.5"),
        ({"score_threshold": -0.1}, r"`score_threshold` must be in \[0, 1\], got -0.1"),
        ({"image_size": (64, 65)}, "`image_size` must be multiples of 32, got 64 x 65"),
        ({"format": "torch", "nms": True}, "`nms=True` is for the formats onnx and openvino, got `format='torch'`"),
        ({"format": "torch", "calibration": []}, "`calibration` is for the formats onnx and openvino"),
        ({"format": "executorch", "dynamic": True}, '`dynamic=True` is not for `format="executorch"`'),
    ],
)
def test_options_that_cannot_be_are_refused(model, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export_model(model, tmp_path / "exported", processor=YoloxImageProcessor(size=64), **options)
    assert list(tmp_path.iterdir()) == []


def test_models_and_folders_that_cannot_be_are_refused(model, exports, tmp_path):
    with pytest.raises(TypeError, match="`processor` must be given with a loaded model"):
        export_model(model, tmp_path / "exported", format="torch")
    with pytest.raises(TypeError, match="`model` must be a YoloxForObjectDetection or its folder, got Conv2d"):
        export_model(torch.nn.Conv2d(3, 3, 1), tmp_path / "exported", format="torch", processor=YoloxImageProcessor())
    with pytest.raises(ValueError, match="is an exported model already"):
        export_model(exports("torch"), tmp_path / "exported", format="torch")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(OSError, match="exists already and is not an empty folder"):
        export_model(model, tmp_path / "full", format="torch", processor=YoloxImageProcessor())
    with pytest.raises(OSError, match=r"export\.json"):
        load_exported(tmp_path / "full")
    with pytest.raises(ValueError, match="an exported model has no loss"):
        load(exports("torch"))(images(0, 1, 64, 64), labels=[{}])
    with pytest.raises(ValueError, match="multiples of 32"):
        load(exports("torch"))(images(0, 1, 64, 65))


@pytest.mark.parametrize(
    ("package", "options", "extra"),
    [
        ("onnxscript", {"format": "onnx"}, "onnx"),
        ("openvino", {"format": "openvino"}, "openvino"),
        ("nncf", {"format": "openvino", "calibration": ["photo.jpg"]}, "openvino"),
        ("executorch", {"format": "executorch"}, "executorch"),
    ],
)
def test_a_missing_package_names_its_extra(model, tmp_path, monkeypatch, package, options, extra):
    if package == "nncf" and importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs .*{package}.*: `pip install \"yolox-hf\[{extra}\]\"`"):
        export_model(model, tmp_path / "exported", processor=YoloxImageProcessor(size=64), **options)


def test_loading_without_the_runtime_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"onnxruntime.*yolox-hf\[onnx\]"):
        check_extra("onnx")


# ---- the command


def test_the_command_writes_a_folder_that_the_others_take(model, tmp_path, photo, capsys):
    pytest.importorskip("onnxruntime")
    model.save_pretrained(tmp_path / "model")
    YoloxImageProcessor(size=64).save_pretrained(tmp_path / "model")
    Image.fromarray(photo).save(tmp_path / "photo.png")
    output = tmp_path / "exported"
    arguments = ["export", str(tmp_path / "model"), str(output), "--static", "--image-size", "64", "96"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"Written to {output}\n"
    assert load_exported(output).static_size == (64, 96)
    detections = ["detect", str(tmp_path / "photo.png"), "--device", "cpu", "--threshold", "0.3"]
    assert main([*detections, "--model", str(output), "--output-dir", str(tmp_path / "found")]) == 0

    capsys.readouterr()
    assert main(arguments) == 1  # the folder is full now
    assert main([*arguments[:2], str(tmp_path / "other"), "--boxes", "raw", "--nms"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and all(line.startswith("error: `") for line in errors)
    assert not (tmp_path / "other").exists()
