# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""From photo to boxes: every form of the model, in one run, beside the model as it was before any of this work.

    python benchmarks/inference.py --checkpoint ../shared/weights/yolox_nano.pth --photo ../shared/images/dog.jpg

All times are of this machine and this run; only their ratios carry over. Forms take turns, so that what else the
machine does falls on all of them, and each has a process of its own, as with whoever uses it: in one process each
would find the memory that the others have freed. How much of it glibc gives back is decided when a process starts, by
chance, so the forms are started several times. `--json FILE` keeps the numbers, `--plots FOLDER` draws them.
"""

import argparse
import functools
import importlib
import io
import json
import multiprocessing
import platform
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import types
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import pipeline
from transformers.utils import logging

from yolox_hf import YoloxConfig, YoloxForObjectDetection, YoloxImageProcessor
from yolox_hf.conversion import convert_checkpoint
from yolox_hf.export import export_model, load_exported
from yolox_hf.image_processing_yolox import nms
from yolox_hf.optimization import keep_freed_memory, optimize_for_inference

# The last commit before the work on speed: its model, in NCHW and float32, is what everything is compared with.
BASELINE = "cf0ff629328c961d240979f7ce220454bf1df980"
SIDES = {"yolox-nano": 416, "yolox-tiny": 416, "yolox-s": 640}


# ---- measuring


Timer = Callable[[int], list[float]]


def timer(function: Callable[[], object]) -> Timer:
    """Milliseconds of so many calls of a function, after one that does not count."""

    def measure(calls: int) -> list[float]:
        times = []
        for _ in range(calls + 1):
            start = time.perf_counter()
            function()
            times.append(1000 * (time.perf_counter() - start))
        return times[1:]

    return measure


def take_turns(timers: dict[str, Timer], rounds: int, calls: int = 3) -> dict[str, list[float]]:
    """Milliseconds of each call, by name; the first round does not count."""
    times: dict[str, list[float]] = {name: [] for name in timers}
    for turn in range(rounds + 1):
        for name, measure in timers.items():
            times[name] += measure(calls)[: calls if turn else 0]
    return times


def print_table(title: str, head: tuple[str, ...], rows: list[tuple]) -> None:
    cells = [head, *([f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows)]
    print(f"\n### {title}\n")
    for index, row in enumerate(cells):
        print("| " + " | ".join(row) + " |")
        if index == 0:
            print("|" + "---|" * len(head))
    sys.stdout.flush()


# ---- the forms of a model


def baseline_module(name: str) -> Any:
    """A module of the package as it was at `BASELINE`, beside today's."""
    package = "yolox_hf_baseline"
    if package not in sys.modules:
        root = Path(__file__).parents[1]
        archive = subprocess.run(["git", "archive", BASELINE, "src/yolox_hf"], cwd=root, capture_output=True)
        if archive.returncode:
            raise OSError(f"the baseline {BASELINE[:7]} is not in this checkout's history: {archive.stderr.decode()}")
        folder = tempfile.mkdtemp(prefix=package)
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = [f"{folder}/src/yolox_hf"]
    return importlib.import_module(f"{package}.{name}")


KEPT = ", memory kept"  # what calls `keep_freed_memory`, as README does for serving


class Forms:
    """Pipelines of one variant by the name of its form, each built when it is asked for."""

    NAMES = ("before", "eager", f"eager{KEPT}", "optimized", "optimized bfloat16", "ONNX Runtime", "OpenVINO")
    EXPORTED = {"ONNX Runtime": "onnx", "OpenVINO": "openvino"}
    GIVE_BACK = ("before", "eager")  # the others keep freed memory

    def __init__(self, variant: str, folder: str, checkpoint: Path):
        self.variant, self.folder = variant, f"{folder}/{variant}"
        if Path(self.folder).is_dir():
            return
        if variant == "yolox-nano":
            convert_checkpoint(checkpoint, self.folder)
        else:
            torch.manual_seed(0)
            YoloxForObjectDetection(YoloxConfig.from_variant(variant)).save_pretrained(self.folder)
            YoloxImageProcessor.from_variant(variant).save_pretrained(self.folder)
        for name, format in self.EXPORTED.items():
            export_model(self.folder, f"{self.folder}-{name}", format=format, dynamic=False)

    def __getitem__(self, name: str):
        processor: Any = YoloxImageProcessor.from_variant(self.variant)
        if name == "before":
            model = baseline_module("modeling_yolox").YoloxForObjectDetection.from_pretrained(self.folder)
            processor = baseline_module("image_processing_yolox").YoloxImageProcessor(size=SIDES[self.variant])
        else:
            model = YoloxForObjectDetection.from_pretrained(self.folder)
        if name.startswith("optimized"):
            dtype = torch.bfloat16 if name.endswith("bfloat16") else None
            model = optimize_for_inference(model, dtype=dtype, compile="compiled" in name)
        elif name in self.EXPORTED:
            model = load_exported(f"{self.folder}-{name}")
        return pipeline("object-detection", model=model, image_processor=processor)


OTHERS = [name + kept for kept in ("", KEPT) for name in ("D-FINE nano", "RT-DETR R18", "YOLOS tiny")]


def other_detector(name: str) -> Any:
    """The pipeline of another detector of transformers, with random weights, as its published configuration says."""
    from transformers import (
        DFineConfig,
        DFineForObjectDetection,
        HGNetV2Config,
        RTDetrConfig,
        RTDetrForObjectDetection,
        RTDetrResNetConfig,
        YolosConfig,
        YolosForObjectDetection,
    )
    from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil
    from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

    d_fine_nano = DFineConfig(
        num_labels=80,
        backbone_config=HGNetV2Config(
            hidden_sizes=[128, 256, 512, 1024],
            stem_channels=[3, 16, 16],
            stage_in_channels=[16, 64, 256, 512],
            stage_mid_channels=[16, 32, 64, 128],
            stage_out_channels=[64, 256, 512, 1024],
            stage_num_blocks=[1, 1, 2, 1],
            stage_numb_of_layers=[3, 3, 3, 3],
            use_learnable_affine_block=True,
            out_indices=[3, 4],
        ),
        num_feature_levels=2,
        encoder_ffn_dim=512,
        encode_proj_layers=[1],
        d_model=128,
        encoder_hidden_dim=128,
        decoder_ffn_dim=512,
        encoder_in_channels=[512, 1024],
        decoder_n_points=[6, 6],
        decoder_in_channels=[128, 128],
        feat_strides=[16, 32],
        depth_mult=0.5,
        decoder_layers=3,
        hidden_expansion=0.34,
    )
    rt_detr_r18 = RTDetrConfig(
        num_labels=80,
        backbone_config=RTDetrResNetConfig(
            depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic", out_indices=[2, 3, 4]
        ),
        encoder_in_channels=[128, 256, 512],
        hidden_expansion=0.5,
        decoder_layers=3,
    )
    yolos_tiny = YolosConfig(
        hidden_size=192,
        num_hidden_layers=12,
        num_attention_heads=3,
        intermediate_size=768,
        image_size=[800, 1333],
        use_mid_position_embeddings=False,
    )
    model_class, config, processor_class = {
        "D-FINE nano": (DFineForObjectDetection, d_fine_nano, RTDetrImageProcessorPil),
        "RT-DETR R18": (RTDetrForObjectDetection, rt_detr_r18, RTDetrImageProcessorPil),
        "YOLOS tiny": (YolosForObjectDetection, yolos_tiny, YolosImageProcessorPil),
    }[name.removesuffix(KEPT)]
    return pipeline("object-detection", model=model_class(config).eval(), image_processor=processor_class())


# ---- a process for each


class Worker:
    """A pipeline in a process of its own.

    Args:
        options: of the command.
        folder: for models.
        variant: of YOLOX, or None for another detector.
        name: of the form or of the detector.
    """

    def __init__(self, options: argparse.Namespace, folder: str, variant: str | None, name: str):
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(1, context, initializer=_build, initargs=(options, folder, variant, name))

    def __call__(self, function: Callable, *arguments) -> Any:
        return self.pool.submit(function, *arguments).result()

    def timer(self, step: str) -> Timer:
        return functools.partial(self, _time, step)


_WORK: dict[str, Callable[[], Any]] = {}  # what the process of a worker can do


def _build(options: argparse.Namespace, folder: str, variant: str | None, name: str) -> None:
    _quiet(options)
    if name.endswith(KEPT) or (variant and name not in Forms.GIVE_BACK):
        keep_freed_memory()
    pipe = Forms(variant, folder, options.checkpoint)[name] if variant else other_detector(name)
    for _ in range(8):
        pipe(options.photo)
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # `ru_maxrss` begins with that of the parent
    peak_memory = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    prepared = pipe.preprocess(options.photo)
    output = pipe.forward(dict(prepared))
    _WORK.update(
        {
            "detect": lambda: pipe(options.photo),
            "detect in 8": lambda: pipe([options.photo] * 8, batch_size=8),
            "preprocess": lambda: pipe.preprocess(options.photo),
            "forward": lambda: pipe.forward(dict(prepared)),
            "postprocess": lambda: pipe.postprocess(output),
            "peak memory": lambda: peak_memory,
        }
    )


def _time(step: str, calls: int) -> list[float]:
    return timer(_WORK[step])(calls)


def _result(of: str) -> Any:
    return _WORK[of]()


def _quiet(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    logging.set_verbosity_error()


# ---- what is measured


def assert_same_detections(workers: dict[str, Worker]) -> None:
    """Nobody is faster by finding less. bfloat16 may differ in the score's third digit and by some pixels."""
    expected = workers["before"](_result, "detect")
    for name, worker in workers.items():
        found = worker(_result, "detect")
        tolerance = 12 if "bfloat16" in name else 1
        same = [item["label"] for item in found] == [item["label"] for item in expected] and all(
            np.allclose(list(one["box"].values()), list(other["box"].values()), rtol=0, atol=tolerance)
            for one, other in zip(found, expected)
        )
        if not same:
            raise AssertionError(f"{name} finds {found}, not {expected}")


def measure_forms(start: Callable[[str], dict[str, Worker]], starts: int, rounds: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for variant in ("yolox-nano", "yolox-s"):
        times: dict[str, dict[str, list[float]]] = {}
        for _ in range(starts):
            forms = start(variant)
            assert_same_detections(forms)
            for step, part, calls in (
                ("detect", 1, 3),
                ("detect in 8", 4, 1),
                ("preprocess", 2, 3),
                ("forward", 2, 3),
                ("postprocess", 2, 3),
            ):
                timers = {name: worker.timer(step) for name, worker in forms.items()}
                for name, values in take_turns(timers, max(rounds // part, 1), calls).items():
                    times.setdefault(name, {}).setdefault(step, []).extend(values)
            for worker in forms.values():
                worker.pool.shutdown()
        results[variant] = {
            name: {
                "p95": float(np.quantile(steps["detect"], 0.95)),
                "images_per_second_batch_8": 8000 / statistics.median(steps["detect in 8"]),
                **{step: statistics.median(values) for step, values in steps.items() if step != "detect in 8"},
            }
            for name, steps in times.items()
        }
        before = results[variant]["before"]["detect"]
        print_table(
            f"{variant} at {SIDES[variant]}, photo file to boxes through `pipeline`",
            ("form", "ms", "p95", "times faster", "preprocess", "forward", "postprocess", "images/s at batch 8"),
            [
                (
                    name,
                    row["detect"],
                    row["p95"],
                    before / row["detect"],
                    row["preprocess"],
                    row["forward"],
                    row["postprocess"],
                    row["images_per_second_batch_8"],
                )
                for name, row in results[variant].items()
            ],
        )
    return results


def measure_others(workers: dict[str, dict[str, Worker]], others: dict[str, Worker], rounds: int) -> dict[str, float]:
    """The same photo through the same pipeline."""
    timers = {name: worker.timer("detect") for name, worker in others.items()}
    for variant, forms in workers.items():
        for name, worker in forms.items():
            if name != "before":
                timers[f"{variant}, {name}"] = worker.timer("detect")
    times = {name: statistics.median(values) for name, values in take_turns(timers, rounds, calls=2).items()}
    print_table(
        "Beside other detectors of transformers, file to boxes",
        ("model", "ms", *(f"{name} takes" for name in others)),
        [(name, value, *(times[other] / value for other in others)) for name, value in times.items()],
    )
    return times


def measure_preprocessing(rounds: int) -> dict[str, Any]:
    """Letterbox to 640, beside OpenCV's resize and pad of the same array."""
    import cv2

    cv2.setNumThreads(torch.get_num_threads())
    processor = YoloxImageProcessor(size=640)
    before = baseline_module("image_processing_yolox").YoloxImageProcessor(size=640)
    results: dict[str, Any] = {}
    for height, width in ((480, 640), (1080, 1920), (2160, 3840)):
        small = np.random.RandomState(0).randint(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
        image = Image.fromarray(cv2.resize(small, (width, height)))
        array = np.asarray(image)
        scale = min(640 / height, 640 / width)
        size = (int(width * scale), int(height * scale))

        def opencv(array=array, size=size):
            resized = cv2.resize(array, size, interpolation=cv2.INTER_LINEAR)
            return cv2.copyMakeBorder(
                resized, 0, 640 - size[1], 0, 640 - size[0], cv2.BORDER_CONSTANT, value=(114,) * 3
            )

        def opencv_tensor(opencv=opencv):
            return torch.from_numpy(opencv()).permute(2, 0, 1).float()[None]

        expected = processor(array, return_tensors="pt").pixel_values
        if (expected - opencv_tensor()).abs().mean() > 0.05:
            raise AssertionError("the letterbox differs from OpenCV's")
        functions = {
            "OpenCV, uint8": opencv,
            "OpenCV, tensor": opencv_tensor,
            "OpenCV, from PIL": lambda image=image, size=size: opencv_tensor(lambda: opencv(np.asarray(image), size)),
            "processor": lambda array=array: processor(array, return_tensors="pt"),
            "processor, from PIL": lambda image=image: processor(image, return_tensors="pt"),
            "processor before": lambda array=array: before(array, return_tensors="pt"),
        }
        times = take_turns({name: timer(function) for name, function in functions.items()}, rounds)
        results[f"{width} x {height}"] = {name: statistics.median(values) for name, values in times.items()}
    names = list(next(iter(results.values())))
    print_table(
        "Letterbox to 640, ms",
        ("photo", *names, "of OpenCV, tensor", "of OpenCV, from PIL"),
        [
            (
                photo,
                *row.values(),
                row["processor"] / row["OpenCV, tensor"],
                row["processor, from PIL"] / row["OpenCV, from PIL"],
            )
            for photo, row in results.items()
        ],
    )
    return results


def measure_postprocessing(forms: dict[str, Forms], photo: str, rounds: int) -> dict[str, Any]:
    """The whole step on 8,400 x 80 scores, and the suppression alone against the number of candidates."""
    nano = forms["yolox-nano"]["eager"]
    processor = YoloxImageProcessor(size=640)
    image = Image.open(photo).convert("RGB")
    with torch.no_grad():
        outputs = nano.model(**processor(image, return_tensors="pt"))  # 8,400 anchors of a real photo
    pixel_values = processor(image, return_tensors="pt").pixel_values
    small = forms["yolox-s"]["eager"].model

    def forward():
        with torch.inference_mode():
            small(pixel_values)

    def post_process(threshold):
        return processor.post_process_object_detection(outputs, threshold, [(image.height, image.width)])

    times = take_turns(
        {
            "s forward": timer(forward),
            "at 0.01": timer(lambda: post_process(0.01)),
            "at 0.5": timer(lambda: post_process(0.5)),
        },
        rounds,
    )
    results: dict[str, Any] = {name: statistics.median(values) for name, values in times.items()}
    candidates = int((outputs.logits.amax(dim=-1).sigmoid() > 0.01).sum())
    print_table(
        f"Post-processing of 8,400 x 80 scores ({candidates} candidates at 0.01)",
        ("step", "ms", "of the forward of S"),
        [(name, value, value / results["s forward"]) for name, value in results.items()],
    )
    generator = torch.Generator().manual_seed(0)
    before = baseline_module("image_processing_yolox").nms
    rows = []
    for count in (100, 300, 1000, 3000, 8400):
        corners = torch.rand(count, 2, generator=generator) * 600
        boxes = torch.cat((corners, corners + 20 + 60 * torch.rand(count, 2, generator=generator)), dim=1)
        scores = torch.rand(count, generator=generator)
        labels = torch.randint(80, (count,), generator=generator)
        functions = {
            "80 labels": lambda boxes=boxes, scores=scores, labels=labels: nms(
                boxes.numpy(), scores.numpy(), labels.numpy(), iou_threshold=0.65
            ),
            "one label": lambda boxes=boxes, scores=scores: nms(boxes.numpy(), scores.numpy(), iou_threshold=0.65),
            "80 labels before": lambda boxes=boxes, scores=scores, labels=labels: before(
                boxes, scores, labels, iou_threshold=0.65
            ),
        }
        times = take_turns({name: timer(function) for name, function in functions.items()}, rounds)
        row = {name: statistics.median(values) for name, values in times.items()}
        rows.append((count, *row.values()))
        results[f"nms {count}"] = row
    print_table("Suppression alone, ms", ("candidates", "80 labels", "one label", "80 labels before"), rows)
    return results


def measure_growth(forms: dict[str, Forms], rounds: int) -> dict[str, Any]:
    """The forward pass of nano against the input's side and the batch."""
    before, model = forms["yolox-nano"]["before"].model, forms["yolox-nano"]["optimized"].model
    results: dict[str, Any] = {}
    for batch, side in ((1, 224), (1, 416), (1, 640), (1, 960), (1, 1280), (2, 416), (4, 416), (8, 416), (16, 416)):
        pixel_values = torch.rand(batch, 3, side, side) * 255

        def run(module, pixel_values=pixel_values):
            with torch.inference_mode():
                module(pixel_values)

        times = take_turns(
            {"before": timer(lambda: run(before)), "optimized": timer(lambda: run(model))}, rounds, calls=1
        )
        results[f"{batch} x {side}"] = {name: statistics.median(values) for name, values in times.items()}
    print_table(
        "Forward of nano, ms",
        ("batch x side", "before", "optimized", "optimized, ns a pixel"),
        [
            (
                name,
                *row.values(),
                1e6 * row["optimized"] / (int(name.split(" x ")[0]) * int(name.split(" x ")[1]) ** 2),
            )
            for name, row in results.items()
        ],
    )
    return results


def measure_training(forms: dict[str, Forms], rounds: int) -> dict[str, float]:
    """A step of nano at batch 8: forward with loss and backward, in the order given and in channels-last."""
    generator = torch.Generator().manual_seed(0)
    pixel_values = torch.rand(8, 3, 416, 416, generator=generator) * 255
    labels = [
        {
            "class_labels": torch.randint(80, (10,), generator=generator),
            "boxes": 0.3 + 0.3 * torch.rand(10, 4, generator=generator),
        }
        for _ in range(8)
    ]

    def step(model, memory_format):
        model.zero_grad()
        model(pixel_values.contiguous(memory_format=memory_format), labels=labels).loss.backward()

    before = forms["yolox-nano"]["before"].model.train()
    model = forms["yolox-nano"]["eager"].model.train()
    times = take_turns(
        {
            "before, NCHW": timer(lambda: step(before, torch.contiguous_format)),
            "NCHW": timer(lambda: step(model, torch.contiguous_format)),
            "channels-last, as `YoloxTrainer` does": timer(lambda: step(model, torch.channels_last)),
        },
        max(rounds // 4, 1),
        calls=1,
    )
    results = {name: statistics.median(values) for name, values in times.items()}
    print_table(
        "Training step of nano, 416, batch 8 (an epoch is so many of them; see 'The whole training loop')",
        ("step", "ms", "times faster"),
        [(name, value, results["before, NCHW"] / value) for name, value in results.items()],
    )
    return results


def measure_memory(workers: dict[str, dict[str, Worker]]) -> dict[str, float]:
    """Peak resident memory of the process of each form when it has built it and detected in the photo eight times."""
    results = {
        f"{variant}, {name}": worker(_result, "peak memory")
        for variant, forms in workers.items()
        for name, worker in forms.items()
    }
    print_table("Peak memory of a process, MiB", ("form", "MiB"), [(n, f"{v:.0f}") for n, v in results.items()])
    return results


def draw(results: dict[str, Any], folder: Path) -> None:
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 3.2))
    for axis, (variant, rows) in zip(axes, results["forms"].items()):
        left = np.zeros(len(rows))
        for step, colour in (("preprocess", "#9ecae1"), ("forward", "#3182bd"), ("postprocess", "#fd8d3c")):
            values = np.array([row[step] for row in rows.values()])
            axis.barh(list(rows), values, left=left, color=colour, label=step)
            left += values
        axis.invert_yaxis()
        axis.set(title=f"{variant} at {SIDES[variant]}, batch 1", xlabel="ms, photo file to boxes")
    axes[0].legend(frameon=False, loc="lower right")
    figure.tight_layout()
    figure.savefig(folder / "inference_forms.png", dpi=110)
    times = dict(sorted(results["others"].items(), key=lambda item: item[1]))
    figure, axis = pyplot.subplots(figsize=(8, 0.3 * len(times) + 1))
    colours = ["#3182bd" if "yolox" in name else "#bbbbbb" for name in times]
    axis.bar_label(axis.barh(list(times), list(times.values()), color=colours), fmt=" %.0f")
    axis.invert_yaxis()
    axis.set(xlabel="ms, photo file to boxes")
    axis.margins(x=0.08, y=0.01)
    figure.tight_layout()
    figure.savefig(folder / "inference_others.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the original's yolox_nano.pth")
    parser.add_argument("--photo", required=True)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--starts", type=int, default=5, help="times that the forms are started")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too (minutes to compile)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plots", type=Path)
    options = parser.parse_args()
    _quiet(options)
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    names = [*Forms.NAMES, *["optimized compiled"] * options.compile]
    with tempfile.TemporaryDirectory() as folder:
        forms = {variant: Forms(variant, folder, options.checkpoint) for variant in SIDES}

        def start(variant: str) -> dict[str, Worker]:
            return {name: Worker(options, folder, variant, name) for name in names}

        times = measure_forms(start, options.starts, options.rounds)
        workers = {variant: start(variant) for variant in SIDES}
        others = {name: Worker(options, folder, None, name) for name in OTHERS}
        results = {
            "forms": times,
            "others": measure_others(workers, others, max(options.rounds // 2, 1)),
            "memory": measure_memory(workers),
            "preprocessing": measure_preprocessing(options.rounds),
            "postprocessing": measure_postprocessing(forms, options.photo, options.rounds),
            "growth": measure_growth(forms, max(options.rounds // 3, 1)),
            "training": measure_training(forms, options.rounds),
        }
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    if options.plots:
        draw(results, options.plots)


if __name__ == "__main__":
    main()
