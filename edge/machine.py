"""What this machine has: `edge doctor`, and the environments that lie in its cache."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from edge import environments
from edge.console import Console
from edge.environments import Spec
from edge.errors import EdgeError, MissingError
from edge.records import Json

_DISK, _MEMORY = 6e9, 3e9  # bytes: all environments with a 270M project; tuning it at batch 1


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    found: str
    purpose: str
    remedy: str
    essential: bool = False


def doctor() -> list[Check]:
    """One check for everything that some part of edge uses."""
    free = shutil.disk_usage(_existing(environments.cache())).free
    memory = psutil.virtual_memory().available
    cxx = environments.compiler()
    return [
        Check("disk", free > _DISK, f"{free / 1e9:.0f} GB free", "environments and artifacts",
              f"free {_DISK / 1e9:.0f} GB, or point EDGE_CACHE elsewhere", essential=True),
        Check("memory", memory > _MEMORY, f"{memory / 1e9:.0f} GB available", "tuning and converting a 270M model",
              "close other programs"),
        _program("uv", "building environments", "reinstall edgecall, which brings it", essential=True),
        Check("C++ compiler", bool(cxx), cxx or "none", "llama.cpp: K quantisations, its runtime (else: a prebuilt one)",
              "Debian: apt install g++; macOS: xcode-select --install"),
        _gpu(),
        _program("ssh", "measuring on a Raspberry Pi", "Debian: apt install openssh-client"),
        _program("adb", "measuring on a phone", "Debian: apt install adb"),
        _login(),
    ]  # fmt: skip


def specs() -> list[tuple[str, Spec]]:
    """Who asks for which environment: each script by its name, and those who need a program rather than a script's packages."""
    from edge.bench.suites import agreement
    from edge.devices import runners

    found = [(s.stem, environments.spec(s)) for s in [*environments.scripts(), *environments.seldom()]]
    return [*found, ("runners", runners.ZIG), ("agreement", agreement.LITERT_CLI)]


def named(name: str) -> Spec:
    """The environment of this name, or the one of this worker or runtime. Raises EdgeError naming those that there are."""
    known = specs()
    for script, it in known:
        if name in (script, it.name):
            return it
    names = dict.fromkeys([*(it.name for _, it in known), *(script for script, _ in known)])
    raise EdgeError(f"no environment, worker or runtime {name!r}", f"there are: {', '.join(names)}")


def environments_here(console: Console | None = None) -> list[Json]:
    """Every environment that something asks for, and those in the cache that nothing asks for any more."""
    wanted: dict[str, Json] = {}
    for script, it in specs():
        state = "built" if environments.read(it) else "half-built" if it.folder.exists() else "not built"
        entry = wanted.setdefault(it.folder.name, {
            "name": it.name, "state": state, "megabytes": None, "scripts": [], "needs": environments.missing(it),
            "path": str(it.folder),
        })  # fmt: skip
        entry["scripts"].append(script)
    found = list(wanted.values())
    for folder in _folders():
        if folder.name not in wanted:
            found.append({"name": folder.name, "state": "unused", "megabytes": None, "scripts": [], "needs": None,
                          "path": str(folder)})  # fmt: skip
    with (console or Console(quiet=True)).task("the sizes of the environments") as progress:
        for n, entry in enumerate(found):
            progress(n, len(found), entry["name"])
            entry["megabytes"] = _megabytes(Path(entry["path"]))
    return found


def clean(everything: bool = False, console: Console | None = None) -> list[str]:
    """Delete unused and half-built environments, or all; returns their names."""
    removed = []
    for entry in environments_here(console):
        folder = Path(entry["path"])
        if folder.exists() and (everything or entry["state"] in ("unused", "half-built")):
            with contextlib.suppress(MissingError):  # being built
                environments.remove(folder)
                removed.append(folder.name)
    return removed


def _folders() -> list[Path]:
    root = environments.cache()
    return sorted(f for f in root.iterdir() if f.is_dir()) if root.is_dir() else []


def _megabytes(folder: Path) -> float | None:
    """Of the files below it, links left out; None if it is not there."""
    return _bytes(folder) / 1e6 if folder.exists() else None


def _bytes(folder: str | Path) -> int:
    """`os.scandir` knows folders without asking for each: tens of thousands of files are in an environment."""
    total = 0
    with os.scandir(folder) as entries:
        for it in entries:
            if it.is_dir(follow_symlinks=False):
                total += _bytes(it.path)
            elif it.is_file(follow_symlinks=False):
                total += it.stat(follow_symlinks=False).st_size
    return total


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.exists())


def _program(name: str, purpose: str, remedy: str, essential: bool = False) -> Check:
    path = environments.uv_binary() if name == "uv" else shutil.which(name)
    version = _version([path, "-V" if name == "ssh" else "--version"]) if path else ""
    return Check(name, bool(version), version or (f"{path} fails" if path else "none"), purpose, remedy, essential)


def _version(command: list[str]) -> str:
    """The first line that a command prints; "" if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return (done.stdout or done.stderr).strip().split("\n")[0]


def _gpu() -> Check:
    path = shutil.which("nvidia-smi")
    name = _version([path, "--query-gpu=name", "--format=csv,noheader"]) if path else ""
    return Check("GPU", bool(name), name or "none", "tuning a 270M model in minutes", "tuning works on the CPU, slowly")


def _login() -> Check:
    """Whether a hub token is there; never what it is."""
    from edge.train import credentials

    purpose = "fetching gated models such as google/functiongemma-270m-it"
    try:
        source = credentials.token().source
    except EdgeError as error:  # what is set there is no token
        return Check("hub login", False, error.message, purpose, error.hint or "set HF_TOKEN")
    found = "none" if source == credentials.NONE else source
    return Check("hub login", found != "none", found, purpose, "set HF_TOKEN to a token with read access")
