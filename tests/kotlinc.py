"""A real Kotlin compiler for tests, from npm into the cache; and what it compiled, run by java.

Where there is neither java nor npm, the tests that need them are skipped and say so. As root on Debian, as a CI is, java is
installed.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import filelock
import pytest

from edge import environments
from edge.records import digest_value

VERSION = "2.4.20"
STUBS = Path(__file__).with_name("kotlin")
_JAVA = ("-Xmx1200m", "-Xss8m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


@functools.cache
def home() -> Path:
    """The compiler's folder. Skips the test where it can't be had."""
    if not shutil.which("java") and shutil.which("apt-get") and os.geteuid() == 0:
        for words in (["update", "-q"], ["install", "-yq", "--no-install-recommends", "openjdk-17-jre-headless"]):
            subprocess.run(["apt-get", *words], capture_output=True, check=False, timeout=600)
    folder = environments.cache().parent / f"kotlin-compiler-{VERSION}"
    compiler = folder / "node_modules" / "kotlin-compiler"
    lacks = [name for name in ("java", "npm") if not shutil.which(name) and not (name == "npm" and compiler.exists())]
    if lacks:
        pytest.skip(f"generated Kotlin is NOT compiled here: {' and '.join(lacks)} not found")
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".lock"):
        if not (folder / "whole").exists():
            command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
            done = subprocess.run(
                [*command, f"kotlin-compiler@{VERSION}"], capture_output=True, text=True, check=False, timeout=600
            )
            if done.returncode:
                pytest.skip(f"generated Kotlin is NOT compiled here: npm has no compiler: {done.stderr[-300:]}")
            (folder / "whole").touch()
    return compiler


@functools.cache
def stubs() -> Path:
    """Our stand-ins for what phones have, compiled once."""
    sources = sorted(STUBS.glob("*.kt"))
    key = digest_value([VERSION, *(f.read_text(encoding="utf-8") for f in sources)])[:12]
    out = home().parents[1] / f"stubs-{key}"
    with filelock.FileLock(f"{out}.lock"):
        if not out.exists():
            status, said = _compile(sources, Path(f"{out}.partial"), [])
            assert status == 0, said
            Path(f"{out}.partial").rename(out)
    return out


def compile(sources: list[Path], out: Path) -> tuple[int, str]:
    """The compiler's status and what it said; a warning is an error."""
    return _compile(sources, out, ["-cp", str(stubs()), "-Werror"])


def _compile(sources: list[Path], out: Path, more: list[str]) -> tuple[int, str]:
    kotlin = home()
    arguments = out.with_suffix(".arguments")
    arguments.parent.mkdir(parents=True, exist_ok=True)
    arguments.write_text("\n".join(map(str, [*more, "-d", out, *sources])))
    command = [
        "java",
        *_JAVA,
        "-cp",
        str(kotlin / "lib" / "kotlin-compiler.jar"),
        "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler",
    ]
    done = subprocess.run(
        [*command, "-kotlin-home", str(kotlin), f"@{arguments}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    return done.returncode, done.stdout + done.stderr


def run(out: Path, main: str, *arguments: str, properties: dict[str, str] | None = None) -> str:
    """What a compiled program printed. Raises AssertionError with what it said if it failed."""
    path = os.pathsep.join(map(str, [out, stubs(), home() / "lib" / "kotlin-stdlib.jar"]))
    settings = [f"-D{name}={value}" for name, value in (properties or {}).items()]
    command = ["java", *_JAVA, *settings, "-cp", path, main, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
