"""From the hub into a folder: whole, of one commit, compared with the hub's digests, and only once.

The worker is `workers/fetch.py`; the token is found by `credentials.py` and goes into its environment.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock

from edge import environments, records, worker
from edge.console import Console
from edge.environments import Environment, Spec
from edge.errors import EdgeError
from edge.export import job
from edge.records import Checkpoint, Json
from edge.train import credentials, hub

DONE = "done.json"
_DOMAIN = "huggingface.co"
# Of the hub's library, unless the user has set them: its newer transfer begins a file anew where HTTP goes on within it,
# and it would tell the hub which program it was started by.
_SETTINGS = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


@dataclass(frozen=True)
class Client:
    """Who asks the hub, and how. folder: the one whose `.env` counts, None for the current one."""

    console: Console
    environment: Callable[[Spec], Environment]
    folder: Path | None = None

    def run(self, name: str, request: Json, out: Path, label: str, keep_partial: bool = False) -> Json:
        """Let the worker `name` ask. The token is in nothing that is written."""
        found = credentials.token(self.folder)
        script = environments.script(name)
        environment = self.environment(environments.spec(script))
        with self.console.task(label) as progress:
            return worker.run(
                script,
                {**request, "login": found.source},
                out,
                python=environment.python,
                progress=progress,
                keep_partial=keep_partial,
                env={**{k: v for k, v in _SETTINGS.items() if k not in os.environ}, **credentials.variables(found)},
            )


def fetch(model: str, out: Path, dialect: str, client: Client) -> Checkpoint:
    """A checkpoint from the hub, into `out`; not again if it lies there already, untouched.

    A download that was cut off goes on where it was, also in another process. The record beside it names the commit and
    carries the licence's notice.

    Args:
        model: owner/name, or owner/name@revision.

    Raises: EdgeError for a name that is none or a repository without a checkpoint, MissingError for access, network or
    disk that is missing.
    """
    told = files(model, None, out, client)
    found = job.read_checkpoint(out, dialect, f"{told['model']}@{told['revision']}")
    if not (out / "checkpoint.json").exists():
        said = found.notices or notices(told)
        found = Checkpoint(found.digest, found.path, dialect, source=found.source, notices=said)
        records.save(found, out / "checkpoint.json")
    return found


def files(model: str, wanted: Sequence[str] | None, out: Path, client: Client) -> Json:
    """Files of a repository, into `out`; those of a checkpoint if `wanted` is None. Returns the worker's answer."""
    named = parsed(model)
    key = records.digest_value([str(named), sorted(wanted) if wanted else None])
    with _only_one(out):
        kept = _kept(out, key)
        if kept:
            return kept
        request = {"do": "fetch", "model": named.name, "revision": named.revision, "kind": "model",
                   "files": list(wanted) if wanted else None}  # fmt: skip
        answer = client.run("fetch", request, out, f"fetching {named}", keep_partial=True)
        told = {"key": key, "digest": records.digest_folder(out), **answer}
        records.save(told, out / DONE)
        return told


def look(model: str, client: Client) -> Json:
    """What a repository holds: {"model", "revision", "files": {path: bytes}, "license"}. Nothing is fetched."""
    named = parsed(model)
    request = {"do": "look", "model": named.name, "revision": named.revision, "kind": "model", "files": None}
    with tempfile.TemporaryDirectory() as folder:
        return client.run("fetch", request, Path(folder) / "look", f"asking for {named}")


def parsed(model: str) -> hub.Id:
    """The repository that is named. Raises EdgeError."""
    found = hub.parse(model)
    if found is None:
        raise EdgeError(f"{model!r} is no hub id", "such as google/functiongemma-270m-it, or owner/name@revision")
    return found


def notices(told: Json) -> list[str]:
    """What a licence asks to be said, as far as the page's metadata names it. told: a worker's answer."""
    license_id = told.get("license")
    if not license_id:
        return []
    if license_id == "gemma":
        return [job.GEMMA_NOTICE]
    return [f"Holds or is derived from {told['model']}, licensed as {license_id}: see {_DOMAIN}/{told['model']}"]


def _kept(out: Path, key: str) -> Json | None:
    """What was fetched by the same question before and is untouched since."""
    try:
        told = dict(records.read_json(out / DONE))
    except (EdgeError, TypeError, ValueError):
        return None
    same = told.get("key") == key and told.get("revision") and told.get("digest") == records.digest_folder(out)
    return told if same else None


@contextlib.contextmanager
def _only_one(out: Path) -> Iterator[None]:
    """One download into a folder at a time; a second one waits and finds what the first has fetched."""
    desk = out.absolute().with_name(f"{out.absolute().name}.worker")
    desk.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(desk / ".lock"):
        yield
