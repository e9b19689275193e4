"""Signatures of contracts in minisign's format, made and checked by py-minisign in an environment of its own.

A signature says who handed a folder over: `minisign -Vm contract.json -P KEY` checks it without edge. Keys are minisign's
(`minisign -G`). A password is taken from EDGE_SIGN_PASSWORD, never from the command line.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from edge import environments, worker
from edge.console import Console
from edge.errors import EdgeError
from edge.export.handoff import contract, verify
from edge.records import Json, read_json, write_text

PASSWORD = "EDGE_SIGN_PASSWORD"


@dataclass(frozen=True)
class Checked:
    """comment: the trusted one, which the signature covers; None if there is none to trust."""

    comment: str | None
    problems: list[str] = field(default_factory=list)


def sign(folder: Path, key: Path, console: Console) -> Path:
    """Write `contract.json.minisig`. Raises EdgeError for a key that can't be used, WorkerError if the library fails."""
    told = read_json(folder / verify.CONTRACT)
    comment = f"edge handoff {told['target']} {told['name']} {told['digest']}"
    target = folder / verify.SIGNATURE
    write_text(target, _signature(folder / verify.CONTRACT, key, comment, console))
    return target


def refuse_unusable(key: Path, console: Console) -> None:
    """Raise as `sign` would for this key, before there is a folder that would lie there unsigned."""
    _signature(contract.SCHEMA, key, "only to see whether it can", console)


def _signature(file: Path, key: Path, comment: str, console: Console) -> str:
    if not key.is_file():
        raise EdgeError(f"{key}: no such file", "minisign -G -s KEY makes one")
    request = {"do": "sign", "file": str(file.absolute()), "key": str(key.absolute()), "comment": comment}
    return str(_ask(request, console)["signature"])


def check(folder: Path, key: str, console: Console) -> Checked:
    """Is the contract signed with this key? key: a public key, or the name of a file that holds one."""
    file = folder / verify.SIGNATURE
    if not file.is_file():
        return Checked(None, [f"{verify.SIGNATURE}: missing: this folder is not signed"])
    public = Path(key).read_text(encoding="utf-8", errors="replace") if Path(key).is_file() else key
    request = {
        "do": "check",
        "file": str((folder / verify.CONTRACT).absolute()),
        "signature": str(file.absolute()),
        "public": public,
    }
    answer = _ask(request, console)
    problem = answer.get("problem")
    return Checked(None, [f"{verify.SIGNATURE}: {problem}"]) if problem else Checked(answer["comment"])


def _ask(request: Json, console: Console) -> Json:
    """The worker's answer. The password goes by its environment: requests are kept in files."""
    script = environments.script("sign")
    environment = environments.ensure(environments.spec(script), console)
    secret = {PASSWORD: os.environ[PASSWORD]} if PASSWORD in os.environ else {}
    with tempfile.TemporaryDirectory() as desk:
        return worker.run(script, request, Path(desk) / "out", python=environment.python, env=secret)
