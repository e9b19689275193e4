# /// script
# requires-python = ">=3.9"
# dependencies = ["llama-cpp-python==0.3.36", "cmake==4.4.4", "ninja==1.13.2"]
#
# [tool.edge]
# megabytes = 200
# environment = "llama-source"
# about = "llama.cpp's source, cmake and ninja"
# without = ["typing-extensions", "numpy", "diskcache", "jinja2"]
#
# [tool.edge.config-settings]
# "wheel.cmake" = "false"
# "wheel.packages" = "vendor/llama.cpp"
# "wheel.exclude" = "**/models/*.gguf*;**/docs/**;**/benches/**;**/media/**;**/tests/**"
# ///
"""llama.cpp's programs from its source, for this machine or another: what `devices/runners.py` asks for.

The source is that of llama-cpp-python's distribution, so that a device runs the llama.cpp that this machine runs. Its build
backend is told above to compile nothing and to install the source.

Request:
    options     -D options of cmake
    programs    what to build: "llama-server", …
    zig         the path of zig, which then compiles; None: this machine's own compilers
    target      with zig: its words for the target, such as ["-target", "aarch64-linux-musl", "-mcpu=generic"]
    jobs        compilers at a time
    out         the folder to fill; what a stopped build left in it is gone on with

Makes the programs. Answer: programs ({name: {"bytes", "sha256"}}), llama_cpp (what the source is of), compiler, build_s.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])

import re
import shlex
import shutil
import subprocess
import sysconfig
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edge.errors import WorkerError
from edge.records import digest_file

_STEP = re.compile(r"\[(\d+)/(\d+)\]")


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    out, started = Path(request["out"]), time.monotonic()
    build = out / "build"
    build.mkdir(exist_ok=True)
    env = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(build / "zig"), "ZIG_LOCAL_CACHE_DIR": str(build / "zig")}
    reply.progress(None, None, "configuring")
    try:
        _run([_tool("cmake"), *_configuration(request, build)], env, reply)
    except WorkerError:
        shutil.rmtree(build)  # cmake remembers what it found, a compiler that fails too
        raise
    command = [_tool("cmake"), "--build", str(build), "-j", str(request["jobs"]), "--target", *request["programs"]]
    _run(command, env, reply)
    for name in request["programs"]:
        shutil.move(str(build / "bin" / name), str(out / name))
    compiler = _compiler(build)
    shutil.rmtree(build)
    made = {
        name: {"bytes": (out / name).stat().st_size, "sha256": digest_file(out / name)} for name in request["programs"]
    }
    return {
        "programs": made,
        "llama_cpp": _source(),
        "compiler": compiler,
        "build_s": time.monotonic() - started,
    }


def _configuration(request: dict[str, Any], build: Path) -> list[str]:
    source = Path(sysconfig.get_path("purelib")) / "llama.cpp"
    words = ["-S", str(source), "-B", str(build), "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}"]
    words += ["-DCMAKE_BUILD_TYPE=Release", *request["options"]]
    # Else it asks git, which may find a repository of the user's around the cache.
    words += ["-DLLAMA_BUILD_NUMBER=0", f"-DLLAMA_BUILD_COMMIT={_source()}"]
    if request["zig"]:
        words += _zig(request["zig"], request["target"], build / "tools")
    return words


def _source() -> str:
    return f"llama-cpp-python-{version('llama-cpp-python')}"


def _zig(zig: str, target: list[str], folder: Path) -> list[str]:
    """cmake wants every tool to be one program: scripts that call zig as each of them."""
    folder.mkdir(exist_ok=True)
    for name in ("cc", "c++", "ar", "ranlib"):
        # -O2: without it zig builds its own C++ library twice, for cmake's questions and for the programs.
        words = [zig, name, *(["-O2", *target] if name.startswith("c") else [])]
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (folder / name).chmod(0o755)
    return [
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        f"-DCMAKE_C_COMPILER={folder / 'cc'}",
        f"-DCMAKE_CXX_COMPILER={folder / 'c++'}",
        f"-DCMAKE_AR={folder / 'ar'}",
        f"-DCMAKE_RANLIB={folder / 'ranlib'}",
    ]


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _run(command: list[str], env: dict[str, str], reply: Any) -> None:
    """Runs it; its words go to the log, its count to the screen. Raises WorkerError with its last errors."""
    process = subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    said: list[str] = []
    assert process.stdout
    for line in process.stdout:
        sys.stderr.write(line)
        said.append(line.rstrip())
        step = _STEP.match(line)
        if step:
            reply.progress(int(step[1]), int(step[2]), "compiling")
    if process.wait():
        first = next((n for n, line in enumerate(said) if re.search(r"\berror\b", line, re.IGNORECASE)), len(said) - 12)
        wrong = [line for line in said[max(0, first) :] if line.strip()]
        raise WorkerError("llama.cpp could not be built:\n" + "\n".join(wrong[:12]))


def _compiler(build: Path) -> str:
    """As cmake identified it, such as "Clang 22.1.8"."""
    told = "\n".join(f.read_text() for f in build.glob("CMakeFiles/*/CMakeCXXCompiler.cmake"))
    found = [re.search(rf'CMAKE_CXX_COMPILER_{what} "([^"]*)"', told) for what in ("ID", "VERSION")]
    return " ".join(match[1] for match in found if match)


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
