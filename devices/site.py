"""The packages of a runtime for a device, from wheels chosen here: so it needs no network, no compiler and no pip there.

A site is a folder for a Python's path, as `pip install --target` makes it, packed as `NAME-KEY.tar.gz` in the user's cache.
It is resolved from the runtime's PEP 723 block and pins for the device's Python, processor and C library, binaries only.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from edge import environments
from edge.console import Console
from edge.environments import Spec
from edge.errors import DeviceError, WorkerError
from edge.records import Json, digest_file, digest_value, read_json, save
from edge.worker import clean_environment, tail_of

_GLIBC = (17, 28, *range(31, 41))  # the manylinux platforms that uv knows by name
# "Because tokenizers==0.23.3 has no wheels with a matching …", and how else uv says that there is none
_NO_WHEEL = re.compile(r"(?:Because|and) ([a-z0-9][a-z0-9._-]*)==(\S+) has no (?:wheels|usable wheels)")
_WHEELS_FOR = re.compile(
    r"Wheels are available for `\S+` \(\S+\) on the following (?:platforms?|Python[^:]*tags?): (.+?)(?= hint:|$)"
)
_MACHINES = ("aarch64", "x86_64")


@dataclass(frozen=True)
class Site:
    """A packed one. `bytes`: unpacked. `facts` goes into the records of what is measured with it."""

    packed: Path
    digest: str
    bytes: int
    facts: Json

    @property
    def name(self) -> str:
        return name(self.facts)


def name(facts: Json) -> str:
    """Of the folder on the device."""
    return f"{facts['name']}-{facts['key']}"


def cache() -> Path:
    """Where packed ones lie: under EDGE_CACHE, or the user's cache folder."""
    return environments.cache().with_name("sites")


def ensure(spec: Spec, facts: dict[str, Any], console: Console) -> Site:
    """The packed site for a device with these facts (of devices.probe), made now if need be.

    Raises DeviceError naming a package that has no wheel for it, WorkerError with uv's words.
    """
    key = digest_value(
        [sorted(spec.dependencies), sorted(spec.pins), sorted(spec.without), _minor(facts), platform(facts)]
    )[:12]
    marker = cache() / f"{spec.name}-{key}.json"
    marker.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{marker.with_suffix('')}.lock"):
        if not marker.exists():
            note = f"packages of {spec.name} for Python {_minor(facts)} on {facts['machine']}"
            with console.task(note):
                _make(spec, facts, key, marker)
    made = read_json(marker)
    told = {"name": spec.name, "key": key, "python": facts["python"], "packages": made["packages"]}
    return Site(marker.with_suffix(".tar.gz"), made["sha256"], made["bytes"], told)


def platform(facts: dict[str, Any]) -> str:
    """What uv calls the device: the newest manylinux that its glibc can take."""
    found = re.match(r"glibc 2\.(\d+)", facts.get("libc") or "")
    fitting = [n for n in _GLIBC if found and n <= int(found[1])]
    if facts["machine"] not in _MACHINES:
        raise DeviceError(
            f"{facts['name']}: {facts['machine']} is not served", f"packages are made for {', '.join(_MACHINES)}"
        )
    if not fitting:
        raise DeviceError(f"{facts['name']}: its C library is {facts.get('libc') or 'not glibc'}: no packages are made for it",
                          "a system with glibc 2.17 or newer: Debian, Ubuntu, Raspberry Pi OS")  # fmt: skip
    return f"{facts['machine']}-manylinux_2_{max(fitting)}"


def _minor(facts: dict[str, Any]) -> str:
    return ".".join(str(facts["python"]).split(".")[:2])


def _make(spec: Spec, facts: dict[str, Any], key: str, marker: Path) -> None:
    base = marker.with_suffix("")
    folder, packed, log = Path(f"{base}.partial"), Path(f"{base}.tar.gz"), Path(f"{base}.log")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        _install(spec, facts, folder, log)
        for extra in ("bin", ".lock"):  # scripts for this machine's interpreter
            shutil.rmtree(folder / extra, ignore_errors=True)
            (folder / extra).unlink(missing_ok=True)
        packages = sorted(f"{d.name}=={d.version}" for d in importlib.metadata.distributions(path=[str(folder)]))
        size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
        partial = Path(f"{base}.tar.gz.partial")
        with tarfile.open(partial, "w:gz", compresslevel=6) as archive:
            archive.add(folder, ".", filter=plain)
        partial.replace(packed)
        save({"packages": packages, "bytes": size, "sha256": digest_file(packed)}, marker)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """For `tarfile.add`: without what is this machine's, so that the same files pack to the same bytes."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def _install(spec: Spec, facts: dict[str, Any], folder: Path, log: Path) -> None:
    constraints, overrides = folder.with_suffix(".constraints"), folder.with_suffix(".overrides")
    constraints.write_text("".join(f"{p}\n" for p in spec.pins))
    overrides.write_text("".join(f"{p}; sys_platform == 'never'\n" for p in spec.without))
    command = [environments.uv_binary(), "pip", "install", "--target", str(folder), "--only-binary", ":all:", "--no-compile",
               "--link-mode", "copy", "--python-version", _minor(facts), "--python-platform", platform(facts),
               "--constraints", str(constraints), "--overrides", str(overrides), *spec.dependencies]  # fmt: skip
    env = {**clean_environment(), "UV_NO_PROGRESS": "1"}
    if links := os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS"):
        env["UV_FIND_LINKS"] = links
    try:
        with log.open("w") as out:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env, check=False
            )
    finally:
        constraints.unlink()
        overrides.unlink()
    if done.returncode:
        raise _failed(spec, facts, log)


def _failed(spec: Spec, facts: dict[str, Any], log: Path) -> DeviceError | WorkerError:
    said = " ".join(log.read_text(errors="replace").replace("│", " ").split())
    which = f"Python {_minor(facts)} on {facts['machine']} ({facts.get('libc')})"
    found = _NO_WHEEL.search(said)
    if found:
        others = _WHEELS_FOR.search(said)
        return DeviceError(f"{facts['name']}: there is no wheel of {found[1]} {found[2]} for {which}, which {spec.name} needs",
                           (f"there are wheels for {others[1].replace('`', '')}; " if others else "")
                           + "take another runtime, or another Python there (python = … in devices.toml)")  # fmt: skip
    return WorkerError(
        f"the packages of {spec.name} for {which} could not be had:\n{tail_of(log)}", f"the whole log is {log}"
    )
