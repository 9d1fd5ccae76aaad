# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Model cards, all from `card_template.md`.

    python -m yolox_hf.cards model_cards

writes those of the variants and of the demo model.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .configuration_yolox import VARIANTS, YoloxConfig
from .counting import count_flops
from .image_processing_yolox import YoloxImageProcessor
from .modeling_yolox import YoloxForObjectDetection

TEMPLATE = Path(__file__).with_name("card_template.md")
DEMO_MODEL = Path(__file__).with_name("demo")  # trained as its card says
ORIGINAL_URL = "https://github.com/Megvii-BaseDetection/YOLOX"

# COCO AP of the official weights, as the original's README publishes it, and the set it was measured on.
PUBLISHED_AP = {
    "yolox-nano": (25.8, "val2017"),
    "yolox-tiny": (32.8, "val2017"),
    "yolox-s": (40.5, "test-dev"),
    "yolox-m": (47.2, "test-dev"),
    "yolox-l": (50.1, "test-dev"),
    "yolox-x": (51.5, "test-dev"),
    "yolox-darknet53": (48.0, "test-dev"),
}

_VERIFIED = (
    "What we verified: with the same weights and input, the raw outputs equal numbers recorded from the original code "
    "within 0.0001, as do the letterboxed inputs within one level. The published AP itself was not measured again."
)
_VERIFIED_NANO = (
    " For these weights we measured AP 30.6 on 80 images of val2017, where the original's code gives 30.5 "
    "(ours clips boxes to the photo)."
)


def variant_card(variant: str) -> ModelCard:
    """The card of a variant with the official COCO weights."""
    ap, split = PUBLISHED_AP[variant]
    result = EvalResult(
        task_type="object-detection",
        dataset_type="coco",
        dataset_name="COCO 2017",
        dataset_split=split,
        metric_type="mean_average_precision",
        metric_name="AP",
        metric_value=ap,
        source_name="Megvii-BaseDetection/YOLOX",
        source_url=ORIGINAL_URL,
    )
    backbone = "Darknet-53 with a YOLOv3 FPN" if variant == "yolox-darknet53" else "CSPDarknet with a PAFPN"
    return _card(
        variant,
        YoloxConfig.from_variant(variant),
        YoloxImageProcessor.from_variant(variant),
        data={"datasets": "detection-datasets/coco", "metrics": ["mean_average_precision"], "eval_results": [result]},
        summary=f"YOLOX ([Ge et al. 2021](https://arxiv.org/abs/2107.08430)), an anchor-free convolutional detector, "
        f"with the original's COCO weights: {backbone}, decoupled head, three strides.",
        how_to_get=f", and the model in the folder `{variant}` (`yolox-hf detect` with `--model {variant}` fetches "
        f"and converts the official weights, and `yolox-hf convert CHECKPOINT {variant}` converts a file you have)",
        accuracy=f"COCO AP {ap} on {split}, [as the original publishes it]({ORIGINAL_URL}).\n\n{_VERIFIED}"
        + _VERIFIED_NANO * (variant == "yolox-nano"),
        training="By the original's authors, from scratch on COCO train2017: 300 epochs, SGD with Nesterov momentum, "
        "quadratic warm-up and cosine schedule, mosaic (from S on with mixup) except in the last 15 epochs.",
        limits="It knows COCO's 80 classes, photographed mostly in rich countries and from a person's point of view; "
        "other places, viewpoints and objects are found less well.",
        license_text="Code and weights: Apache-2.0. The weights are the original's, converted.",
    )


def demo_card() -> ModelCard:
    """The card of the model that comes with the package."""
    facts = json.loads((DEMO_MODEL / "training.json").read_text(encoding="utf-8"))
    result = EvalResult(
        task_type="object-detection",
        dataset_type="yolox-hf-scenes",
        dataset_name=f"{facts['held_out_images']} rendered scenes, seed {facts['held_out_seed']}",
        metric_type="mean_average_precision",
        metric_name="AP",
        metric_value=round(100 * facts["ap"], 1),
    )
    commands = "\n".join(facts["commands"])
    return _card(
        "yolox-demo",
        YoloxConfig.from_pretrained(DEMO_MODEL),
        YoloxImageProcessor.from_pretrained(DEMO_MODEL),
        data={"metrics": ["mean_average_precision"], "eval_results": [result]},
        summary="YOLOX-Nano for rendered scenes of nine simple shapes: the small model that comes with the package, "
        "so that `yolox-hf demo` shows real detections without a network.",
        carries_code=False,
        how_to_get=", and the model in the folder `yolox-demo` (it lies in the package, in `yolox_hf/demo`)",
        accuracy=f"AP {facts['ap']:.3f}, AP50 {facts['ap50']:.3f} on {facts['held_out_images']} scenes of seed "
        f"{facts['held_out_seed']}, none of which it was trained on or chosen by.",
        training=f"From scratch, {facts['steps']} steps of 8 scenes, in {facts['minutes']} minutes on one CPU core. "
        f"To train and evaluate it again:\n\n```bash\n{commands}\n```",
        limits="It knows drawn shapes and nothing else; in photos it finds nothing of use.",
        license_text="Code and weights: Apache-2.0. It was trained on pictures that the package renders.",
    )


def folder_card(folder: str | Path, repo_id: str) -> ModelCard:
    """The card of a converted or fine-tuned model folder in the repository `repo_id`, as far as the folder tells."""
    folder = Path(folder)
    provenance = folder / "conversion.json"
    origin = json.loads(provenance.read_text(encoding="utf-8")) if provenance.is_file() else None
    config = YoloxConfig.from_pretrained(folder)
    names = [label for _, label in sorted((config.id2label or {}).items())]
    labels, more = ", ".join(names[:20]), f" and {len(names) - 20} more" if len(names) > 20 else ""
    return _card(
        repo_id.split("/")[1],
        config,
        YoloxImageProcessor.from_pretrained(folder),
        model=repo_id,
        license=None,  # of the weights, which nothing in the folder tells
        carries_code=(folder / "modeling_yolox.py").is_file(),
        data={},
        summary=f"A YOLOX detector ([Ge et al. 2021](https://arxiv.org/abs/2107.08430)) for {labels}{more}.",
        how_to_get="",
        accuracy="Not stated.",
        training="Not stated."
        if origin is None
        else f"Converted from `{origin['source']}` (SHA-256 `{origin['sha256']}`).",
        limits="It knows what its training data shows.",
        license_text="Code: Apache-2.0.",
    )


def _card(
    name: str,
    config: YoloxConfig,
    processor: YoloxImageProcessor,
    data: dict[str, Any],
    *,
    model: str | None = None,
    license: str | None = "apache-2.0",
    carries_code: bool = True,
    **texts: str,
) -> ModelCard:
    """`model` is what a reader gives to `from_pretrained`: the folder `name`, or a repository."""
    height, width = processor.size["height"], processor.size["width"]
    with torch.device("meta"):
        parameters = YoloxForObjectDetection(config).num_parameters()
    card_data = ModelCardData(
        model_name=name,
        license=license,
        library_name="transformers",
        pipeline_tag="object-detection",
        tags=["yolox", "object-detection"],
        **data,
    )
    return ModelCard.from_template(
        card_data,
        template_path=str(TEMPLATE),
        name=name,
        model=model or name,
        parameters=f"{parameters:,}",
        gflops=f"{count_flops(config, (height, width)) / 1e9:.2f}",
        height=height,
        width=width,
        num_labels=config.num_labels,
        carries_code=carries_code,
        pad_value=processor.pad_value,
        levels="scaled to 0..1 and normalized with ImageNet's mean and deviation"
        if processor.do_normalize
        else "levels 0..255 without normalization",
        **texts,
    )


def all_cards() -> dict[str, ModelCard]:
    """Every card of `model_cards/` by its name."""
    return {**{variant: variant_card(variant) for variant in VARIANTS}, "yolox-demo": demo_card()}


if __name__ == "__main__":
    for card_name, model_card in all_cards().items():
        model_card.save(Path(sys.argv[1]) / f"{card_name}.md")
