import torch
from PIL import Image

from yolox_hf.visualization import class_color, draw_boxes, save_batch_preview


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
