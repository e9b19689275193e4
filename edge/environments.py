"""Pinned environments: a script's PEP 723 block and the `.pins` beside it, built by uv, cached by their hash.

The block names exact `dependencies` and `requires-python`; a `[tool.edge]` table in it may add `environment` (its name,
else the script's), `needs` ("c++"), `about` (what takes long, for the screen), `megabytes` (of disk, checked before a
build), `build-environment` (variables for building from source), `config-settings` (for its build backend; uv caches what
is built with them apart), `platforms` (what wheels there are, as "Linux x86_64") and
`without` (packages that a dependency names and the script doesn't use: they are left out). The pins are `name==version` lines and
are given to uv as constraints, so that a machine with a GPU still gets the CUDA packages that its torch names.
Scripts with equal blocks and pins share one environment.

An environment is built in its place behind a file lock and counts only once its marker is there, written last; a build
that was killed half-way is thrown away and begun again.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import filelock
import platformdirs
import tomllib
from packaging.specifiers import SpecifierSet

import edge
from edge.console import Console
from edge.errors import EdgeError, MissingError, WorkerError
from edge.records import Json, digest_value, read_json, save
from edge.worker import clean_environment, tail_of

# Runs a command and ends it, compilers and all, when the input ends: a host that was killed can't do it, and a build that
# goes on without its lock would write into the next one.
_UNTIL_INPUT_ENDS = """
import os, signal, subprocess, sys, threading
def watch():
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=watch, daemon=True).start()
code = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL).returncode
sys.stdout.flush()
os._exit(code if code >= 0 else 128 - code)
"""
_CLOSED = threading.Event()
_SYSCONFIG = threading.Lock()  # its first use is not safe in threads, and find_uv_bin is that
_RUNNING: set[subprocess.Popen[bytes]] = set()  # uv, and the compilers under it, so that a stop can end them
MARKER = "edge-environment.json"
_BLOCK = re.compile(r"^# /// script\n((?:#(?: .*)?\n)+)# ///$", re.MULTILINE)
_FOLDERS = ("train/workers", "export/workers", "bench/runtimes")  # where scripts with environments live
_SERVE = "serve"  # and in the package itself
_SELDOM = ("devices", "bench/suites")  # scripts whose environments few need: built when they are, or by their names


@dataclass(frozen=True)
class Spec:
    """What a script asks for."""

    name: str
    requires_python: str
    dependencies: tuple[str, ...]
    pins: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    about: str = ""
    megabytes: int = 0
    build_environment: dict[str, str] = field(default_factory=dict)
    platforms: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    config_settings: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        torch = "" if not self.needs_torch else _torch_backend() + os.environ.get("UV_TORCH_BACKEND", "")
        return digest_value(
            [
                sorted(self.dependencies),
                sorted(self.pins),
                _interpreter() if self.python == sys.executable else self.python,
                [platform.system(), platform.machine(), platform.libc_ver()[0]],
                torch,
                self.build_environment,
                *([sorted(self.without)] if self.without else []),
                *([self.config_settings] if self.config_settings else []),
            ]
        )[:12]

    @property
    def needs_torch(self) -> bool:
        return any(re.match(r"torch\b(?![-_])", d) for d in self.dependencies)

    @property
    def python(self) -> str:
        """This interpreter where it will do, else what uv shall look for."""
        fits = SpecifierSet(self.requires_python).contains(platform.python_version())
        return f"{sys.executable}" if fits else self.requires_python

    @property
    def folder(self) -> Path:
        return cache() / f"{self.name}-{self.key}"


@dataclass(frozen=True)
class Environment:
    """A built one. `facts` goes into the records of what is made with it."""

    python: Path
    facts: Json


def cache() -> Path:
    """Where environments lie: EDGE_CACHE, or the user's cache folder."""
    given = os.environ.get("EDGE_CACHE")
    return Path(given) / "environments" if given else platformdirs.user_cache_path("edgecall") / "environments"


def spec(script: Path) -> Spec:
    """What this script asks for. Raises EdgeError if it has no PEP 723 block."""
    match = _BLOCK.search(script.read_text(encoding="utf-8"))
    if not match:
        raise EdgeError(f"{script}: no PEP 723 block, so its environment is unknown")
    table = tomllib.loads("".join(line[2:] + "\n" for line in match[1].splitlines()))
    ours = table.get("tool", {}).get("edge", {})
    pins = script.with_suffix(".pins")
    return Spec(
        name=ours.get("environment", script.stem),
        requires_python=table["requires-python"],
        dependencies=tuple(table["dependencies"]),
        pins=tuple(pins.read_text().split()) if pins.exists() else (),
        needs=tuple(ours.get("needs", ())),
        about=ours.get("about", ""),
        megabytes=ours.get("megabytes", 0),
        build_environment=ours.get("build-environment", {}),
        platforms=tuple(ours.get("platforms", ())),
        without=tuple(ours.get("without", ())),
        config_settings=ours.get("config-settings", {}),
    )


def scripts() -> list[Path]:
    """Every script that has an environment of its own: workers and runtimes."""
    package, root = _places()
    return _with_blocks([*(root / folder for folder in _FOLDERS), package / _SERVE])


def seldom() -> list[Path]:
    """The scripts of devices and of the benchmarks of our own claims that have an environment."""
    _, root = _places()
    return _with_blocks([root / folder for folder in _SELDOM])


def _places() -> tuple[Path, Path]:
    """The package, and where train/ and the other parts lie."""
    package = Path(edge.__file__).resolve().parent
    return package, package if (package / "train").is_dir() else package.parent


def _with_blocks(folders: list[Path]) -> list[Path]:
    found = [f for folder in folders for f in sorted(folder.glob("*.py"))]
    return [f for f in found if _BLOCK.search(f.read_text(encoding="utf-8"))]


def script(name: str) -> Path:
    """The worker or runtime of this name. Raises EdgeError naming those that exist."""
    for file in scripts():
        if file.stem == name:
            return file
    raise EdgeError(f"no worker or runtime {name!r}", f"there are: {', '.join(f.stem for f in scripts())}")


def read(it: Spec) -> Environment | None:
    """The environment if it is whole, else None."""
    marker = it.folder / MARKER
    if not marker.exists() or not _python(it.folder).exists():  # the interpreter below it may be gone
        return None
    return Environment(_python(it.folder), read_json(marker))


def ensure(it: Spec, console: Console) -> Environment:
    """The environment, built now if need be.

    Raises MissingError for what the machine lacks (a compiler, disk), WorkerError with the log's tail if uv fails.
    """
    found = read(it)
    if found:
        return found
    it.folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{it.folder}.lock"):
        return read(it) or _build(it, console)


def missing(it: Spec) -> str | None:
    """What this machine lacks for it, as a sentence with the remedy; None if nothing."""
    if "c++" in it.needs and not read(it) and not compiler():
        return "a C++ compiler (Debian: apt install g++; macOS: xcode-select --install)"
    if "cuda" in it.needs and not read(it) and not shutil.which("nvidia-smi"):
        return "a CUDA GPU (nvidia-smi shows none)"
    here = f"{platform.system()} {platform.machine()}"
    if it.platforms and here not in it.platforms:
        return f"{' or '.join(it.platforms)}, for which alone there are packages; this is {here}"
    return None


def compiler() -> str | None:
    """The C++ compiler that a build would take, or None."""
    return next((p for c in (os.environ.get("CXX", ""), "c++", "g++", "clang++") if c and (p := shutil.which(c))), None)


class Builder:
    """Builds several environments in the background while other work goes on."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._pool = ThreadPoolExecutor(max_workers=2)  # one downloads while one compiles
        self._futures: dict[str, Future[Environment]] = {}

    def begin(self, *specs: Spec) -> None:
        for it in specs:
            if it.key not in self._futures:
                self._futures[it.key] = self._pool.submit(ensure, it, self._console)

    def get(self, it: Spec) -> Environment:
        """Waits for it; raises what its build raised."""
        self.begin(it)
        return self._futures[it.key].result()

    def close(self) -> None:
        """Forget what has not begun, and end what has: a half-built environment is begun again next time."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        _CLOSED.set()
        for process in list(_RUNNING):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self._pool.shutdown(wait=True)
        _CLOSED.clear()


def build_all(wanted: Iterable[Path | Spec], console: Console) -> list[tuple[Spec, Environment]]:
    """Build these (scripts') environments side by side; what this machine lacks for one is said and passed over."""
    builder = Builder(console)
    specs = list({it.key: it for it in (w if isinstance(w, Spec) else spec(w) for w in wanted)}.values())
    for it in specs:
        lack = missing(it)
        if lack:
            console.say(f"✗ environment {it.name} needs {lack}")
    able = [it for it in specs if not missing(it)]
    builder.begin(*able)
    return [(it, builder.get(it)) for it in able]


def remove(folder: Path) -> None:
    """Delete an environment, its marker first, so that a half-deleted one never counts.

    Raises MissingError if it is being built. The lock file stays: whoever waits on it holds that very file.
    """
    try:
        with filelock.FileLock(f"{folder}.lock", timeout=0):
            (folder / MARKER).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            for suffix in (".log", ".constraints", ".overrides"):
                Path(f"{folder}{suffix}").unlink(missing_ok=True)
    except filelock.Timeout:
        raise MissingError(f"{folder.name} is being built", "wait for it") from None


def pin(script: Path) -> list[str]:
    """Resolve a script's dependencies and write the `.pins` beside it; returns the pins. For maintainers: `make pins`."""
    it = spec(script)
    command = [uv_binary(), "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-emit-index-url",
               "--no-emit-find-links", "--python", it.python, "-"]  # fmt: skip
    text = "\n".join(it.dependencies)
    with tempfile.TemporaryDirectory() as folder:
        command += _without(it, Path(folder) / "overrides")
        done = subprocess.run(command, input=text, env=_uv_variables(it), capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkerError(f"{script}: {done.stderr.strip()}")
    pins = [re.sub(r"\+.*", "", line.split(" ")[0]) for line in done.stdout.split("\n") if "==" in line]
    script.with_suffix(".pins").write_text("".join(f"{p}\n" for p in pins))
    return pins


def _build(it: Spec, console: Console) -> Environment:
    lack = missing(it)
    if lack:
        raise MissingError(f"environment {it.name!r} needs {lack}")
    remove_half_built(it.folder)
    _refuse_full_disk(it)
    log = Path(f"{it.folder}.log")
    note = f" ({it.about})" if it.about else ""
    with console.task(f"environment {it.name}{note}"), log.open("w") as out:
        _uv(["venv", "--quiet", "--python", it.python, str(it.folder)], it, out, log)
        python = _python(it.folder)
        _uv(["pip", "install", "--python", str(python), *_install_arguments(it)], it, out, log)
        facts = _facts(it, python)
        save(facts, it.folder / MARKER)
    return Environment(python, facts)


def _refuse_full_disk(it: Spec) -> None:
    free = shutil.disk_usage(it.folder.parent).free / 1e6
    if free < it.megabytes:
        raise MissingError(
            f"environment {it.name!r} takes {it.megabytes} MB, and {free:.0f} MB are free in {it.folder.parent}",
            "free some, `edge env clean`, or point EDGE_CACHE to another disk",
        )


def remove_half_built(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _install_arguments(it: Spec) -> list[str]:
    constraints = Path(f"{it.folder}.constraints")
    constraints.write_text("".join(f"{p}\n" for p in it.pins))
    backend = ["--torch-backend", _torch_backend()] if it.needs_torch and _torch_backend() else []
    without = _without(it, Path(f"{it.folder}.overrides"))
    settings = [word for item in it.config_settings.items() for word in ("--config-setting", "=".join(item))]
    return ["--constraints", str(constraints), *without, *settings, *backend, *it.dependencies]


def _without(it: Spec, file: Path) -> list[str]:
    """What tells uv to leave packages out: an override that holds on no platform."""
    if not it.without:
        return []
    file.write_text("".join(f"{name}; sys_platform == 'never'\n" for name in it.without))
    return ["--overrides", str(file)]


def _torch_backend() -> str:
    """ "auto" spares a machine without a GPU gigabytes of CUDA; wheels that the user points to go before that."""
    return "" if _find_links() else "auto"


def _find_links() -> str:
    return os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS", "")


def _uv(arguments: list[str], it: Spec, out: IO[str], log: Path) -> None:
    if _CLOSED.is_set():
        raise WorkerError(f"environment {it.name!r}: its build was stopped")
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", _UNTIL_INPUT_ENDS, uv_binary(), *arguments],
        env=_uv_variables(it),
        stdin=subprocess.PIPE,
        stdout=out,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    _RUNNING.add(process)
    with process:  # closes the input, which would end it, once it has ended
        process.wait()
    _RUNNING.discard(process)
    if process.returncode:
        raise WorkerError(f"environment {it.name!r} could not be built:\n{tail_of(log)}", f"the whole log is {log}")


def uv_binary() -> str:
    import uv

    with _SYSCONFIG:
        return uv.find_uv_bin()


def _uv_variables(it: Spec) -> dict[str, str]:
    env = {**clean_environment(), **it.build_environment, "UV_NO_PROGRESS": "1"}
    if _find_links():
        env["UV_FIND_LINKS"] = _find_links()  # uv does not read pip's settings
    return env


def _facts(it: Spec, python: Path) -> Json:
    frozen = subprocess.run(
        [uv_binary(), "pip", "freeze", "--python", str(python)], capture_output=True, text=True, check=True
    )
    version = subprocess.run(
        [str(python), "-I", "-c", "import platform; print(platform.python_version())"],
        capture_output=True,
        text=True,
        check=True,
    )
    packages = sorted(frozen.stdout.split())
    return {"name": it.name, "key": it.key, "python": version.stdout.strip(), "packages": packages}


def _interpreter() -> list[str]:
    """What an environment is tied to: the interpreter below any virtual environment, and its exact version."""
    return [platform.python_implementation(), platform.python_version(), os.path.realpath(sys._base_executable)]  # type: ignore[attr-defined]


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
