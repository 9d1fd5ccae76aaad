import colorsys
import dataclasses

import pytest
import torch

from yolox_hf.augmentation import PRESETS, AugmentationConfig, Batch, BatchAugmentation


def rendered(boxes, height=128, width=160, background=0.0) -> Batch:
    """Images with one filled rectangle each: its level is 100 + 40 times its class."""
    pixel_values = torch.full((len(boxes), 3, height, width), background)
    targets = torch.zeros(len(boxes), 1, 4)
    labels = torch.zeros(len(boxes), 1, dtype=torch.int64)
    for index, (label, left, top, right, bottom) in enumerate(boxes):
        pixel_values[index, :, top:bottom, left:right] = 100.0 + 40 * label
        targets[index, 0] = torch.tensor(
            [(left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height]
        )
        labels[index, 0] = label
    return Batch(pixel_values, targets, labels)


BOXES = [(0, 20, 30, 70, 60), (1, 100, 10, 150, 110), (2, 40, 70, 90, 100), (3, 5, 5, 60, 120)]
GEOMETRIES = {
    "flip": AugmentationConfig(flip_probability=1.0),
    "scale": AugmentationConfig(scale=(0.5, 1.6)),
    "translate": AugmentationConfig(translate=0.2),
    "rotate": AugmentationConfig(degrees=30.0),
    "shear": AugmentationConfig(shear=15.0),
    "sides": AugmentationConfig(sides=(96, 192), translate=0.1),
    "mosaic": AugmentationConfig(mosaic_probability=1.0),
    "all": AugmentationConfig(
        mosaic_probability=0.5, scale=(0.4, 0.8), translate=0.1, degrees=10.0, shear=3.0, sides=(128, 160)
    ),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_boxes_move_with_their_pixels(name):
    """Draw rectangles, transform images and boxes, and find the rectangles again in the pixels."""
    config = dataclasses.replace(GEOMETRIES[name], min_visible=0.0, min_side=0.0)
    augmentation, found = BatchAugmentation(config, seed=1), 0
    for _ in range(12):
        result = augmentation(rendered(BOXES))
        _, _, height, width = result.pixel_values.shape
        for image, boxes, labels in zip(result.pixel_values, result.boxes, result.class_labels):
            for label in range(4):
                of_class = boxes[labels == label]
                level = 100.0 + 40 * label
                rows, columns = ((image[0] - level).abs() < 1).nonzero(as_tuple=True)
                # Mosaics may show an image twice, and edges are blends of levels: only clear cases are compared.
                if len(of_class) != 1 or len(rows) < 60 or not connected(rows, columns):
                    continue
                expected = of_class[0] * torch.tensor([width, height, width, height])
                left, top = expected[:2] - expected[2:] / 2
                right, bottom = expected[:2] + expected[2:] / 2
                drawn = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()
                # The hull of a turned box is cut where the image ends, and is looser there than what is left of it.
                inside = left > 0.5 and top > 0.5 and right < width - 0.5 and bottom < height - 0.5
                if config.degrees and config.shear and not inside:
                    continue
                assert (drawn - torch.stack((left, top, right, bottom))).abs().max() < 2.5, (name, label)
                found += 1
    assert found >= 10


def connected(rows, columns) -> bool:
    """Whether the pixels fill every row and column between their first and last."""
    return (
        len(rows.unique()) == rows.max() - rows.min() + 1
        and len(columns.unique()) == columns.max() - columns.min() + 1
    )


def test_a_mosaic_shows_four_images_and_their_boxes():
    config = AugmentationConfig(
        flip_probability=0.0, mosaic_probability=1.0, mosaic_center=(0.5, 0.5), scale=(0.5, 0.5)
    )
    batch = rendered([(label, 20, 20, 140, 108) for label in range(4)])
    result = BatchAugmentation(config, seed=0)(batch)
    assert (result.class_labels >= 0).sum(dim=1).tolist() == [4, 4, 4, 4]
    quarters = result.boxes[0, :4, :2] > 0.5
    assert len({tuple(quarter) for quarter in quarters.tolist()}) == 4
    for box, label in zip(result.boxes[0], result.class_labels[0]):
        x, y = (box[:2] * torch.tensor([160, 128])).long()
        assert result.pixel_values[0, 0, y, x] == 100 + 40 * label


def test_what_leaves_the_image_is_padding_and_its_boxes_go():
    config = AugmentationConfig(flip_probability=0.0, scale=(0.5, 0.5))
    result = BatchAugmentation(config)(rendered(BOXES))
    assert (result.pixel_values[:, :, :20] == 114).all()
    far = AugmentationConfig(flip_probability=0.0, scale=(8.0, 8.0))  # only the middle of the image is left
    result = BatchAugmentation(far)(rendered([(0, 0, 0, 20, 20)]))
    assert result.class_labels.shape == (1, 0) and result.boxes.shape == (1, 0, 4)


def test_mixup_is_the_mean_with_the_boxes_of_both():
    config = AugmentationConfig(flip_probability=0.0, mixup_probability=1.0)
    batch = rendered(BOXES)
    result = BatchAugmentation(config, seed=3)(batch)
    assert result.boxes.shape[1] == 2
    partners = result.class_labels[:, 1]
    torch.testing.assert_close(
        result.pixel_values, (batch.pixel_values + batch.pixel_values[partners]) / 2, atol=1e-2, rtol=0
    )
    torch.testing.assert_close(result.boxes[:, 1], batch.boxes[partners, 0])


def test_saturation_and_value_are_those_of_hsv():
    batch = rendered([(0, 0, 0, 1, 1)])._replace(pixel_values=torch.rand(1, 3, 32, 32) * 200)
    config = AugmentationConfig(flip_probability=0.0, saturation=0.3, value=0.2)
    result = BatchAugmentation(config, seed=5)(batch).pixel_values
    ratios = []
    for before, after in zip(batch.pixel_values[0].flatten(1).T[:50], result[0].flatten(1).T[:50]):
        h, s, v = colorsys.rgb_to_hsv(*(before / 255).tolist())
        new_h, new_s, new_v = colorsys.rgb_to_hsv(*(after / 255).tolist())
        if new_s < 0.999 and new_v < 0.999:  # not cut off at the end of the range
            assert new_h == pytest.approx(h, abs=1e-3)
            ratios.append((new_s / s, new_v / v))
    assert len(ratios) > 20
    assert all(abs(ratio - 1) > 0.01 for ratio in ratios[0])
    assert all(ratio == pytest.approx(ratios[0], rel=1e-3) for ratio in ratios)


def test_hue_turns_and_grey_stays_grey():
    batch = rendered([(0, 0, 0, 1, 1)])._replace(pixel_values=torch.full((1, 3, 32, 32), 80.0))
    config = AugmentationConfig(flip_probability=0.0, hue=10.0)
    torch.testing.assert_close(BatchAugmentation(config, seed=1)(batch).pixel_values, batch.pixel_values)
    red = batch.pixel_values * torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    assert (BatchAugmentation(config, seed=1)(batch._replace(pixel_values=red)).pixel_values[:, 1:].amax()) > 0


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_deterministic_and_keep_the_contract(preset):
    batch = rendered(BOXES)
    before = [values.clone() for values in batch]
    first, second = BatchAugmentation(preset, seed=4), BatchAugmentation(preset, seed=4)
    for _ in range(3):
        one, other = first(batch), second(batch)
        assert all(torch.equal(a, b) for a, b in zip(one, other))
        assert one.pixel_values.shape[0] == 4 and all(side % 32 == 0 for side in one.pixel_values.shape[2:])
        assert one.pixel_values.min() >= 0 and one.pixel_values.max() <= 255
        low, high = one.boxes[..., :2] - one.boxes[..., 2:] / 2, one.boxes[..., :2] + one.boxes[..., 2:] / 2
        real = one.class_labels >= 0
        assert low[real].min() >= -1e-5 and high[real].max() <= 1 + 1e-5
    assert all(torch.equal(a, b) for a, b in zip(batch, before))
    if preset != "none":  # several seeds: two may flip the same images
        others = [BatchAugmentation(preset, seed=seed)(batch).pixel_values for seed in range(5, 11)]
        assert any(not torch.equal(other, others[0]) for other in others[1:])


def test_none_changes_nothing():
    batch = rendered(BOXES)
    result = BatchAugmentation("none")(batch)
    torch.testing.assert_close(result.pixel_values, batch.pixel_values, atol=1e-2, rtol=0)
    torch.testing.assert_close(result.boxes, batch.boxes)


def test_images_without_objects():
    batch = Batch(torch.rand(3, 3, 64, 64) * 255, torch.zeros(3, 0, 4), torch.zeros(3, 0, dtype=torch.int64))
    for preset in PRESETS:
        assert BatchAugmentation(preset)(batch).boxes.shape == (3, 0, 4)


def test_bad_options_are_named():
    for fields, message in (
        ({"mosaic_probability": 1.5}, "`mosaic_probability` must be in"),
        ({"scale": (0.0, 1.0)}, "`scale` must be a range of positive numbers"),
        ({"sides": (100,)}, "`sides` must be positive multiples of 32"),
    ):
        with pytest.raises(ValueError, match=message):
            AugmentationConfig(**fields)
    with pytest.raises(ValueError, match="`config` must be one of none, flip, fine-tuning"):
        BatchAugmentation("strong")
