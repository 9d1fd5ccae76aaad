# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Convert a YOLOX checkpoint to a folder for transformers and the Hub, or such a folder back to the original's layout.

python conversion/convert_yolox_to_hf.py --checkpoint yolox_s.pth --output-dir yolox-s
python conversion/convert_yolox_to_hf.py --variant yolox-s --output-dir yolox-s      # downloads the official file
python conversion/convert_yolox_to_hf.py --to-original yolox-s yolox_s.pth
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from yolox_hf.configuration_yolox import VARIANTS
from yolox_hf.conversion import PREPROCESSING, convert_checkpoint, download_official, export_original
from yolox_hf.hub import push_to_hub


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint", type=Path, help="a .pth, .pt or .onnx file; without it --variant is downloaded"
    )
    parser.add_argument("--output-dir", type=Path, help="folder to write")
    parser.add_argument("--variant", help=f"one of {', '.join(VARIANTS)}; found from the checkpoint if left out")
    parser.add_argument(
        "--labels", type=Path, help="file with one class name on each line (default: the checkpoint's, or COCO's 80)"
    )
    parser.add_argument("--image-size", type=int, nargs=2, metavar=("H", "W"), help="size of the padded input")
    parser.add_argument(
        "--preprocessing", default="bgr255", help=f"how the training images looked: {', '.join(PREPROCESSING)}"
    )
    parser.add_argument("--push-to-hub", metavar="REPO", help="upload the folder to this Hub repository")
    parser.add_argument(
        "--to-original",
        type=Path,
        nargs=2,
        metavar=("FOLDER", "FILE"),
        help="write a model folder as an original .pth",
    )
    parsed = parser.parse_args(arguments)
    if parsed.to_original is None:
        if parsed.checkpoint is None and parsed.variant is None:
            parser.error("give --checkpoint FILE, or --variant NAME to download the official one")
        if parsed.output_dir is None:
            parser.error("give --output-dir FOLDER")
    return parsed


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        if options.to_original:
            export_original(*options.to_original)
            print(f"Written to {options.to_original[1]}")
            return 0
        with tempfile.TemporaryDirectory() as downloads:
            checkpoint, source = options.checkpoint, None
            if checkpoint is None:
                checkpoint, source = download_official(options.variant, downloads)
            model, processor = convert_checkpoint(
                checkpoint,
                options.output_dir,
                variant=options.variant,
                labels=options.labels,
                image_size=tuple(options.image_size) if options.image_size else None,
                preprocessing=options.preprocessing,
                source=source,
            )
        provenance = json.loads((options.output_dir / "conversion.json").read_text(encoding="utf-8"))
        print(f"{provenance['variant']} from {provenance['source']}")
        print(f"  SHA-256     {provenance['sha256']}")
        print(f"  parameters  {model.num_parameters():,}")
        print(f"  classes     {model.config.num_labels}")
        height, width = processor.size["height"], processor.size["width"]
        print(f"  input       {height} x {width}, {provenance['preprocessing']} checkpoint")
        print(f"Written to {options.output_dir}")
        if options.push_to_hub:
            print(f"Uploaded: {push_to_hub(options.output_dir, options.push_to_hub, dry_run=False).url}")
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
