# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Peak memory of `yolox-hf detect` over 1,000 images. `python benchmarks/detect_memory.py --model yolox-nano`.

The images are those of a folder, again and again. The command runs in a process of its own; its peak resident memory
is read when it has printed so many images. Linux only.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from yolox_hf.images import list_images

COMMAND = "import sys; from yolox_hf.cli import main; sys.exit(main())"
MARKS = (100, 500, 1000)


def peaks(*arguments: str) -> list[int]:
    """Peak resident memory of `yolox-hf` with these arguments, in MB, at each of `MARKS` lines of its output."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], stdout=subprocess.PIPE, env=environment)
    found = []
    for number, _ in enumerate(process.stdout, start=1):
        if number in MARKS:
            status = Path(f"/proc/{process.pid}/status").read_text()
            found.append(int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) // 1024)
    if process.wait():
        raise SystemExit(process.returncode)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", default="../shared/data/coco_tiny_val")
    options, rest = parser.parse_known_args()
    images = list_images(options.images)
    print(f"{'peak MB after images':28}", *(f"{mark:6}" for mark in MARKS))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "images").mkdir()
        for index in range(max(MARKS)):
            source = Path(images[index % len(images)]).resolve()
            (Path(folder) / "images" / f"{index:04}{source.suffix}").symlink_to(source)
        for name in ("--no-pictures", "--pictures"):
            arguments = ("detect", f"{folder}/images", "--model", options.model, "--output-dir", f"{folder}/out")
            print(f"{name:28}", *(f"{peak:6}" for peak in peaks(*arguments, "--json", name, *rest)), flush=True)


if __name__ == "__main__":
    main()
