# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""The command line, `yolox-hf`."""

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns its exit status: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C."""
    try:
        import typer  # noqa: F401
    except ImportError:
        print("error: the command line needs typer: `pip install typer`.", file=sys.stderr)
        return 1
    try:
        from .app import run
    except KeyboardInterrupt:  # the libraries behind it take seconds to import
        print("interrupted", file=sys.stderr)
        return 130
    return run(arguments)
