# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Fine-tune YOLOX on a labelled folder (COCO, YOLO or Pascal VOC), evaluate it, save it, and detect with it.

    python examples/fine_tune.py --data ../shared/data/bccd --model yolox-nano --output-dir bccd-nano

`--model` is a folder from `conversion/convert_yolox_to_hf.py`, or a fine-tuned one.
"""

import argparse

from datasets import Image
from transformers import TrainingArguments, pipeline

from yolox_hf import YoloxForObjectDetection, YoloxImageProcessor
from yolox_hf.data import load_detection_data
from yolox_hf.evaluation import CocoMetrics
from yolox_hf.optimization import keep_freed_memory
from yolox_hf.training import YoloxDataCollator, YoloxTrainer


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--output-dir", required=True)
    parser.add_argument("--recipe", default="fine-tuning")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    data = load_detection_data(options.data)
    splits = data.splits.cast_column("image", Image(decode=False))  # the collator decodes, and can skip what is broken
    model = YoloxForObjectDetection.from_pretrained(
        options.model,
        id2label=data.id2label,
        label2id={name: index for index, name in data.id2label.items()},
        ignore_mismatched_sizes=True,
    )
    processor = YoloxImageProcessor.from_pretrained(options.model)
    trainer = YoloxTrainer(
        model,
        TrainingArguments(
            output_dir=options.output_dir,
            num_train_epochs=options.epochs,
            per_device_train_batch_size=options.batch_size,
            per_device_eval_batch_size=options.batch_size,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=2,
            logging_strategy="epoch",
            remove_unused_columns=False,
            eval_do_concat_batches=False,
            batch_eval_metrics=True,
            seed=options.seed,
            report_to="none",
        ),
        recipe=options.recipe,
        data_collator=YoloxDataCollator(processor, len(data.id2label)),
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        compute_metrics=CocoMetrics(processor, splits["validation"], data.id2label),
    )
    keep_freed_memory()  # on a CPU a step is a sixth faster
    trainer.train()
    for name, value in trainer.evaluate().items():
        print(f"{name:20} {value:.4f}")
    trainer.save_model(options.output_dir)
    processor.save_pretrained(options.output_dir)

    detector = pipeline("object-detection", model=options.output_dir)
    photo = splits["validation"][0]["image"]["path"]
    print(photo)
    for found in detector(photo):
        print(f"{found['score']:.3f}", found["label"], found["box"])


if __name__ == "__main__":
    main()
