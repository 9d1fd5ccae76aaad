"""Cost of the training loss beside the network's forward, and its peak memory. `python benchmarks/loss.py`.

All times are medians on two CPU threads, of YOLOX-Nano at 416 x 416, batch 8. The network is backbone and neck. The
loss is the assignment and the forward of all terms (L1 included), on random boxes and logits from fixed seeds; its
gradient is recorded, as in training.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from yolox_hf import YoloxConfig, YoloxForObjectDetection
from yolox_hf.loss_yolox import STRIDES, yolox_loss
from yolox_hf.modeling_yolox import decode_boxes, flatten_maps

# The original's assignment and loss as a multiple of its backbone and neck, by boxes in an image.
ORIGINAL_RATIOS = {10: 0.15, 50: 1.67, 100: 6.8}


def loss_arguments(seed: int, batch_size: int, side: int, num_boxes: int, num_labels: int = 80) -> dict:
    """Arguments of `yolox_loss`: head outputs as a new network has them, and boxes of 5 to 50 % of the sides."""
    generator = torch.Generator().manual_seed(seed)
    map_sizes = [(side // stride, side // stride) for stride in STRIDES]

    def maps(channels: int, mean: float) -> tuple[torch.Tensor, ...]:
        return tuple(
            (torch.randn(batch_size, channels, *size, generator=generator) + mean).requires_grad_()
            for size in map_sizes
        )

    box_maps = maps(4, 0.0)
    centers = torch.rand(batch_size, num_boxes, 2, generator=generator)
    sizes = 0.05 + 0.45 * torch.rand(batch_size, num_boxes, 2, generator=generator)
    return {
        "class_logits": flatten_maps(maps(num_labels, -4.6)),
        "objectness_logits": flatten_maps(maps(1, -4.6)),
        "box_logits": flatten_maps(box_maps),
        "pred_boxes": decode_boxes(box_maps),
        "gt_boxes": torch.cat((centers, sizes), dim=-1),
        "gt_labels": torch.randint(0, num_labels, (batch_size, num_boxes), generator=generator),
        "map_sizes": map_sizes,
        "use_l1_loss": True,
    }


def median_ms(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Medians by name. The functions take turns, so that a busy machine slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 2):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn >= 2:
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def measure_time(repeats: int):
    torch.manual_seed(0)
    model = YoloxForObjectDetection(YoloxConfig.from_variant("yolox-nano")).model.train()
    pixel_values = torch.rand(8, 3, 416, 416) * 255

    @torch.no_grad()
    def strict_network():
        model(channels_last)

    def loss_of(arguments: dict) -> Callable[[], object]:
        return lambda: yolox_loss(**arguments)

    losses = {f"loss {n}": loss_of(loss_arguments(n, 8, 416, n)) for n in ORIGINAL_RATIOS}
    times = median_ms({"train": lambda: model(pixel_values), **losses}, repeats)
    channels_last = pixel_values.to(memory_format=torch.channels_last)
    model.to(memory_format=torch.channels_last)
    strict = median_ms({"strict": strict_network}, repeats)["strict"]
    print(f"backbone + neck, train mode, NCHW, gradient recorded:     {times['train']:8.1f} ms")
    print(f"backbone + neck, train mode, channels_last, no gradient:  {strict:8.1f} ms")
    print("boxes/image   loss (ms)   / NCHW   / channels_last   original")
    for n, original in ORIGINAL_RATIOS.items():
        loss = times[f"loss {n}"]
        print(f"{n:11d} {loss:11.1f} {loss / times['train']:8.3f} {loss / strict:17.3f} {original:10.2f}")


def measure_memory():
    """Peak resident memory that one loss adds, in a process of its own.

    A fresh process because `ru_maxrss` never falls: what ran before must not have reached higher. It counts whatever
    the allocator really holds at once, temporary buffers of the kernels too, which the profiler's sums do not tell.
    One small loss goes first, so that loading libraries and starting threads is not counted.
    """
    with torch.no_grad():
        yolox_loss(**loss_arguments(0, 1, 64, 2))
    arguments = loss_arguments(0, 16, 640, 300)
    # Making the arguments leaves freed buffers behind that the loss could use unseen: fill them up.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    held = []
    while resource.getrusage(resource.RUSAGE_SELF).ru_maxrss == before:
        held.append(torch.ones(1 << 20, dtype=torch.uint8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loss, terms = yolox_loss(**arguments)
    forward = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loss.backward()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    logits = sum(arguments[name].numel() for name in ("class_logits", "objectness_logits", "box_logits"))
    print(
        f"peak memory at 300 boxes an image, batch 16, 640 x 640: forward {(forward - before) / 1024:.0f} MiB, "
        f"with backward {(after - before) / 1024:.0f} MiB beyond the inputs\n"
        f"(resident memory of a fresh process; the head's outputs alone are {4 * logits / 2**20:.0f} MiB, "
        f"{int(terms['num_foreground'])} foreground anchors)"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="runs of each function after two that do not count")
    parser.add_argument("--memory-only", action="store_true", help="measure the memory, in this process")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    if arguments.memory_only:
        measure_memory()
        return
    measure_time(arguments.repeats)
    subprocess.run([sys.executable, __file__, "--memory-only"], check=True)


if __name__ == "__main__":
    main()
