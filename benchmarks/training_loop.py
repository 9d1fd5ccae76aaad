# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""The whole training loop beside a bare forward and backward over the same batches, as one ratio.

    python benchmarks/training_loop.py --data ../shared/data/bccd --checkpoint ../shared/weights/yolox_nano.pth

The loop is `YoloxTrainer`'s: reading and decoding, resizing, augmentation, loss, optimizer, averaged weights. The bare
step is a channels-last forward with labels and its backward, nothing else. Rounds of both take turns, and both keep
the memory that they free (`keep_freed_memory`), as `yolox-hf train` does, or with `--give-back` neither does.
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import torch
from datasets import Image
from transformers import TrainerCallback, TrainingArguments

from yolox_hf import YoloxForObjectDetection, YoloxImageProcessor
from yolox_hf.conversion import convert_checkpoint
from yolox_hf.data import load_detection_data
from yolox_hf.optimization import keep_freed_memory
from yolox_hf.training import YoloxDataCollator, YoloxTrainer, augment_inputs


class Clock(TrainerCallback):
    """Times at the end of each step."""

    def __init__(self):
        self.times: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):
        self.times.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--workers", type=int, default=0, help="processes that load data")
    parser.add_argument("--give-back", action="store_true", help="give freed memory back to the system, as by default")
    options = parser.parse_args()
    if not options.give_back:
        keep_freed_memory()
    data = load_detection_data(options.data, check_images=False)
    train_dataset = data.splits["train"].cast_column("image", Image(decode=False))
    loop, bare = [], []
    with tempfile.TemporaryDirectory() as folder:
        convert_checkpoint(options.checkpoint, folder)
        processor = YoloxImageProcessor.from_pretrained(folder)
        for seed in range(options.rounds):
            model = YoloxForObjectDetection.from_pretrained(
                folder, id2label=data.id2label, ignore_mismatched_sizes=True
            )
            arguments = TrainingArguments(
                output_dir=f"{folder}/run",
                max_steps=options.steps,
                per_device_train_batch_size=8,
                save_strategy="no",
                logging_strategy="no",
                remove_unused_columns=False,
                dataloader_num_workers=options.workers,
                dataloader_pin_memory=False,
                report_to="none",
                disable_tqdm=True,
                seed=seed,
            )
            collator = YoloxDataCollator(processor, len(data.id2label))
            trainer = YoloxTrainer(model, arguments, data_collator=collator, train_dataset=train_dataset)
            clock = Clock()
            trainer.add_callback(clock)
            trainer.train()
            loop += [end - start for start, end in zip(clock.times[2:], clock.times[3:])]

            batches = []
            for inputs in trainer.get_train_dataloader():
                inputs = augment_inputs(inputs, trainer.augmentation)
                inputs["pixel_values"] = inputs["pixel_values"].contiguous(memory_format=torch.channels_last)
                batches.append(inputs)
            model.train()
            for inputs in batches[: options.steps]:
                start = time.perf_counter()
                model(inputs["pixel_values"], labels=inputs["labels"]).loss.backward()
                bare.append(time.perf_counter() - start)
                model.zero_grad()
    loop_ms, bare_ms = 1000 * statistics.median(loop), 1000 * statistics.median(bare[2:])
    print(f"threads            {torch.get_num_threads()}")
    print(f"whole loop         {loop_ms:.0f} ms a step")
    print(f"forward, backward  {bare_ms:.0f} ms a step")
    print(f"ratio              {loop_ms / bare_ms:.3f}")
    print(f"peak memory        {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
