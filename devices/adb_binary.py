# /// script
# requires-python = ">=3.9"
# dependencies = ["adbutils==2.12.0"]
#
# [tool.edge]
# megabytes = 40
# environment = "adb"
# about = "adb, which is not installed here"
# ///
"""Which adb is used: the user's own (ADB, the search path, the Android SDK), else the one that the package adbutils brings."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from edge import environments
from edge.console import Console
from edge.errors import MissingError

_BRINGS = "import adbutils, pathlib; print(pathlib.Path(adbutils.__file__).parent / 'binaries' / 'adb')"


def find(console: Console) -> str:
    """The adb to call. Raises MissingError if ADB names one that isn't there, or none can be had."""
    named = os.environ.get("ADB")
    if named:
        if not shutil.which(named):
            raise MissingError(f"ADB is {named!r}, and no such program is there", "unset it, or name adb's path")
        return named
    sdks = [os.environ.get(name) for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT")]
    here = [shutil.which("adb"), *(shutil.which("adb", path=str(Path(s) / "platform-tools")) for s in sdks if s)]
    return next((path for path in here if path), None) or _brought(console)


def _brought(console: Console) -> str:
    environment = environments.ensure(environments.spec(Path(__file__)), console)
    told = subprocess.run([environment.python, "-I", "-c", _BRINGS], capture_output=True, text=True, check=False)
    binary = told.stdout.strip()
    if told.returncode or not os.access(binary, os.X_OK):
        raise MissingError(
            "no adb here", "install it (Debian: apt install adb; macOS: brew install android-platform-tools)"
        )
    return binary
