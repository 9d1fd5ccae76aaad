# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""All commands under one name, and what becomes of their errors."""

import sys

import typer
from transformers.utils import logging
from typer.main import get_command

from .checkpoints import convert, info, push
from .demo import demo
from .detect import detect
from .evaluate import evaluate
from .export import export
from .train import scenes, train

app = typer.Typer(
    help="YOLOX object detection for Hugging Face transformers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, detect, evaluate, train, scenes, convert, export, push, info):
    app.command()(command)


def run(arguments: list[str] | None = None) -> int:
    """Run one command; its errors become one line on stderr and an exit status."""
    # Their bars and advice are for notebooks; ours are on stderr.
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        return get_command(app).main(arguments, "yolox-hf", standalone_mode=True) or 0
    except SystemExit as status:  # usage errors, `--help`, and 130 for Ctrl-C
        code = status.code if isinstance(status.code, int) else 1
        if code == 130:
            print("interrupted", file=sys.stderr)
        return code
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
