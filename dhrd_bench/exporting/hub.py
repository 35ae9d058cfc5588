"""An exported folder to the Hugging Face hub; nothing else of this package sends anything there."""

from __future__ import annotations

import os
from pathlib import Path

from dhrd_bench.errors import UserError
from dhrd_bench.exporting.description import read_description

TOKEN = "HF_TOKEN"  # noqa: S105 - the name of the variable
SENT = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.onnx", "*.onnx.data", "README.md")


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Send the files of an exported folder to `repository`, which is made if it is not there.

    Returns
    -------
    str
        Where they are now.

    Raises
    ------
    UserError
        If the folder is no export, no token is set, or the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    read_description(folder)
    token = os.environ.get(TOKEN)
    if not token:
        raise UserError(f"{TOKEN} is not set.", "Set it to a token of the hub that may write; no other place is read.")
    api = HfApi(token=token)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=list(SENT))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"{repository} was not written: {reason}.", "See the repository's name and the token."
        ) from error
    return str(commit.commit_url)
