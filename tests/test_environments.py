"""Pinned environments: what a script asks for, built for real by uv, side by side, and again after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from edge import environments, machine, worker
from edge.console import Console
from edge.errors import EdgeError, MissingError, WorkerError

WORKERS = Path(__file__).parent / "workers"
QUIET = Console(quiet=True)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def script(folder: Path, dependencies: str = "[]", extra: str = "") -> Path:
    file = folder / "thing.py"
    file.write_text(f'# /// script\n# requires-python = ">=3.11"\n# dependencies = {dependencies}\n{extra}# ///\n')
    return file


def test_every_worker_and_runtime_names_exact_versions():
    assert {"gguf", "quantise", "tune", "llama_cpp", "transformers"} <= {s.stem for s in environments.scripts()}
    for file in environments.scripts():
        it = environments.spec(file)
        assert it.pins, f"{file.name} has no .pins: make pins"
        assert all("==" in d for d in (*it.dependencies, *it.pins)), file
        assert {d.partition("[")[0].lower() for d in it.dependencies} <= {p.lower() for p in it.pins}, (
            f"{file.name}: make pins"
        )


def test_scripts_with_equal_needs_share_an_environment():
    key = {s.stem: environments.spec(s).folder for s in environments.scripts()}
    assert key["quantise"] == key["llama_cpp"] and key["tune"] == key["transformers"]


def test_no_block_is_an_error(tmp_path):
    (tmp_path / "bare.py").write_text("print(1)\n")
    with pytest.raises(EdgeError, match=r"bare\.py: no PEP 723 block"):
        environments.spec(tmp_path / "bare.py")


def test_unknown_worker_names_those_that_exist():
    with pytest.raises(EdgeError) as caught:
        environments.script("ggfu")
    assert "gguf" in caught.value.hint


def test_key_depends_on_pins(tmp_path):
    file = script(tmp_path)
    before = environments.spec(file).key
    file.with_suffix(".pins").write_text("numpy==2.4.6\n")
    assert environments.spec(file).key != before


def test_key_is_of_the_interpreter_not_of_the_virtual_environment(tmp_path):
    """A second clone must find what the first has built."""
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(other)], check=True)
    code = (
        f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}\n"
        "from pathlib import Path; from edge import environments as e; print(e.spec(Path(sys.argv[1])).key)"
    )
    command = [str(other / "bin" / "python"), "-c", code, str(WORKERS / "numpy2.py")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert told == environments.spec(WORKERS / "numpy2.py").key


def test_missing_compiler_is_said_with_its_remedy(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(environments, "compiler", lambda: None)
    it = environments.spec(script(tmp_path, extra='# [tool.edge]\n# needs = ["c++"]\n'))
    assert "apt install g++" in environments.missing(it)
    with pytest.raises(MissingError, match="needs a C\\+\\+ compiler"):
        environments.ensure(it, QUIET)


def test_a_full_disk_is_said_before_anything_is_downloaded(tmp_path, cache):
    it = environments.spec(script(tmp_path, extra="# [tool.edge]\n# megabytes = 900000000\n"))
    with pytest.raises(MissingError, match="takes 900000000 MB") as caught:
        environments.ensure(it, QUIET)
    assert "EDGE_CACHE" in caught.value.hint and not it.folder.exists()


@pytest.mark.slow
def test_two_numpy_generations_in_one_run(cache, tmp_path):
    found = {}
    for it, built in environments.build_all([WORKERS / "numpy1.py", WORKERS / "numpy2.py"], QUIET):
        found[it.name] = worker.run(WORKERS / f"{it.name}.py", {}, tmp_path / it.name, python=built.python)["numpy"]
        assert f"numpy=={found[it.name]}" in built.facts["packages"]
    assert found == {"numpy1": "1.26.4", "numpy2": "2.4.6"}


@pytest.mark.slow
def test_a_failed_build_says_why_and_is_not_taken_for_whole(tmp_path, cache):
    it = environments.spec(script(tmp_path, '["numpy==0.0.999"]'))
    with pytest.raises(WorkerError, match=r"(?s)could not be built.*numpy"):
        environments.ensure(it, QUIET)
    assert environments.read(it) is None


@pytest.mark.slow
def test_a_build_that_was_killed_is_begun_again(cache):
    it = environments.spec(WORKERS / "numpy2.py")
    code = (
        "import sys; from pathlib import Path; from edge import environments as e; from edge.console import Console\n"
        "e.ensure(e.spec(Path(sys.argv[1])), Console(quiet=True))"
    )
    build = subprocess.Popen(
        [sys.executable, "-c", code, str(WORKERS / "numpy2.py")], env=dict(os.environ), start_new_session=True
    )
    while not it.folder.exists() and build.poll() is None:
        time.sleep(0.002)
    build.send_signal(signal.SIGKILL)  # the host alone: what it started must end by itself
    build.wait()
    time.sleep(1)
    assert environments.read(it) is None and it.folder.exists()
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(it.folder) in str(p.info["cmdline"])]
    assert environments.ensure(it, QUIET).facts["packages"] == ["numpy==2.4.6"]


@pytest.mark.slow
def test_clean_removes_what_is_half_built(cache):
    it = environments.spec(environments.script("gguf"))
    it.folder.mkdir(parents=True)
    (cache / "environments" / "other-0123").mkdir()
    states = {e["name"]: e["state"] for e in machine.environments_here()}
    assert states["gguf"] == "half-built" and states["other-0123"] == "unused"
    assert set(machine.clean()) == {it.folder.name, "other-0123"}
    assert not it.folder.exists()


def test_what_runners_adb_and_the_suites_use_is_not_unused(cache):
    """Else `edge env clean` takes away what `edge runners build` has built."""
    used = {name: it.folder.name for _, it in machine.specs() for name in [it.name]}
    assert {"zig", "llama-source", "adb", "litetune", "litert-lm-cli"} <= set(used)
    for folder in (*used.values(), "zig-0123"):
        (cache / "environments" / folder).mkdir(parents=True)
        (cache / "environments" / folder / environments.MARKER).write_text("{}")
        (cache / "environments" / folder / "bin").mkdir()
        (cache / "environments" / folder / "bin" / "python").touch()
    assert machine.clean() == ["zig-0123"]
    states = {e["name"]: e["state"] for e in machine.environments_here()}
    assert states["zig"] == states["llama-source"] == states["litetune"] == states["litert-lm-cli"] == "built"


def test_every_name_that_is_listed_can_be_built():
    for script, it in machine.specs():
        assert machine.named(it.name) == it and (script in ("runners", "agreement") or machine.named(script) == it)
    with pytest.raises(EdgeError) as caught:
        machine.named("troch")
    assert "serve" in caught.value.hint and "torch" in caught.value.hint and "tune" in caught.value.hint


def test_sizes_are_of_files_alone_and_said_while_they_are_summed(tmp_path, cache, capsys):
    folder = cache / "environments" / "old-0123" / "deep"
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(bytes(2_000_000))
    (folder / "link").symlink_to(folder / "a")
    (folder / "up").symlink_to(folder.parent)
    (old,) = [e for e in machine.environments_here(Console()) if e["state"] == "unused"]
    assert old["megabytes"] == 2.0 and "sizes" in capsys.readouterr().err


def test_doctor_says_what_each_thing_is_for():
    checks = {c.name: c for c in machine.doctor()}
    assert set(checks) == {"disk", "memory", "uv", "C++ compiler", "GPU", "ssh", "adb", "hub login"}
    assert all(c.purpose and c.remedy and "to come" not in c.purpose for c in checks.values())
    assert checks["uv"].ok and checks["uv"].found.startswith("uv ")


def test_doctor_never_shows_a_token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert "hf_secret" not in str(machine.doctor())
