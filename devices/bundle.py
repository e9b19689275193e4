"""A Python for Android, so that LiteRT-LM, LiteRT and ONNX Runtime run on a phone without an app. Experimental.

Android's C library is not the one that packages are made for, so a glibc and a Python of Debian's go along, and are started
through their own loader: `ld-linux-aarch64.so.1 --library-path … python3.11`. It ran under Debian's adbd as the shell user; on
a phone it has not been tried. `python = "bundle"` in devices.toml asks for it.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from pathlib import Path

import filelock

from edge.console import Console
from edge.devices import debian, site
from edge.records import Json, digest_file, digest_value, read_json, save

NAME, VERSION, LIBC = "bundle", "3.11", "glibc 2.36"
_WANTED = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "libgomp1")
# Only maintainer scripts and what no agent imports need these.
_UNNEEDED = ("debconf", "dpkg", "perl", "libperl", "media-types", "tzdata", "adduser", "gcc-12-base", "netbase", "readline-common",
             "libssl", "libkrb5", "libdb5", "libsqlite", "libtirpc", "libnsl", "libgssapi", "libk5crypto", "libcom-err",
             "libkeyutils", "ca-certificates", "openssl", "sensible-utils", "ucf", "tar_", "libacl", "libmd0", "libpcre2",
             "libselinux", "libzstd", "libreadline", "libncursesw", "libtinfo")  # fmt: skip
_DROP = ("usr/lib/python3.11/test", "usr/lib/python3.11/ensurepip", "usr/lib/python3.11/idlelib", "usr/lib/python3.11/lib2to3",
         "usr/lib/python3.11/distutils", "usr/lib/python3.11/pydoc_data", "usr/sbin", "usr/lib/aarch64-linux-gnu/gconv")  # fmt: skip
_LIBRARIES = "usr/lib/aarch64-linux-gnu"


def facts(device: Json) -> Json:
    """What site.py has to know of a device whose Python is the bundle's."""
    return {**device, "python": f"{VERSION}.2", "libc": LIBC, "machine": "aarch64"}


def command(folder: str) -> list[str]:
    """How the interpreter is started there; PYTHONHOME has to be `home(folder)`."""
    libraries = f"{folder}/{_LIBRARIES}"
    return [f"{libraries}/ld-linux-aarch64.so.1", "--library-path", libraries, f"{folder}/usr/bin/python3.11"]


def home(folder: str) -> str:
    return f"{folder}/usr"


def ensure(console: Console) -> tuple[Path, str]:
    """The packed bundle and its sha256, made now if need be.

    Raises MissingError where Debian's tools are not at hand, WorkerError with apt's words.
    """
    key = digest_value([_WANTED, _UNNEEDED, _DROP, debian.SUITE, 1])[:12]
    marker = site.cache() / f"android-python-{key}.json"
    packed = marker.with_suffix(".tar.gz")
    marker.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{packed}.lock"):
        if not marker.exists():
            debian.refuse_elsewhere("a Python for Android is")
            with console.task("a Python for Android (some 10 MB of Debian packages)"):
                packages = _pack(packed)
            save({"packages": packages, "sha256": digest_file(packed)}, marker)
    return packed, str(read_json(marker)["sha256"])


def _pack(packed: Path) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="edge-bundle-") as desk:
        root = Path(desk) / "root"
        for name in ("bin", "lib", "sbin"):  # merged, as on every Debian of today
            (root / "usr" / name).mkdir(parents=True)
            (root / name).symlink_to(f"usr/{name}")
        found = debian.Apt(Path(desk) / "apt", "arm64").download(_WANTED)
        kept = [p for p in found if not p.name.startswith(_UNNEEDED)]
        debian.unpack(kept, root)
        for name in _DROP:
            shutil.rmtree(root / name, ignore_errors=True)
        partial = packed.with_name(f"{packed.name}.partial")
        with tarfile.open(partial, "w:gz", compresslevel=6) as archive:
            archive.add(root / "usr", "usr", filter=site.plain)
        partial.replace(packed)
        return debian.names(kept)
