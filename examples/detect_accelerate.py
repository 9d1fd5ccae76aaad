# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Detect in many images with several processes or GPUs of one machine, each with its share of the images.

    accelerate launch --num_processes 2 examples/detect_accelerate.py ../shared/images --model yolox-nano
    torchrun --nproc_per_node 2 examples/detect_accelerate.py ../shared/images --model yolox-nano --cpu

The first gives each process a GPU of its own. The second is for processors, for which `accelerate launch` starts only
one process, whatever it is told. The boxes are those of one process.
"""

import argparse
import json
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object

from yolox_hf.detection import Detector, describe
from yolox_hf.images import list_images


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="photos, folders, videos or URLs")
    parser.add_argument("--model", required=True)
    parser.add_argument("--output", default="detections.json")
    parser.add_argument("--threshold", type=float, default=0.25)
    parser.add_argument("--nms-threshold", type=float, default=0.45)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args(arguments)

    state = PartialState(cpu=options.cpu)
    with state.local_main_process_first():  # one downloads and converts an official model, the others find it
        thresholds = {"threshold": options.threshold, "nms_threshold": options.nms_threshold}
        detector = Detector(options.model, device=str(state.device), **thresholds)
    entries = []
    with state.split_between_processes(list_images(options.sources)) as names:
        for name, image, result in detector.stream(names, options.batch_size):
            if image is None:
                entries.append({"image": name, "error": str(result)})
            else:
                found = describe(result, detector.model.config.id2label)
                entries.append({"image": name, "width": image.width, "height": image.height, "detections": found})
    entries = gather_object(entries)  # by process, and so in the order of the sources
    if state.is_main_process:
        Path(options.output).write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
        print(f"{len(entries)} images, {state.num_processes} processes: {options.output}")
    state.destroy_process_group()


if __name__ == "__main__":
    main()
