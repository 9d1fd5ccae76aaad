import torch
from conftest import images
from PIL import Image

from yolox_hf.visualization import class_color, draw_boxes, save_assignment_preview, save_batch_preview


def test_colors_are_stable_and_apart():
    colors = [class_color(label) for label in range(20)]
    assert colors == [class_color(label) for label in range(20)]
    assert len(set(colors)) == 20


def test_boxes_are_drawn_on_a_copy():
    image = Image.new("RGB", (200, 100), "black")
    drawn = draw_boxes(image, [(50, 40, 150, 90)], [3], ["cat"])
    assert image.getbbox() is None
    assert drawn.getpixel((150, 90)) == class_color(3)
    assert drawn.getpixel((140, 80)) == (0, 0, 0)
    # captions stay inside the image
    draw_boxes(image, [(190, 0, 199, 5), (5, 5, 2, 2)], [0, 1], ["a very long caption" * 5, ""])


def test_batch_preview(tmp_path):
    batch = {
        "pixel_values": torch.zeros(5, 3, 64, 96),
        "labels": [
            {"class_labels": torch.tensor([1, -1]), "boxes": torch.tensor([[0.5, 0.5, 0.5, 0.5], [0, 0, 0, 0]])}
            for _ in range(5)
        ],
    }
    save_batch_preview(tmp_path / "batch.png", batch, {1: "cat"}, columns=3)
    sheet = Image.open(tmp_path / "batch.png")
    assert sheet.size == (3 * 96, 2 * 64)
    for index in range(5):
        assert sheet.getpixel((index % 3 * 96 + 72, index // 3 * 64 + 47)) == class_color(1)
    assert sheet.crop((2 * 96, 64, 3 * 96, 128)).getbbox() is None


def test_assignment_preview(small_model, tmp_path):
    labels = [
        {"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.5, 0.5]])},
        {"class_labels": torch.zeros(0, dtype=torch.long), "boxes": torch.zeros(0, 4)},
    ]
    small_model.train()
    save_assignment_preview(tmp_path / "assignment.png", small_model, images(0, 2, 64, 96) * 0, labels)
    assert small_model.training
    sheet = Image.open(tmp_path / "assignment.png").convert("RGB")
    assert sheet.size == (2 * 96, 64)
    # A dot on the centre of some anchor near the object's middle, (48, 32), and none on those far from it.
    near = [
        (x, y)
        for stride in (8, 16, 32)
        for x in (48 - stride // 2, 48 + stride // 2)
        for y in (28, 36, 24, 40, 16, 48)
    ]
    assert class_color(0) in {sheet.getpixel(center) for center in [*near, (48, 16), (48, 48)]}
    assert class_color(0) not in {sheet.getpixel((x, y)) for x in (4, 92) for y in (60, 52)}
    assert sheet.crop((96, 0, 192, 64)).getbbox() is None  # nothing is drawn where no object is
