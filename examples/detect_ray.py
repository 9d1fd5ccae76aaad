# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Detect in many images with Ray Data (`pip install "ray[data]"`), on one machine or many.

    python examples/detect_ray.py ../shared/images --model yolox-nano --actors 2

Ray starts on this machine, or joins the cluster at RAY_ADDRESS; its machines must then see the model and the images
under the same paths. The boxes are those of one process.
"""

import argparse
import json
from pathlib import Path

import ray

from yolox_hf.detection import Detector, describe
from yolox_hf.images import list_images


class DetectBatch:
    """What each actor holds: a detector, for batches of image names."""

    def __init__(self, model: str, **options):
        self.detector = Detector(model, **options)

    def __call__(self, batch: dict) -> dict:
        entries = []
        for name, image, result in self.detector.stream(batch["image"], len(batch["image"])):
            if image is None:
                entries.append({"image": name, "error": str(result)})
            else:
                found = describe(result, self.detector.model.config.id2label)
                entries.append({"image": name, "width": image.width, "height": image.height, "detections": found})
        return {"entry": [json.dumps(entry) for entry in entries]}  # images differ in what a table would need


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="photos, folders, videos or URLs")
    parser.add_argument("--model", required=True)
    parser.add_argument("--output", default="detections.json")
    parser.add_argument("--threshold", type=float, default=0.25)
    parser.add_argument("--nms-threshold", type=float, default=0.45)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--actors", type=int, default=1, help="processes that detect")
    parser.add_argument("--gpus", type=float, default=0, help="of each actor")
    options = parser.parse_args(arguments)

    ray.data.DataContext.get_current().execution_options.preserve_order = True
    # Paths are resolved here: the actors work in folders of their own.
    names = [name if "://" in name else str(Path(name).resolve()) for name in list_images(options.sources)]
    entries = ray.data.from_items([{"image": name} for name in names]).map_batches(
        DetectBatch,
        fn_constructor_args=[options.model],
        fn_constructor_kwargs={"threshold": options.threshold, "nms_threshold": options.nms_threshold},
        batch_size=options.batch_size,
        compute=ray.data.ActorPoolStrategy(size=options.actors),
        num_gpus=options.gpus,
    )
    lines = [row["entry"] for row in entries.iter_rows()]
    Path(options.output).write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    print(f"{len(lines)} images: {options.output}")


if __name__ == "__main__":
    main()
