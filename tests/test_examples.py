"""The examples, run small."""

import json
import runpy
from pathlib import Path

from conftest import small_config
from PIL import Image, ImageDraw

from yolox_hf import YoloxForObjectDetection, YoloxImageProcessor

EXAMPLES = Path(__file__).parents[1] / "examples"


def coco_folder(root: Path) -> Path:
    """Two splits of three images of 64 x 64, each with a white square; the categories have gaps."""
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (root / split).mkdir()
        content: dict = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 3, "name": "square"}, {"id": 7, "name": "no"}],
        }
        for index in range(3):
            image = Image.new("RGB", (64, 64))
            ImageDraw.Draw(image).rectangle((10 * index, 20, 10 * index + 19, 39), "white")
            image.save(root / split / f"{index}.png")
            content["images"].append({"id": index, "file_name": f"{index}.png", "width": 64, "height": 64})
            content["annotations"].append(
                {"id": index, "image_id": index, "category_id": 3, "bbox": [10 * index, 20, 20, 20], "area": 400}
            )
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def test_fine_tune(tmp_path, capsys):
    model, output = tmp_path / "model", tmp_path / "tuned"
    YoloxForObjectDetection(small_config(num_labels=5)).save_pretrained(model)
    YoloxImageProcessor(size=64).save_pretrained(model)
    arguments = ["--data", coco_folder(tmp_path / "data"), "--model", model, "--output-dir", output]
    arguments += ["--epochs", 1, "--batch-size", 2]
    runpy.run_path(str(EXAMPLES / "fine_tune.py"))["main"]([str(argument) for argument in arguments])
    assert "eval_map_50" in capsys.readouterr().out
    tuned = YoloxForObjectDetection.from_pretrained(output)
    assert tuned.config.id2label == {0: "square", 1: "no"}
    assert (output / "preprocessor_config.json").is_file() and (output / "modeling_yolox.py").is_file()
