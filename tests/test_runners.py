"""llama.cpp's programs for devices: classes, the user's own; and (slow) compiled for real, run under qemu, stopped half-way."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from edge import environments, records
from edge.commands.runners import runners as command
from edge.console import Console
from edge.devices import runners
from edge.errors import EdgeError, MissingError

QUIET = Console(quiet=True)
A72 = {"fp", "asimd", "evtstrm", "crc32", "cpuid"}
A76 = A72 | {"atomics", "fphp", "asimdhp", "asimdrdm", "lrcpc", "dcpop", "asimddp", "aes", "sha2"}
PROGRAMS = runners.PROGRAMS


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path / "cache"))
    return runners.cache()


def elf(machine: int = 183, interpreter: str = "", needed: tuple[str, ...] = (), pages: int = 1 << 16) -> bytes:
    """A 64-bit ELF file with one segment that holds all of it, and no code."""
    strings = b"\0" + b"".join(n.encode() + b"\0" for n in needed)
    offsets = [1 + sum(len(n) + 1 for n in needed[:k]) for k in range(len(needed))]
    heads_at, count = 64, 1 + bool(interpreter) + bool(needed)
    name_at = heads_at + 56 * count
    strings_at = name_at + len(interpreter) + 1
    dynamic_at = strings_at + len(strings)
    dynamic = b"".join(struct.pack("<qQ", *e) for e in [(5, 0x400000 + strings_at), *((1, o) for o in offsets), (0, 0)])
    end = dynamic_at + len(dynamic)
    heads = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, end, end, pages)
    if interpreter:
        size = len(interpreter) + 1
        heads += struct.pack("<IIQQQQQQ", 3, 4, name_at, name_at, name_at, size, size, 1)
    if needed:
        heads += struct.pack("<IIQQQQQQ", 2, 6, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), 8)
    head = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    return head + heads + interpreter.encode() + b"\0" + strings + dynamic


def write(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return folder / name


# --- classes ----------------------------------------------------------------------------------------------------------


def test_a_processor_gets_the_best_class_that_it_can_run() -> None:
    assert runners.class_of(A76) == "armv8.2" and runners.class_of(A72) == "armv8.0"
    for lacking in ("atomics", "asimddp", "asimdhp", "fphp", "asimdrdm", "crc32"):
        assert runners.class_of(A76 - {lacking}) == "armv8.0", lacking
    with pytest.raises(MissingError, match="64-bit Arm"):
        runners.class_of({"half", "thumb", "neon", "vfpv4"})  # a 32-bit system on the same processor


def test_unknown_class_names_those_that_exist(cache: Path) -> None:
    for call in (
        runners.find,
        runners.require,
        lambda name: runners.build(name, QUIET),
        lambda n: runners.add(Path("x"), n),
    ):
        with pytest.raises(EdgeError) as told:
            call("armv9")
        assert "armv8.2" in str(told.value.hint) and told.value.exit_code == 2


def test_none_yet_is_said_with_the_command(cache: Path) -> None:
    assert runners.find("armv8.0") is None
    with pytest.raises(MissingError) as told:
        runners.require("armv8.0")
    assert told.value.hint == "edge runners build --for armv8.0"


def test_what_goes_into_a_build_names_its_folder(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    names = {runners._target(name).name for name in (*runners.CLASSES, runners.NATIVE)}
    assert len({name.rpartition("-")[2] for name in names}) == 3
    before = runners._target("armv8.2"), runners._target(runners.NATIVE)
    monkeypatch.setattr(runners, "_processor", lambda: "another")
    assert runners._target("armv8.2") == before[0] and runners._target(runners.NATIVE) != before[1]
    monkeypatch.setattr(runners, "_CROSS", ("-DGGML_OPENMP=ON",))
    assert runners._target("armv8.2") != before[0]


def test_native_is_compiled_as_the_runtime_is() -> None:
    given = environments.spec(environments.script("llama_cpp")).build_environment["CMAKE_ARGS"]
    assert "-DGGML_NATIVE=ON" in given and "-DGGML_NATIVE=ON" in runners._options(runners.NATIVE)
    ours = environments.spec(runners._SCRIPT).dependencies
    assert set(environments.spec(environments.script("llama_cpp")).dependencies) & set(ours)  # one version of llama.cpp
    assert all("==" in pin for pin in environments.spec(runners._SCRIPT).pins)


def test_no_compiler_is_said_with_what_to_install(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "compiler", lambda: None)
    with pytest.raises(MissingError, match=r"C\+\+ compiler") as told:
        runners.build(runners.NATIVE, QUIET)
    assert "apt install g++" in str(told.value.hint) and told.value.exit_code == 3


# --- the user's own ---------------------------------------------------------------------------------------------------


def test_a_static_program_is_taken_and_goes_before_ours(cache: Path, tmp_path: Path) -> None:
    ours = write(runners._target("armv8.2"), "llama-server", b"ours")
    assert runners.find("armv8.2") is None  # no marker yet: half-built
    records.save({"programs": {"llama-server": {}}}, ours.parent / runners.MARKER)
    assert runners.find("armv8.2") == ours and runners.libraries(ours) == []
    data = elf()
    runners.add(write(tmp_path / "mine", "llama-server-b9999", data), "armv8.2")
    found = runners.find("armv8.2")
    assert found and found != ours and found.read_bytes() == data and found.stat().st_mode & 0o111
    assert runners.libraries(found) == [] and runners.find("armv8.0") is None
    facts = records.read_json(found.parent / runners.MARKER)["programs"]["llama-server"]
    assert facts == {"bytes": len(data), "sha256": records.digest_file(found), "page_bytes": 1 << 16, "system": ""}


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        (b"#!/bin/sh\n", "not a Linux program", "not an archive or a script"),
        (elf(62), "built for x86-64, not for aarch64", "arm64"),
        (elf(40), "built for 32-bit Arm", "arm64"),
        (elf(12345), "ELF machine 12345", "arm64"),
        (elf()[:70], "cut short", "copy it again"),
        (elf(needed=("libllama.so.0", "libc.so.6"))[:-20], "cut short", "copy it again"),
        (
            elf(interpreter="/lib/ld-linux-aarch64.so.1", needed=("libc.so.6", "libllama.so.0")),
            "needs libllama.so.0,",
            "folder",
        ),
    ],
)
def test_what_would_not_run_is_refused(cache: Path, tmp_path: Path, data: bytes, message: str, hint: str) -> None:
    with pytest.raises(EdgeError) as told:
        runners.add(write(tmp_path, "llama-server", data), "armv8.2")
    assert message in told.value.message and hint in str(told.value.hint) and "llama-server" in told.value.message
    assert runners.find("armv8.2") is None


def test_this_machines_own_programs_are_refused(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "llama-server").symlink_to(Path(sys.executable).resolve())
    if runners.read_elf(tmp_path / "llama-server").machine == 183:
        pytest.skip("an Arm machine")
    with pytest.raises(EdgeError, match="not for aarch64"):
        runners.add(tmp_path, "armv8.2")


def test_what_is_no_runner_is_said(cache: Path, tmp_path: Path) -> None:
    write(tmp_path, "llama.zip", elf())
    for path, message in ((tmp_path / "gone", "no such file"), (tmp_path, "no llama-server in it"),
                          (tmp_path / "llama.zip", "its name is none of")):  # fmt: skip
        with pytest.raises(EdgeError, match=message):
            runners.add(path, "armv8.2")
    with pytest.raises(EdgeError, match="native is what is compiled"):
        runners.add(tmp_path, "native")


@pytest.mark.parametrize(
    ("interpreter", "system", "other"),
    [("/lib/ld-linux-aarch64.so.1", "linux", "android"), ("/system/bin/linker64", "android", "linux")],
)
def test_a_release_with_its_libraries_is_for_one_system(
    cache: Path, tmp_path: Path, interpreter: str, system: str, other: str
) -> None:
    """As upstream's: programs, and the libraries that they need beside them, some of them links to others."""
    write(tmp_path, "libllama.so.0", b"a library")
    (tmp_path / "libllama.so").symlink_to("libllama.so.0")
    write(tmp_path, "llama-bench", elf(interpreter=interpreter, needed=("libllama.so.0", "libc.so")))
    write(tmp_path, "llama-server", elf(interpreter=interpreter, needed=("libllama.so.0", "libm.so.6")))
    write(tmp_path, "README", b"more")
    runners.add(tmp_path, "armv8.0")
    assert runners.find("armv8.0") is None and runners.find("armv8.0", system=other) is None
    found = runners.find("armv8.0", "llama-bench", system)
    assert found
    beside = runners.libraries(found)
    assert {f.name: f.read_bytes() for f in beside} == dict.fromkeys(("libllama.so", "libllama.so.0"), b"a library")
    assert {f.name for f in found.parent.iterdir()} == {
        "libllama.so", "libllama.so.0", "llama-bench", "llama-server", runners.MARKER,
    }  # fmt: skip


# --- what there is ----------------------------------------------------------------------------------------------------


def test_list_and_clean(cache: Path, tmp_path: Path) -> None:
    built, old, stopped = runners._target("armv8.0"), cache / "armv8.0-0123456789ab", cache / "native-0123.worker"
    for folder in (built, old):
        write(folder, "llama-server", b"x" * 2_000_000)
        records.save({"programs": {"llama-server": {}}}, folder / runners.MARKER)
    write(stopped / "partial", "half", b"x")
    runners.add(write(tmp_path, "llama-server", elf()), "armv8.2")
    told = CliRunner().invoke(command, ["list", "--json"])
    found = {(it["name"], it["state"]) for it in json.loads(told.output)}
    assert found == {
        ("armv8.2", "not built"), ("armv8.2", "added"), ("armv8.0", "built"), ("armv8.0", "unused"), ("native", "not built"),
    }  # fmt: skip
    lines = CliRunner().invoke(command, ["list"]).output.splitlines()
    assert len(lines) == 5 and any(line.split()[:3] == ["armv8.0", "built", "2"] for line in lines)
    assert set(runners.clean()) == {old.name, stopped.name}
    assert runners.find("armv8.0") and runners.find("armv8.2") and not old.exists() and not stopped.exists()
    assert "removed armv8.2-added" in CliRunner().invoke(command, ["clean", "--all"]).output
    assert runners.find("armv8.0") is None and runners.find("armv8.2") is None


def test_clean_leaves_what_is_being_built(cache: Path) -> None:
    desk = cache / f"{runners._target('armv8.0').name}.worker"
    write(desk / "partial", "half", b"x")
    code = "import filelock, sys\nwith filelock.FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    lock = str(desk).removesuffix(".worker") + ".lock"
    with subprocess.Popen([sys.executable, "-c", code, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline()
        assert runners.clean(everything=True) == [] and desk.exists()
        holder.communicate()
    assert runners.clean() == [desk.name]


# --- on the real thing ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built() -> Path:
    """The programs for a Raspberry Pi 5 and phones, compiled once a cache."""
    return runners.build("armv8.2", QUIET)


@pytest.mark.slow
def test_the_programs_are_static_for_any_page_size(built: Path) -> None:
    for program in PROGRAMS:
        it = runners.read_elf(built / program)
        assert (it.machine, it.interpreter, it.needed) == (183, "", ()) and it.page_bytes >= 1 << 14, program
    facts = records.read_json(built / runners.MARKER)
    assert {k: v["sha256"] for k, v in facts["programs"].items()} == {
        p: records.digest_file(built / p) for p in PROGRAMS
    }
    assert facts["source"] == "llama-cpp-python-0.3.36" and "Clang" in facts["compiler"]
    assert [f.name for f in sorted(built.iterdir())] == sorted([runners.MARKER, *PROGRAMS])
    began = time.monotonic()
    assert runners.build("armv8.2", QUIET) == built and time.monotonic() - began < 5  # it is kept


@pytest.mark.slow
def test_the_programs_run_where_their_class_does(built: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from standins import build as disks

    qemu = disks.ensure(QUIET) / "qemu-aarch64"
    for cpu, ends in (("cortex-a76", 0), ("cortex-a72", -signal.SIGILL)):
        done = subprocess.run(
            [qemu, "-cpu", cpu, built / "llama-bench", "--version"], capture_output=True, text=True, check=False
        )
        assert done.returncode == ends, (cpu, done)
        if not ends:
            assert "llama-cpp-python-0.3.36" in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_was_stopped_is_never_taken_for_whole(cache: Path, how: signal.Signals) -> None:
    code = "from edge.devices import runners; from edge.console import Console; runners.build('native', Console())"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr
    for line in process.stderr:
        if "compiling" in line:
            break
    desk = next(cache.glob("native-*.worker"))
    while not at_work(desk, "cc1plus", "clang", "cc1"):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(how)  # to the host alone
    process.communicate(timeout=60)
    if how == signal.SIGKILL:
        runners._end_compilers(desk)  # which the next build begins with
    time.sleep(0.5)
    assert not at_work(desk)
    assert runners.find(runners.NATIVE, "llama-bench") is None
    assert {it["state"] for it in runners.listed()} == {"not built"}
    assert runners.clean() == [desk.name] and not desk.exists()


def at_work(desk: Path, *names: str) -> list[psutil.Process]:
    """Processes in that folder, of these names or of any."""
    there = [p for p in psutil.process_iter(["cwd", "name"]) if str(p.info["cwd"]).startswith(str(desk))]
    return [p for p in there if not names or p.info["name"] in names]
