import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import images
from PIL import Image

from yolox_hf import YoloxImageProcessor
from yolox_hf.image_processing_yolox import nms, resize_bilinear
from yolox_hf.loss_yolox import box_iou


def processor(height=64, width=64, **kwargs) -> YoloxImageProcessor:
    return YoloxImageProcessor(size={"height": height, "width": width}, **kwargs)


def pixels(image, **kwargs) -> torch.Tensor:
    return processor()(image, return_tensors="pt", **kwargs).pixel_values


# ---- letterbox


def synthetic_photo(height: int, width: int, seed: int) -> np.ndarray:
    """The photos of the reference's `letterbox.npz`: blocks of noise."""
    random = np.random.RandomState(seed)
    blocks = random.randint(0, 256, (max(2, height // 8), max(2, width // 8), 3)).astype(np.uint8)
    rows = np.arange(height) * blocks.shape[0] // height
    columns = np.arange(width) * blocks.shape[1] // width
    noise = random.randint(-20, 21, (height, width, 3))
    return np.clip(blocks[rows][:, columns].astype(np.int16) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("case", range(7))
def test_letterbox_equals_the_original(case, shared):
    reference = np.load(shared / "reference" / "letterbox.npz")
    height, width, target_height, target_width, seed = (int(n) for n in reference[f"case{case}_meta"])
    actual = processor(target_height, target_width)(synthetic_photo(height, width, seed)).pixel_values[0].numpy()
    difference = np.abs(actual[:, ::5, ::5] - reference[f"case{case}_sample"].astype(np.float32))
    assert difference.max() <= 1
    assert difference.mean() < 0.05
    assert abs(actual.sum(dtype=np.float64) - reference[f"case{case}_sum"]) / actual.size < 0.05


def test_resize_is_bilinear_between_exact_values():
    image = torch.tensor([[[0, 100], [200, 100]]], dtype=torch.uint8)
    assert resize_bilinear(image, 2, 4).tolist() == [[[0, 25, 75, 100], [200, 175, 125, 100]]]
    assert torch.equal(resize_bilinear(image, 2, 2), image)
    expected = torch.nn.functional.interpolate(image[None].float(), (5, 7), mode="bilinear")[0]
    assert (resize_bilinear(image, 5, 7) - expected).abs().max() <= 1
    torch.testing.assert_close(resize_bilinear(image.float(), 5, 7), expected)


def test_shrinking_by_an_odd_factor_takes_the_middle_pixels():
    image = images(0, 1, 135, 240)[0].to(torch.uint8)
    assert torch.equal(resize_bilinear(image, 45, 80), image[:, 1::3, 1::3])
    assert torch.equal(resize_bilinear(image, 27, 80), image[:, 2::5, 1::3])
    letterboxed = processor(64, 80)(image).pixel_values[0]
    assert torch.equal(letterboxed[:, :45], image[:, 1::3, 1::3].float())
    mixed = image.float()[:, 1::3].unflatten(-1, (120, 2)).mean(dim=-1)  # columns shrink by two: halfway between both
    assert torch.equal(resize_bilinear(image, 45, 120), (mixed + 0.25).round().to(torch.uint8))


@pytest.mark.parametrize("shape", [(37, 53), (90, 41), (400, 333)])
def test_resize_of_a_stack_is_that_of_its_images(shape):
    stack = images(0, 2, 61, 83).to(torch.uint8)
    resized = resize_bilinear(stack, *shape)
    assert resized.shape == (2, 3, *shape) and resized.dtype == torch.uint8
    for image, expected in zip(resized, stack):
        assert torch.equal(image, resize_bilinear(expected, *shape))
        assert torch.equal(image[1:2], resize_bilinear(expected[1:2], *shape))


def test_a_batch_in_threads_is_that_of_its_photos(photo):
    photos = [np.roll(photo[: 50 + index], index, axis=1) for index in range(20)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        in_threads = pixels(photos)
        torch.set_num_threads(1)
        assert torch.equal(in_threads, pixels(photos))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(in_threads, torch.cat([pixels(one) for one in photos]))


def test_resize_reads_and_writes_within_larger_arrays():
    with_alpha = torch.from_numpy(np.random.RandomState(0).randint(0, 256, (50, 70, 4)).astype(np.uint8))
    for image in (with_alpha[..., :3], with_alpha[..., 1:], with_alpha[:, :60, :3], with_alpha[5:, 5:, :3]):
        image = image.permute(2, 0, 1)
        expected = resize_bilinear(image.contiguous(), 31, 44)
        assert torch.equal(resize_bilinear(image, 31, 44), expected)
        for dtype in (torch.uint8, torch.float32, torch.bfloat16):
            canvas = torch.full((3, 40, 48), 7, dtype=dtype).permute(1, 2, 0).contiguous().permute(2, 0, 1)
            assert torch.equal(resize_bilinear(image, 31, 44, out=canvas[:, :31, :44]), expected.to(dtype))
            assert torch.equal(canvas[:, :31, :44], expected.to(dtype))
            assert (canvas[:, 31:] == 7).all() and (canvas[:, :, 44:] == 7).all()


def test_resize_on_another_device_than_the_cpu():
    """As far as there is one everywhere: shapes and dtypes, but no values."""
    stack = torch.empty(2, 3, 61, 83, dtype=torch.uint8, device="meta")
    resized = resize_bilinear(stack, 37, 53)
    assert resized.shape == (2, 3, 37, 53) and resized.dtype == torch.uint8 and resized.device.type == "meta"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", torch.float16])
def test_levels_in_half_precision_are_exact(dtype, photo, tmp_path):
    half = processor(pixel_dtype=dtype)
    half.save_pretrained(tmp_path)
    for source in (half, YoloxImageProcessor.from_pretrained(tmp_path)):
        values = source(photo, return_tensors="pt").pixel_values
        assert str(values.dtype) in ("torch.float16", "torch.bfloat16")
        assert torch.equal(values.float(), pixels(photo))
    normalized = processor(pixel_dtype=dtype, do_normalize=True)(photo, return_tensors="pt").pixel_values
    expected = processor(do_normalize=True)(photo, return_tensors="pt").pixel_values
    torch.testing.assert_close(normalized.float(), expected, rtol=1e-2, atol=1e-2)


def test_images_of_one_shape_can_be_resized_together(photo):
    photos = [photo, photo[:50], photo[::-1].copy()]
    assert torch.equal(pixels(photos, disable_grouping=False), pixels(photos))


def test_resize_does_not_antialias():
    stripes = torch.zeros(1, 4, 64, dtype=torch.uint8)
    stripes[..., ::8] = 255
    assert resize_bilinear(stripes, 4, 8).float().std() == 0  # every eighth column is sampled or none: no mean of them


def test_photo_is_at_the_top_left_and_the_rest_is_114(photo):
    result = pixels(photo)[0]
    assert result.dtype == torch.float32
    assert result.shape == (3, 64, 64)
    assert (result[:, 48:] == 114).all()
    assert not (result[:, :48] == 114).all(dim=0).any()
    assert result[0, 40, 10] > 100 and result[2, 40, 10] < 120  # channels stay RGB: red follows the rows


def test_sides_are_truncated():
    ones = np.ones((333, 500, 3), np.uint8)  # 333 * 64 / 500 = 42.6
    assert (pixels(ones)[0, 0, :, 0] == 1).sum() == 42
    assert pixels(np.ones((2000, 3, 3), np.uint8)).shape == (1, 3, 64, 64)  # a side that would be truncated to nothing


def test_rectangular_size(photo):
    result = processor(96, 64)(photo, return_tensors="pt").pixel_values[0]
    assert result.shape == (3, 96, 64)
    assert (result[:, 48:] == 114).all()


# ---- what is accepted


def test_every_form_of_an_image_gives_the_same(photo, tmp_path):
    expected = pixels(photo)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    channels_first = np.ascontiguousarray(photo.transpose(2, 0, 1))
    for form in (
        Image.fromarray(photo),
        channels_first,
        torch.from_numpy(photo),
        torch.from_numpy(channels_first),
        str(tmp_path / "photo.png"),
        photo.astype(np.int64),
        Image.fromarray(photo).convert("RGBA"),
        np.dstack((photo, np.full(photo.shape[:2], 7, np.uint8))),
        [photo],
    ):
        torch.testing.assert_close(pixels(form), expected, atol=1, rtol=0)
    batch = pixels([Image.fromarray(photo), photo[:50], torch.from_numpy(photo)])
    assert batch.shape == (3, 3, 64, 64)
    assert torch.equal(batch[0], expected[0]) and torch.equal(batch[2], expected[0])
    assert torch.equal(pixels(np.stack([photo, photo]))[1], expected[0])


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "CMYK", "YCbCr", "HSV", "I;16", "F"])
def test_every_mode_of_an_image(mode, photo):
    if mode == "I;16":
        image = Image.fromarray(photo[..., 0].astype(np.uint16) * 257)
        expected = Image.fromarray(photo[..., 0]).convert("RGB")
    else:
        image = Image.fromarray(photo).convert("L" if mode in ("F", "LA") else "RGB").convert(mode)
        expected = image.convert("RGB")
    assert image.mode == mode
    assert torch.equal(pixels(image), pixels(expected))


def test_grey_arrays_get_three_channels(photo):
    grey = photo[..., 0]
    expected = pixels(Image.fromarray(grey))
    for form in (grey[..., None], grey[None], torch.from_numpy(grey[None])):
        assert torch.equal(pixels(form), expected)


def test_exif_rotation_of_files_is_applied(photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(photo).save(tmp_path / "rotated.png", exif=exif)
    assert torch.equal(pixels(str(tmp_path / "rotated.png")), pixels(np.ascontiguousarray(np.rot90(photo, -1))))


def test_floats_are_not_rounded_and_small_ones_are_warned_about(photo, caplog):
    from yolox_hf.image_processing_yolox import logger

    assert pixels(photo.astype(np.float32) + 0.5).frac().abs().max() > 0
    logger.addHandler(caplog.handler)
    try:
        pixels(photo / 255.0)
    finally:
        logger.removeHandler(caplog.handler)
    assert "levels 0..255" in caplog.text


def test_inputs_are_not_modified(photo):
    before = photo.copy()
    processor(do_rescale=True, do_normalize=True)([photo], return_tensors="pt")
    square = np.zeros((64, 64, 3), np.float32)  # no resize, no padding: nothing copies it on the way
    processor(do_rescale=True, do_normalize=True)(square, return_tensors="pt")
    assert np.array_equal(photo, before) and not square.any()


def test_legacy_normalisation_comes_after_the_padding(photo):
    plain = pixels(photo)
    result = pixels(photo, do_rescale=True, do_normalize=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (plain / 255 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    torch.testing.assert_close(result, expected)
    assert result[0, 0, 63, 0] != 114


def test_bad_options_are_named(photo):
    for kwargs, message in (
        ({"do_pad": False}, "`do_pad=False` is not supported"),
        ({"do_center_crop": True, "crop_size": 32}, "`do_center_crop` is not supported"),
        ({"size": {"shortest_edge": 64}}, "`size` must be a number or have `height` and `width`"),
        ({"resample": 3}, "`resample` must be bilinear"),
        ({"pixel_dtype": "int8"}, "`pixel_dtype` must be one of float32, float16, bfloat16, got int8"),
        ({"pad_value": 300}, r"`pad_value` must be in \[0, 255\], got 300"),
        ({"do_resize": False}, r"must not be larger than `size` \(64 x 64\), got 90 x 120"),
        ({"annotations": []}, "one entry for each image, got 0 for 1"),
        ({"annotations": [{"boxes": []}]}, "Invalid COCO detection annotations"),
    ):
        with pytest.raises(ValueError, match=message):
            processor()(photo, **kwargs)
    with pytest.raises(ValueError, match="at least one pixel"):
        processor()(np.zeros((0, 5, 3), np.uint8))
    with pytest.raises(TypeError):
        processor()(photo, antialias=True)


def test_save_and_load(tmp_path):
    YoloxImageProcessor.from_variant("yolox-nano", pad_value=7).save_pretrained(tmp_path)
    loaded = YoloxImageProcessor.from_pretrained(tmp_path)
    assert (loaded.size.height, loaded.size.width, loaded.pad_value) == (416, 416, 7)
    assert (
        json.loads((tmp_path / "preprocessor_config.json").read_text())["image_processor_type"]
        == "YoloxImageProcessor"
    )
    assert YoloxImageProcessor.from_variant("yolox-l").size.height == 640
    assert YoloxImageProcessor(size=96).size.width == 96


# ---- annotations


def coco(*annotations) -> dict:
    return {"image_id": 7, "annotations": [{"area": 1, **annotation} for annotation in annotations]}


def test_annotations_become_labels(photo):
    target = coco(
        {"bbox": [12, 9, 60, 45], "category_id": 2},
        {"bbox": [100, 80, 60, 60], "category_id": 0},  # clipped to the photo
        {"bbox": [5, 5, 5, 5], "category_id": 1, "iscrowd": 1},
        {"bbox": [5, 5, 0, 5], "category_id": 1},
    )
    features = processor(64, 96)([photo, photo], annotations=[target, coco()], return_tensors="pt")
    label, empty = features["labels"]
    scale = 64 / 90
    assert label["class_labels"].tolist() == [2, 0]
    corners = torch.tensor([[12, 9, 72, 54], [100, 80, 120, 90]]) * scale
    centers = torch.cat(((corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]), dim=1)
    torch.testing.assert_close(label["boxes"], centers / torch.tensor([96, 64, 96, 64]))
    torch.testing.assert_close(label["area"], centers[:, 2:].prod(dim=1))
    assert (label["orig_size"].tolist(), label["size"].tolist(), label["image_id"].tolist()) == (
        [90, 120],
        [64, 96],
        [7],
    )
    assert empty["boxes"].shape == (0, 4) and empty["class_labels"].dtype == torch.int64


def test_labels_come_back_through_post_processing(photo):
    size = {"height": 64, "width": 96}
    label = processor()(photo, annotations=coco({"bbox": [12, 9, 60, 45], "category_id": 2}), size=size)["labels"][0]
    outputs = SimpleNamespace(logits=torch.tensor([[[-9.0, -9.0, 9.0]]]), pred_boxes=label["boxes"][None])
    result = processor().post_process_object_detection(outputs, 0.5, [(90, 120)], size=size)[0]
    torch.testing.assert_close(result["boxes"], torch.tensor([[12.0, 9.0, 72.0, 54.0]]))
    assert result["labels"].tolist() == [2]


# ---- non-maximum suppression


def random_boxes(count: int, seed: int, num_labels: int = 3):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 200
    boxes = torch.cat((corner, corner + torch.rand(count, 2, generator=generator) * 100), dim=1)
    scores = (torch.rand(count, generator=generator) * 50).round() / 50  # with ties
    return boxes, scores, torch.randint(num_labels, (count,), generator=generator)


def greedy_nms(boxes, scores, labels, iou_threshold):
    """As the definition reads, one box after the other, in float64."""
    boxes, kept = boxes.double(), []
    for index in scores.argsort(descending=True, stable=True).tolist():
        if all(
            labels[index] != labels[other] or box_iou(boxes[None, index], boxes[None, other]).item() <= iou_threshold
            for other in kept
        ):
            kept.append(index)
    return kept


@pytest.mark.parametrize(("count", "iou_threshold"), [*itertools.product((0, 1, 2, 150), (0.0, 0.45, 0.65, 1.0))])
@pytest.mark.parametrize("block_size", [1, 7, 512])
def test_nms_equals_its_definition(count, iou_threshold, block_size):
    boxes, scores, labels = random_boxes(count, seed=count)
    arrays = boxes.numpy(), scores.numpy(), labels.numpy()
    expected = greedy_nms(boxes, scores, labels, iou_threshold)
    assert nms(*arrays, iou_threshold=iou_threshold, block_size=block_size).tolist() == expected
    expected = greedy_nms(boxes, scores, torch.zeros_like(labels), iou_threshold)
    assert nms(*arrays[:2], iou_threshold=iou_threshold, block_size=block_size).tolist() == expected


def test_nms_equals_torchvision():
    ops = pytest.importorskip("torchvision.ops")
    for seed in range(20):
        boxes, scores, labels = random_boxes(3000, seed, num_labels=5)
        arrays = boxes.numpy(), scores.numpy(), labels.numpy()
        assert nms(*arrays[:2], iou_threshold=0.65).tolist() == ops.nms(boxes, scores, 0.65).tolist()
        # with labels, torchvision may order equal scores otherwise
        kept = nms(*arrays, iou_threshold=0.65)
        expected = ops.batched_nms(boxes.double(), scores.double(), labels, 0.65)
        assert sorted(kept.tolist()) == sorted(expected.tolist())


def test_a_suppressed_box_suppresses_nothing():
    boxes = np.array([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])  # a chain: 1 overlaps both others
    scores = np.array([0.9, 0.8, 0.7])
    assert nms(boxes, scores, iou_threshold=0.3).tolist() == [0, 2]


def test_iou_of_boxes_without_area_is_zero():
    point = torch.tensor([[5.0, 5, 5, 5]])
    assert box_iou(point, point).tolist() == [[0.0]]
    assert box_iou(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[5.0, 0, 15, 10]])).item() == pytest.approx(1 / 3)


# ---- post-processing


def outputs_for(boxes, scores, num_labels=2, dtype=torch.float32):
    """Outputs of one image: `boxes` of (label, center_x, center_y, width, height) with their scores."""
    logits = torch.full((1, len(boxes), num_labels), -20.0)
    for anchor, (box, score) in enumerate(zip(boxes, scores)):
        logits[0, anchor, box[0]] = torch.logit(torch.tensor(score))
    return SimpleNamespace(logits=logits.to(dtype), pred_boxes=torch.tensor([[box[1:] for box in boxes]]).to(dtype))


OUTPUTS = outputs_for(
    [(0, 0.5, 0.25, 0.2, 0.2), (1, 0.5, 0.25, 0.2, 0.2), (0, 0.5, 0.26, 0.2, 0.2), (1, 0.9, 0.9, 0.4, 0.4)],
    [0.6, 0.9, 0.7, 0.3],
)


def test_detections_are_sorted_and_in_photo_pixels():
    # a photo of 100 x 200 in 64 x 64: scale 0.32, so the padded input spans 200 x 200 photo pixels
    result = processor().post_process_object_detection(OUTPUTS, 0.5, [(100, 200)])[0]
    torch.testing.assert_close(result["scores"], torch.tensor([0.9, 0.7]))
    assert result["labels"].tolist() == [1, 0]
    torch.testing.assert_close(result["boxes"], torch.tensor([[80.0, 30, 120, 70], [80, 32, 120, 72]]))


def test_boxes_are_clipped_and_relative_without_target_sizes():
    result = processor().post_process_object_detection(OUTPUTS, 0.2)[0]
    torch.testing.assert_close(result["boxes"][-1], torch.tensor([0.7, 0.7, 1.0, 1.0]))


def test_boxes_in_the_padding_alone_are_left_out():
    sizes = torch.tensor([[100, 200]])
    found = processor().post_process_object_detection(OUTPUTS, 0.2, sizes)[0]
    assert found["labels"].tolist() == [1, 0] and len(found["scores"]) == len(found["boxes"]) == 2
    unclipped = processor().post_process_object_detection(OUTPUTS, 0.2, sizes, clip_boxes=False)[0]
    torch.testing.assert_close(unclipped["boxes"][-1], torch.tensor([140.0, 140, 220, 220]))  # below 100: padding


def test_a_batch_is_its_images_one_by_one():
    generator = torch.Generator().manual_seed(0)
    centers, sides = torch.rand(3, 700, 2, generator=generator), 0.3 * torch.rand(3, 700, 2, generator=generator)
    logits = torch.randn(3, 700, 4, generator=generator)
    logits[1] = -20  # an image without detections between two others
    outputs = SimpleNamespace(logits=logits, pred_boxes=torch.cat((centers, sides), dim=-1))
    sizes = [(100, 200), (50, 50), (64, 30)]
    for options in ({}, {"class_agnostic": True}, {"max_detections": 5}):
        batch = processor().post_process_object_detection(outputs, 0.4, sizes, nms_threshold=0.3, **options)
        assert len(batch[1]["scores"]) == 0 and len(batch[0]["scores"]) > 4
        for index, size in enumerate(sizes):
            single = SimpleNamespace(**{name: values[index, None] for name, values in vars(outputs).items()})
            (alone,) = processor().post_process_object_detection(single, 0.4, [size], nms_threshold=0.3, **options)
            assert all(torch.equal(batch[index][name], alone[name]) for name in alone)


def test_options_of_post_processing():
    post_process = processor().post_process_object_detection
    assert len(post_process(OUTPUTS, 0.2, nms_threshold=1.0)[0]["scores"]) == 4
    assert post_process(OUTPUTS, 0.2, class_agnostic=True)[0]["labels"].tolist() == [1, 1]
    assert len(post_process(OUTPUTS, 0.2, max_detections=1)[0]["scores"]) == 1
    wide = {"height": 32, "width": 64}
    box = post_process(OUTPUTS, 0.8, [(100, 200)], size=wide)[0]["boxes"]
    torch.testing.assert_close(box, torch.tensor([[80.0, 15, 120, 35]]))


def test_nothing_found_is_empty_tensors():
    for found in processor().post_process_object_detection(OUTPUTS, 1.0, [(100, 200)]):
        assert {key: (tuple(value.shape), value.dtype) for key, value in found.items()} == {
            "scores": ((0,), torch.float32),
            "labels": ((0,), torch.int64),
            "boxes": ((0, 4), torch.float32),
        }


def test_outputs_are_not_modified():
    logits, boxes = OUTPUTS.logits.clone(), OUTPUTS.pred_boxes.clone()
    first = processor().post_process_object_detection(OUTPUTS, 0.2, [(100, 200)])
    second = processor().post_process_object_detection(OUTPUTS, 0.2, [(100, 200)])
    assert torch.equal(OUTPUTS.logits, logits) and torch.equal(OUTPUTS.pred_boxes, boxes)
    assert torch.equal(first[0]["boxes"], second[0]["boxes"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_outputs(dtype):
    half = SimpleNamespace(logits=OUTPUTS.logits.to(dtype), pred_boxes=OUTPUTS.pred_boxes.to(dtype))
    result = processor().post_process_object_detection(half, 0.5, [(100, 200)])[0]
    assert result["scores"].dtype == result["boxes"].dtype == torch.float32
    torch.testing.assert_close(result["scores"], torch.tensor([0.9, 0.7]), atol=5e-3, rtol=0)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"threshold": 1.5}, r"`threshold` must be in \[0, 1\], got 1.5"),
        ({"threshold": float("nan")}, r"`threshold` must be in \[0, 1\], got nan"),
        ({"nms_threshold": -0.1}, r"`nms_threshold` must be in \[0, 1\], got -0.1"),
        ({"target_sizes": [(10, 10), (10, 10)]}, "got 2 for a batch of 1"),
        ({"max_detections": 0}, "`max_detections` must be at least 1 or None, got 0"),
    ],
)
def test_bad_post_processing_options_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        processor().post_process_object_detection(OUTPUTS, **kwargs)
