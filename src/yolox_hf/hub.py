# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Uploading a model folder to the Hub."""

from pathlib import Path
from typing import NamedTuple

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import httpx, validate_repo_id

from .cards import folder_card

REQUIRED = ("config.json", "model.safetensors", "preprocessor_config.json")
PATTERNS = ("*.json", "*.safetensors", "*.py")
CARD = "README.md"


class Upload(NamedTuple):
    """What was sent, or would be: size in bytes by file name, and the commit's address (None for a dry run)."""

    files: dict[str, int]
    url: str | None


def push_to_hub(
    folder: str | Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = False,
    dry_run: bool = True,
) -> Upload:
    """Upload weights, config, processor, code and card of a model folder in one commit.

    Args:
        folder: with `config.json`, `model.safetensors` and `preprocessor_config.json`. Of other files only json,
            safetensors and Python code are sent. A `README.md` is sent as it is; without one a card is written.
        repo_id: "owner/name" on the Hub; created if there is none.
        token: of the Hub; that of `hf auth login` or `HF_TOKEN` by default.
        private: whether a new repository is private.
        dry_run: send nothing and need no network.

    Returns:
        What was, or would be, sent.

    Raises:
        OSError: the folder is not complete, there is no token, or the Hub refuses or cannot be reached.
        ValueError: `repo_id` is no name of a repository.
    """
    folder = Path(folder)
    if missing := [name for name in REQUIRED if not (folder / name).is_file()]:
        raise OSError(f"{folder} is no complete model folder: {', '.join(missing)} missing.")
    if repo_id.count("/") != 1:
        raise ValueError(f"`repo_id` must be owner/name, got {repo_id!r}.")
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"`repo_id` {repo_id!r} is no valid name: {error}") from None
    paths = sorted({path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()})
    content: dict[str, Path | bytes] = {path.name: path for path in paths}
    card = folder / CARD
    content[CARD] = card if card.is_file() else str(folder_card(folder, repo_id)).encode()
    files = {name: item.stat().st_size if isinstance(item, Path) else len(item) for name, item in content.items()}
    if dry_run:
        return Upload(files, None)
    token = token or huggingface_hub.get_token()
    if token is None:
        raise OSError(f"Nothing was sent: there is no Hub token. Run `hf auth login`, or set HF_TOKEN ({folder}).")
    api = huggingface_hub.HfApi(token=token)
    operations = [huggingface_hub.CommitOperationAdd(name, item) for name, item in content.items()]
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.create_commit(repo_id, operations, commit_message="Add YOLOX weights, code and card")
    except httpx.HTTPError as error:  # the Hub's refusals are among them
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        problem = "refused the upload to" if isinstance(error, HfHubHTTPError) else "could not be reached to upload to"
        raise OSError(f"The Hub {problem} {repo_id}: {reason}") from None
    return Upload(files, commit.commit_url)
