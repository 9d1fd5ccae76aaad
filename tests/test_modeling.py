import json

import numpy as np
import pytest
import torch
from conftest import images, small_config
from transformers import AutoBackbone

from yolox_hf import YoloxBackbone, YoloxConfig, YoloxForObjectDetection, YoloxModel
from yolox_hf.configuration_yolox import VARIANTS
from yolox_hf.conversion import convert_state_dict
from yolox_hf.modeling_yolox import decode_boxes, flatten_maps, joint_logits

TENSORS = ("logits", "pred_boxes", "class_logits", "objectness_logits")


def assert_outputs_close(actual, expected, tolerance=1e-4):
    for name in TENSORS:
        torch.testing.assert_close(actual[name], expected[name], atol=tolerance, rtol=tolerance)


def original_outputs(shared, recipe, manifest_name, variant, dtype):
    """Raw and decoded outputs and neck statistics for the reference's weights through the converter, by input."""
    manifest = json.loads((shared / "reference" / manifest_name).read_text())["variants"][variant]
    state_dict = {
        key: torch.from_numpy(np.asarray(recipe.tensor_for(key, shape, 0)))
        for key, shape in manifest["state_dict"].items()
    }
    config = YoloxConfig.from_variant(f"yolox-{variant}")
    model = YoloxForObjectDetection(config).eval()
    assert model.num_parameters() == manifest["params"]
    model.load_state_dict(convert_state_dict(state_dict, config, flip_channels=True))
    model.to(dtype)
    for name, shape, step in (("rect", (2, 3, 64, 96), 1), ("square", (1, 3, 128, 128), 17)):
        bgr = torch.from_numpy(recipe.images(1, shape))
        with torch.no_grad():
            pixel_values = bgr.flip(1).to(dtype)
            outputs = model(pixel_values)
            feature_maps = model.model(pixel_values).feature_maps
            boxes = flatten_maps(model.head(feature_maps).box_maps)
        raw = torch.cat((boxes, outputs.objectness_logits.sigmoid(), outputs.class_logits.sigmoid()), dim=-1)
        decoded = outputs.pred_boxes * torch.tensor([shape[3], shape[2], shape[3], shape[2]])
        strides = np.repeat([8.0, 16.0, 32.0], [m.shape[-2] * m.shape[-1] for m in feature_maps])
        yield name, raw[:, ::step].numpy(), decoded[:, ::step].numpy(), strides[::step], feature_maps


@pytest.mark.parametrize("variant", [variant.removeprefix("yolox-") for variant in VARIANTS])
def test_forward_equals_the_original(variant, shared, recipe):
    # The weights of the Darknet reference amplify rounding: its own float32 numbers are 9e-5 from exact ones, so ours
    # are computed in float64 there. (In float32, with BGR input and an unflipped stem, they agree to the last bit.)
    dtype = torch.float64 if variant == "darknet53" else torch.float32
    expected = np.load(shared / "reference" / f"forward_{variant}.npz")
    for name, raw, decoded, strides, feature_maps in original_outputs(shared, recipe, "manifest.json", variant, dtype):
        np.testing.assert_allclose(raw, expected[f"{name}_raw"], atol=1e-4, rtol=0)
        boxes = expected[f"{name}_decoded"][..., :4]
        # Relative to the coordinate, or to the anchor's cell where the coordinate is next to zero.
        assert (np.abs(decoded - boxes) / np.maximum(np.abs(boxes), strides[:, None])).max() < 1e-4
        for level, feature_map in enumerate(feature_maps):
            stats = [feature_map.mean(), feature_map.std(), feature_map.abs().max()]
            np.testing.assert_allclose(stats, expected[f"{name}_feat{level}_stats"], rtol=1e-4, atol=1e-5)


# ---- outputs


@pytest.mark.parametrize("variant", ["yolox-nano", "yolox-tiny", "yolox-darknet53"])
def test_output_fields_and_shapes(variant):
    model = YoloxForObjectDetection(YoloxConfig.from_variant(variant, num_labels=5)).eval()
    with torch.no_grad():
        outputs = model(images(0, 2, 64, 96), output_hidden_states=True)
    num_anchors = 8 * 12 + 4 * 6 + 2 * 3
    assert list(outputs.keys()) == [*TENSORS, "last_hidden_state", "hidden_states"]
    assert outputs.logits.shape == outputs.class_logits.shape == (2, num_anchors, 5)
    assert outputs.pred_boxes.shape == (2, num_anchors, 4)
    assert outputs.objectness_logits.shape == (2, num_anchors, 1)
    assert outputs.loss is None and outputs.loss_dict is None
    assert [tuple(state.shape[-2:]) for state in outputs.hidden_states] == [
        (32, 48),
        (16, 24),
        (8, 12),
        (4, 6),
        (2, 3),
    ]
    assert outputs.last_hidden_state.shape[-2:] == (2, 3)
    assert isinstance(model(images(0, 1, 64, 64), return_dict=False), tuple)


def test_outputs_are_the_same_fields_in_training_mode(small_model):
    assert small_model.train()(images(0, 2, 64, 64)).keys() == small_model.eval()(images(0, 2, 64, 64)).keys()


def test_what_an_evaluation_loop_gathers(small_model):
    outputs = small_model(images(0, 1, 32, 32), output_hidden_states=True)
    kept = [key for key in outputs if key not in small_model.config.keys_to_ignore_at_inference]
    assert kept == ["logits", "pred_boxes"]


def test_joint_logit_is_the_product_of_probabilities():
    generator = torch.Generator().manual_seed(0)
    class_logits = torch.randn(2, 50, 7, generator=generator) * 4
    objectness_logits = torch.randn(2, 50, 1, generator=generator) * 4
    expected = objectness_logits.double().sigmoid() * class_logits.double().sigmoid()
    torch.testing.assert_close(
        joint_logits(class_logits, objectness_logits).double().sigmoid(), expected, atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_joint_logit_is_stable(dtype):
    class_logits = torch.tensor([[[-150.0, 150.0, 0.0]]], dtype=dtype)
    for objectness in (-150.0, 0.0, 150.0):
        logits = joint_logits(class_logits, torch.full((1, 1, 1), objectness, dtype=dtype))
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()
    # one factor certain: the logit of the other; both hopeless: the logits add up
    torch.testing.assert_close(logits[0, 0], torch.tensor([-150.0, 150.0 - np.log(2), 0.0]).float(), atol=1e-4, rtol=0)
    hopeless = joint_logits(class_logits, torch.full((1, 1, 1), -150.0, dtype=dtype))
    assert hopeless[0, 0, 0] == -300


def test_decoding_follows_the_paper():
    box_maps = tuple(torch.zeros(1, 4, 64 // stride, 96 // stride) for stride in (8, 16, 32))
    box_maps[1][0, :, 2, 5] = torch.tensor([0.5, 0.25, np.log(2.0), np.log(3.0)])  # row 2, column 5 of stride 16
    boxes = decode_boxes(box_maps)[0] * torch.tensor([96, 64, 96, 64])
    torch.testing.assert_close(boxes[8 * 12 + 2 * 6 + 5], torch.tensor([5.5 * 16, 2.25 * 16, 2 * 16.0, 3 * 16.0]))
    torch.testing.assert_close(boxes[12 + 3], torch.tensor([3 * 8.0, 1 * 8.0, 8.0, 8.0]))  # second row of stride 8
    assert len(boxes) == 8 * 12 + 4 * 6 + 2 * 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_decoding_is_float32_in_half_precision(dtype):
    box_map = torch.full((1, 4, 80, 80), 11.5, dtype=dtype)  # exp(11.5) overflows float16
    boxes = decode_boxes((box_map,))
    assert boxes.dtype == torch.float32
    assert boxes.isfinite().all()


def test_forward_changes_neither_input_nor_module(small_model):
    pixel_values = images(0, 1, 64, 96)
    before, state = pixel_values.clone(), set(vars(small_model)) | set(vars(small_model.head))
    first = small_model(pixel_values)
    small_model(images(1, 2, 32, 32))
    assert_outputs_close(small_model(pixel_values), first, tolerance=0)
    assert torch.equal(pixel_values, before)
    assert set(vars(small_model)) | set(vars(small_model.head)) == state


def test_uint8_input_is_taken(small_model):
    pixel_values = images(0, 1, 64, 64)
    assert_outputs_close(small_model(pixel_values.to(torch.uint8)), small_model(pixel_values), tolerance=0)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 100, 96), r"positive multiples of 32, got 100 x 96"),
        ((1, 3, 0, 32), r"positive multiples of 32, got 0 x 32"),
        ((1, 4, 64, 64), r"must have shape \(batch_size, 3, height, width\), got \(1, 4, 64, 64\)"),
        ((1, 64, 64, 3), r"Channels come before height and width"),
        ((3, 64, 64), r"got \(3, 64, 64\)"),
    ],
)
@pytest.mark.parametrize("model_class", [YoloxForObjectDetection, YoloxModel, YoloxBackbone])
def test_bad_shapes_are_named(model_class, shape, message):
    with pytest.raises(ValueError, match=message):
        model_class(small_config())(torch.zeros(shape))


# ---- initialisation and loading


def test_new_predictors_start_at_the_prior_probability():
    outputs = YoloxForObjectDetection(small_config(prior_probability=0.02)).eval()(images(0, 1, 64, 64) * 0)
    for logits in (outputs.class_logits, outputs.objectness_logits):
        torch.testing.assert_close(logits.sigmoid().median(), torch.tensor(0.02), atol=2e-3, rtol=0)


def test_other_weights_start_as_pytorch_starts_them():
    torch.manual_seed(0)
    weight = (
        YoloxForObjectDetection(YoloxConfig.from_variant("yolox-tiny")).model.neck.fpn_blocks[0].main_conv.conv.weight
    )
    expected = torch.nn.Conv2d(weight.shape[1], weight.shape[0], 1).weight
    assert weight.abs().max() <= expected.abs().max() * 1.01
    torch.testing.assert_close(weight.std(), expected.std(), rtol=0.02, atol=0)


@pytest.mark.parametrize("variant", ["yolox-nano", "yolox-darknet53"])
def test_batch_norm_survives_a_new_head_saving_and_loading(variant, tmp_path):
    model = YoloxForObjectDetection(YoloxConfig.from_variant(variant, num_labels=4))
    model.save_pretrained(tmp_path / "first")
    resized = YoloxForObjectDetection.from_pretrained(tmp_path / "first", num_labels=3, ignore_mismatched_sizes=True)
    resized.save_pretrained(tmp_path / "second")
    reloaded = YoloxForObjectDetection.from_pretrained(tmp_path / "second")
    norms = [module for module in reloaded.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) > 50
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.03)}
    assert reloaded.head.class_predictors[0].out_channels == 3
    # the new class head starts at the prior; everything else is what was saved
    torch.testing.assert_close(reloaded.head.class_predictors[1].bias, torch.full((3,), float(np.log(0.01 / 0.99))))
    for key, value in model.state_dict().items():
        if "class_predictors" not in key:
            assert torch.equal(reloaded.state_dict()[key], value), key


def test_no_buffer_is_lost_in_loading(small_model, tmp_path):
    assert {name.rsplit(".", 1)[-1] for name, _ in small_model.named_buffers()} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }
    small_model.save_pretrained(tmp_path)
    pixel_values = images(0, 1, 64, 64)
    assert_outputs_close(
        YoloxForObjectDetection.from_pretrained(tmp_path).eval()(pixel_values), small_model(pixel_values), 0
    )


# ---- parts


def test_backbone_through_auto_backbone(small_model, tmp_path):
    config = small_config(out_features=["stage2", "stage4"])
    backbone = AutoBackbone.from_config(config)
    assert isinstance(backbone, YoloxBackbone)
    assert backbone.channels == [8, 16]
    outputs = backbone(images(0, 1, 64, 96))
    assert [tuple(feature_map.shape) for feature_map in outputs.feature_maps] == [(1, 8, 8, 12), (1, 16, 2, 3)]
    assert outputs.hidden_states is None
    assert len(backbone(images(0, 1, 64, 64), output_hidden_states=True).hidden_states) == 5


@pytest.mark.parametrize("part", [YoloxBackbone, YoloxModel])
def test_parts_load_from_a_detector(part, small_model, tmp_path, caplog):
    small_model.save_pretrained(tmp_path)
    loaded, info = part.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    weight = small_model.model.backbone.stages[3].csp.final_conv.conv.weight
    assert torch.equal(loaded.backbone.stages[3].csp.final_conv.conv.weight, weight)
    assert not caplog.records


def test_the_neck_reads_the_last_three_stages_whatever_the_backbone_returns():
    model = YoloxModel(small_config(out_features=["stem"]))
    assert [tuple(m.shape[-2:]) for m in model(images(0, 1, 64, 64)).feature_maps] == [(8, 8), (4, 4), (2, 2)]


def test_nine_raw_maps(small_model):
    pixel_values = images(0, 2, 64, 96)
    maps = small_model.head(small_model.model(pixel_values).feature_maps)
    assert [tuple(m.shape) for m in maps.class_maps] == [(2, 3, 8, 12), (2, 3, 4, 6), (2, 3, 2, 3)]
    assert [m.shape[1] for m in (*maps.box_maps, *maps.objectness_maps)] == [4, 4, 4, 1, 1, 1]
    torch.testing.assert_close(flatten_maps(maps.class_maps), small_model(pixel_values).class_logits)


def test_every_parameter_receives_a_gradient(small_model):
    outputs = small_model.train()(images(0, 2, 64, 64))
    (outputs.logits.sum() + outputs.pred_boxes.sum()).backward()
    assert [name for name, parameter in small_model.named_parameters() if parameter.grad is None] == []


# ---- export and compilation


@pytest.fixture(params=["csp_darknet", "depthwise", "darknet53"])
def exportable(request) -> YoloxForObjectDetection:
    torch.manual_seed(0)
    fields = {
        "csp_darknet": {},
        "depthwise": {"depthwise": True},
        "darknet53": {"backbone_type": "darknet53", "hidden_act": "leaky_relu"},
    }
    return YoloxForObjectDetection(small_config(**fields[request.param])).eval()


OTHER_INPUTS = [(1, 64, 96), (3, 96, 64)]


def test_export_with_dynamic_batch_and_sides(exportable):
    auto = torch.export.Dim.AUTO
    program = torch.export.export(
        exportable,
        (),
        {"pixel_values": images(0, 2, 96, 160)},
        dynamic_shapes={"pixel_values": {0: auto, 2: auto, 3: auto}},
    )
    for batch_size, height, width in OTHER_INPUTS:
        pixel_values = images(1, batch_size, height, width)
        assert_outputs_close(program.module()(pixel_values=pixel_values), exportable(pixel_values))


def test_compile_without_graph_breaks(small_model):
    torch._dynamo.reset()
    # aot_eager traces as inductor does and leaves its C++ compilation, minutes on two cores, out. The second input
    # makes batch and sides dynamic, so the third needs no compilation.
    compiled = torch.compile(small_model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for batch_size, height, width in [*OTHER_INPUTS, (2, 128, 128)]:
            pixel_values = images(1, batch_size, height, width)
            assert_outputs_close(compiled(pixel_values), small_model(pixel_values))
