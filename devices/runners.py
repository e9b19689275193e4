"""llama.cpp's own programs, for devices without Python and for other processors: built here once, or given by the user.

    find(name, program) -> Path | None      the program of a class; `build`, `add`, `listed`, `clean` do what `edge runners` says
    class_of(features) -> str               the class for a processor, by the features that its kernel names

They are compiled by zig, which comes as a package and needs no root: static (musl), so that one file runs on a Raspberry Pi and
on Android alike, and on Android's pages of 16 KB. `native` is llama-bench alone, compiled as `bench/runtimes/llama_cpp.py` is, with
this machine's compiler: what agreement with that tool is measured by.

A runner is a folder in the user's cache with the programs and a marker; it is moved into place whole. Its name carries the
digest of all that went into it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shlex
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import filelock
import platformdirs
import psutil

from edge import environments, records, worker
from edge.console import Console
from edge.errors import EdgeError, MissingError
from edge.records import Json

PROGRAMS = ("llama-server", "llama-bench", "llama-completion")
NATIVE, DEFAULT = "native", "armv8.2"
MARKER = "edge-runner.json"
ZIG = environments.Spec(
    name="zig",
    requires_python=">=3.9",
    dependencies=("ziglang==0.17.1",),
    pins=("ziglang==0.17.1",),
    about="a C++ compiler for other processors, 411 MB",
    megabytes=500,
)
_SCRIPT = Path(__file__).with_name("runner_build.py")
_OPTIONS = (
    "-DBUILD_SHARED_LIBS=OFF",
    "-DGGML_CCACHE=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DCMAKE_CXX_FLAGS=-DCPPHTTPLIB_TCP_NODELAY=1",  # the server would hold a token back until the one before is acknowledged
)
_CROSS = ("-DGGML_NATIVE=OFF", "-DGGML_OPENMP=OFF", "-DCMAKE_EXE_LINKER_FLAGS=-static -s")
_JOB_BYTES = 1.5e9  # of memory that a compiler may take
_SYSTEM_LIBRARIES = ("libc.", "libm.", "libdl.", "libpthread.", "librt.", "ld-", "libstdc++.", "libgcc_s.", "libgomp.", "liblog.",
                     "libandroid.")  # fmt: skip
_AARCH64 = 183  # ELF's number for it
_MACHINES = {3: "32-bit x86", 40: "32-bit Arm", 62: "x86-64", _AARCH64: "aarch64", 243: "RISC-V"}


@dataclass(frozen=True)
class Class:
    """Processors that one build serves. `needs`: the features, as Linux names them, that its instructions belong to."""

    name: str
    about: str
    cpu: str  # for the compiler
    needs: frozenset[str]


CLASSES = {
    c.name: c
    for c in (
        Class("armv8.2", "Cortex-A55, A75 and newer: Raspberry Pi 5, phones since 2018", "generic+v8_2a+dotprod+fullfp16",
              frozenset({"asimd", "atomics", "asimdrdm", "crc32", "asimddp", "asimdhp", "fphp"})),
        Class("armv8.0", "any 64-bit Arm: Raspberry Pi 3 and 4, old phones", "generic", frozenset({"asimd"})),
    )
}  # fmt: skip


def class_of(features: set[str]) -> str:
    """The best class for a processor. Raises MissingError for one that has none, such as a 32-bit system's."""
    for it in CLASSES.values():
        if it.needs <= features:
            return it.name
    raise MissingError(
        "llama.cpp is built here for 64-bit Arm, and this processor (or its 32-bit system) is none",
        "take the programs of a release, or your own: edge runners add PATH --for CLASS",
    )


def find(name: str, program: str = PROGRAMS[0], system: str = "") -> Path | None:
    """The program for a class: the user's own before ours; None if there is none yet.

    Ours run on any system. One of the user's that is linked to libraries is found for its own `system` only, "linux" or
    "android"; then `libraries` has what must lie beside it.
    """
    _known(name)
    for folder in (_added(name), _target(name)):
        if (folder / MARKER).exists() and (folder / program).exists():
            facts = records.read_json(folder / MARKER)["programs"][program]
            if facts.get("system", "") in ("", system):
                return folder / program
    return None


def libraries(program: Path) -> list[Path]:
    """What must lie beside a program that `find` found, so its folder is what to push; [] of a static one, which is enough."""
    facts: Json = records.read_json(program.parent / MARKER)
    return [program.parent / name for name in facts.get("libraries", [])]


def require(name: str, program: str = PROGRAMS[0], system: str = "") -> Path:
    """As `find`; raises MissingError with the command that would make it."""
    found = find(name, program, system)
    if not found:
        raise MissingError(f"there is no {program} for {name} here yet", f"edge runners build --for {name}")
    return found


def build(name: str, console: Console) -> Path:
    """The folder of a class's programs, compiled now if need be: some minutes.

    Raises MissingError (no compiler, no disk), WorkerError with the compiler's words.
    """
    _known(name)
    target = _target(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{target}.lock"):
        return target if (target / MARKER).exists() else _build(name, target, console)


def add(path: Path, name: str) -> Path:
    """Take the user's own programs for a class: a file, or a folder with llama-server in it. Returns where they lie now.

    The shared libraries beside them come along: releases are linked so. Raises EdgeError for what would not run: another
    processor's, a script, one without its libraries.
    """
    if _known(name) == NATIVE:
        raise EdgeError("native is what is compiled on this machine", "give a class: " + ", ".join(CLASSES))
    files = _given(path)
    beside = path if path.is_dir() else path.parent
    shared = {f.name: f for f in sorted(beside.glob("lib*.so*"))}
    facts = {program: _checked(file, list(shared)) for program, file in files.items()}
    if not any(it["system"] for it in facts.values()):
        shared = {}
    target = _added(name)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for target_name, file in {**shared, **files}.items():
            shutil.copyfile(file, partial / target_name)
            (partial / target_name).chmod(0o755)
        told = {"name": name, "source": str(path.absolute()), "programs": facts, "libraries": list(shared)}
        records.save(told, partial / MARKER)
        worker.replace_folder(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def listed() -> list[Json]:
    """What there is and what could be: one a class, and the folders that nothing asks for any more."""
    wanted = {_target(name): name for name in (*CLASSES, NATIVE)} | {_added(name): name for name in CLASSES}
    found = [
        _entry(name, folder) for folder, name in wanted.items() if folder.exists() or not folder.name.endswith("-added")
    ]
    others = [f for f in _folders() if f not in wanted and not f.name.endswith(".worker")]
    return found + [{**_entry(f.name.rpartition("-")[0], f), "state": "unused"} for f in others]


def clean(everything: bool = False) -> list[str]:
    """Delete those that nothing asks for any more and what stopped builds left, or all; returns their names."""
    wanted = {_target(name) for name in (*CLASSES, NATIVE)} | {_added(name) for name in CLASSES}
    removed = []
    for folder in _folders():
        whole = folder in wanted and (folder / MARKER).exists()
        if whole and not everything:
            continue
        lock = filelock.FileLock(f"{str(folder).removesuffix('.worker')}.lock", timeout=0)
        with contextlib.suppress(filelock.Timeout), lock:  # else it is being built
            (folder / MARKER).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder.name)
    return removed


def cache() -> Path:
    """Where runners lie: under EDGE_CACHE, or the user's cache folder."""
    return Path(os.environ.get("EDGE_CACHE") or platformdirs.user_cache_path("edgecall")) / "runners"


# --- building ---------------------------------------------------------------------------------------------------------


def _build(name: str, target: Path, console: Console) -> Path:
    spec = environments.spec(_SCRIPT)
    if name == NATIVE and not environments.compiler():
        raise MissingError(
            "llama.cpp for this machine needs a C++ compiler", "Debian: apt install g++; macOS: xcode-select --install"
        )
    environment = environments.ensure(spec, console)
    request = {
        "options": list(_options(name)),
        "programs": list(_programs(name)),
        "zig": None if name == NATIVE else _zig(environments.ensure(ZIG, console)),
        "target": [] if name == NATIVE else ["-target", "aarch64-linux-musl", f"-mcpu={CLASSES[name].cpu}"],
        "jobs": _jobs(),
    }
    note = f"llama.cpp for {name} (some 10 minutes of one core, once)"
    desk = target.with_name(f"{target.name}.worker")
    _end_compilers(desk)
    try:
        with console.task(note) as progress:
            made = worker.run(_SCRIPT, request, target, python=environment.python, progress=progress, keep_partial=True)
    except BaseException:
        _end_compilers(desk)
        raise
    facts = {
        "name": name,
        "source": made.pop("llama_cpp"),
        **made,
        "options": request["options"],
        "target": request["target"],
    }
    records.save(facts, target / MARKER)
    shutil.rmtree(desk, ignore_errors=True)
    return target


def _end_compilers(desk: Path) -> None:
    """Those that a stopped build left: ninja puts each in a process group of its own, so that no signal to ours reaches them."""
    for process in psutil.process_iter(["cwd"]):
        if process.info["cwd"] and desk in (at := Path(process.info["cwd"]), *at.parents):
            with contextlib.suppress(psutil.Error):  # it ended by itself
                process.kill()


def _programs(name: str) -> tuple[str, ...]:
    """Of `native` the one that the laptop's own runtime is held against, in half the time."""
    return ("llama-bench",) if name == NATIVE else PROGRAMS


def _options(name: str) -> tuple[str, ...]:
    """cmake's. Those of `native` are what llama-cpp-python is compiled with."""
    if name != NATIVE:
        return (*_OPTIONS, *_CROSS)
    given = environments.spec(environments.script("llama_cpp")).build_environment["CMAKE_ARGS"]
    return (*_OPTIONS, *(word for word in shlex.split(given) if word.startswith("-DGGML_")))


def _target(name: str) -> Path:
    spec = environments.spec(_SCRIPT)
    made_of: list[object] = [spec.dependencies, _options(name), PROGRAMS]
    if name == NATIVE:
        made_of += [environments.compiler(), platform.machine(), _processor()]
    else:
        made_of += [ZIG.dependencies, CLASSES[name].cpu]
    return cache() / f"{name}-{records.digest_value(made_of)[:12]}"


def _added(name: str) -> Path:
    return cache() / f"{name}-added"


def _processor() -> str:
    """What -march=native depends on."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))]
        return hashlib.sha256("\n".join(sorted(set(told))).encode()).hexdigest()
    return platform.processor()


def _zig(environment: environments.Environment) -> str:
    code = "import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).with_name('zig'))"
    told = subprocess.run([environment.python, "-I", "-c", code], capture_output=True, text=True, check=True)
    return told.stdout.strip()


def _jobs() -> int:
    """Compilers at a time: as many as there are cores for us, and memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(psutil.virtual_memory().available / _JOB_BYTES)))


def _known(name: str) -> str:
    if name not in (*CLASSES, NATIVE):
        raise EdgeError(f"no class {name!r} of processors", f"there are: {', '.join((*CLASSES, NATIVE))}")
    return name


# --- what there is ----------------------------------------------------------------------------------------------------


def _folders() -> list[Path]:
    return sorted(f for f in cache().iterdir() if f.is_dir()) if cache().is_dir() else []


def _entry(name: str, folder: Path) -> Json:
    whole = (folder / MARKER).exists()
    facts: Json = records.read_json(folder / MARKER) if whole else {}
    state = ("added" if folder.name.endswith("-added") else "built") if whole else "not built"
    size = sum(f.stat().st_size for f in folder.iterdir()) / 1e6 if whole else None
    about = CLASSES[name].about if name in CLASSES else "llama-bench for this machine, as llama-cpp-python is compiled"
    return {"name": name, "state": state, "about": about, "megabytes": size, "path": str(folder), "facts": facts}


# --- the user's own ---------------------------------------------------------------------------------------------------


def _given(path: Path) -> dict[str, Path]:
    """Program -> file."""
    if path.is_dir():
        found = {program: path / program for program in PROGRAMS if (path / program).is_file()}
        if PROGRAMS[0] not in found:
            hint = "give the folder (bin, build/bin) that holds it, or the file"
            raise EdgeError(f"{path}: no {PROGRAMS[0]} in it", hint)
        return found
    if not path.is_file():
        raise EdgeError(f"{path}: no such file", f"give {PROGRAMS[0]}, or a folder with it")
    named = next((program for program in PROGRAMS if path.name.startswith(program)), None)
    if not named:
        hint = f"give {PROGRAMS[0]}, or a folder with it"
        raise EdgeError(f"{path}: its name is none of {', '.join(PROGRAMS)}", hint)
    return {named: path}


def _checked(file: Path, libraries: list[str]) -> Json:
    """What a program is. Raises EdgeError if it is not for aarch64, or lacks libraries that no system has."""
    elf = read_elf(file)
    if elf.machine != _AARCH64:
        raise EdgeError(
            f"{file}: built for {_MACHINES.get(elf.machine, f'ELF machine {elf.machine}')}, not for aarch64",
            "take the release for Linux or Android on arm64",
        )
    lacking = [name for name in elf.needed if name not in libraries and not name.startswith(_SYSTEM_LIBRARIES)]
    if lacking:
        raise EdgeError(
            f"{file}: it needs {', '.join(lacking)}, which do not lie beside it",
            "give the whole folder of the release, or a static program (`edge runners build` makes one)",
        )
    system = "" if not elf.interpreter else "android" if "linker" in elf.interpreter else "linux"
    facts = {"bytes": file.stat().st_size, "sha256": records.digest_file(file), "page_bytes": elf.page_bytes}
    return {**facts, "system": system}


@dataclass(frozen=True)
class Elf:
    """The head of an ELF file. interpreter: what loads it, "" if it is static; page_bytes: what its segments are aligned to."""

    machine: int
    interpreter: str = ""
    needed: tuple[str, ...] = ()
    page_bytes: int = 0


def read_elf(file: Path) -> Elf:
    """Raises EdgeError for a file that is none, or is cut short."""
    data = file.read_bytes()
    if data[:4] != b"\x7fELF":
        raise EdgeError(f"{file}: not a Linux program (no ELF header)", "give the binary, not an archive or a script")
    try:
        machine = int(struct.unpack_from("<H", data, 18)[0])
        return _segments(data, machine) if data[4] == 2 else Elf(machine)  # 2: 64-bit
    except (struct.error, ValueError):
        raise EdgeError(f"{file}: cut short", "copy it again") from None


def _segments(data: bytes, machine: int) -> Elf:
    offset, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    heads = [struct.unpack_from("<IIQQQQQQ", data, offset + n * size) for n in range(count)]
    for _, _, begin, _, _, length, _, _ in heads:
        if begin + length > len(data):
            raise struct.error
    loads = [h for h in heads if h[0] == 1]
    interpreter = next(
        (data[h[2] : h[2] + h[5]].rstrip(b"\0").decode(errors="replace") for h in heads if h[0] == 3), ""
    )
    dynamic = next((data[h[2] : h[2] + h[5]] for h in heads if h[0] == 2), b"")
    entries = [struct.unpack_from("<qQ", dynamic, at) for at in range(0, len(dynamic) - 15, 16)]
    strings = next((_place(value, loads) for tag, value in entries if tag == 5), 0)
    needed = tuple(_text(data, strings + value) for tag, value in entries if tag == 1)
    return Elf(machine, interpreter, needed, min((h[7] for h in loads), default=0))


def _place(address: int, loads: list[tuple[int, ...]]) -> int:
    """Where in the file an address of memory lies."""
    for _, _, begin, virtual, _, length, _, _ in loads:
        if virtual <= address < virtual + length:
            return begin + address - virtual
    raise struct.error


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode(errors="replace")
