# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["huggingface-hub==2.4.0"]
#
# [tool.edge]
# megabytes = 60
# ///
"""Fetch a checkpoint from the hub, resuming a download that was cut off.

Request: {"model": "owner/name", "revision": null}. Makes: the files that training and exporting need.
Answers {"revision": the commit}. The token comes from HF_TOKEN, HUGGINGFACE_HUB_TOKEN or the hub's own login.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ["EDGE_CODE"])

from edge.errors import EdgeError, MissingError, WorkerError

FILES = ["*.safetensors", "*.json", "tokenizer.model", "*.jinja", "LICENSE*", "NOTICE*"]


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        disable_progress_bars,
    )

    disable_progress_bars()
    model, out = request["model"], Path(request["out"])
    token = os.environ.get("HF_TOKEN") or os.environ.get("HUGGINGFACE_HUB_TOKEN") or None
    try:
        reply.progress(None, None, "downloading")
        snapshot_download(model, revision=request["revision"], local_dir=out, allow_patterns=FILES, token=token)
    except GatedRepoError:
        raise MissingError(
            f"{model} is gated, and this login has not been given access",
            "accept its terms on its page of the hub, then set HF_TOKEN to a token with read access",
        ) from None
    except RepositoryNotFoundError:
        raise EdgeError(
            f"{model}: the hub has no such model, or doesn't show it to this login",
            "check the name; for a private or gated model set HF_TOKEN",
        ) from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError) as error:
        status = _status(error)
        if status:
            raise WorkerError(f"{model}: the hub answered {status}", "run it again: what came so far is kept") from None
        raise MissingError(
            f"{model}: the hub can't be reached ({type(error).__name__})",
            "check the network and HF_HUB_OFFLINE, or give base as a folder; what came so far is kept",
        ) from None
    revision = _commit(out)
    shutil.rmtree(out / ".cache", ignore_errors=True)
    return {"revision": revision}


def _status(error: BaseException | None) -> int | None:
    """The hub's own status, however deep the library has wrapped it; None if the hub never answered."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return int(response.status_code)
        error = error.__cause__ or error.__context__
    return None


def _commit(out: Path) -> str | None:
    """The commit that the hub's own bookkeeping names."""
    for file in sorted((out / ".cache").rglob("*.metadata")):
        return file.read_text().split("\n", 1)[0]
    return None


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
