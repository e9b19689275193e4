"""The disks of the emulated devices, from Debian packages alone: `make standins`, or `python tests/standins/build.py`.

Two aarch64 root folders (`pi`: OpenSSH and Python; `phone`: adbd, mksh, toybox) and the static qemu that runs them. apt
chooses and verifies the packages in a folder of its own, dpkg-deb unpacks them, no maintainer script runs: no root, no
emulation, nothing of this machine's package state is touched. What a maintainer script would have written lies in `files/`.
Built once, behind a lock and with the marker written last, under a key of this folder's content, in EDGE_CACHE.

The Debian release is fixed, the mirror is the one that this machine's own apt names.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

import filelock

from edge import environments
from edge.console import Console
from edge.devices import debian
from edge.errors import EdgeError, MissingError, WorkerError
from edge.records import read_json, save

MARKER = "standins.json"
# In bookworm proper, adbd doesn't answer today's adb, and qemu 7.2 dies in LiteRT-LM and shows the host's /proc/cpuinfo.
BACKPORTS = ("adbd", "android-*", "qemu-user")
DISKS = {
    "pi": [
        *("bash", "coreutils", "dash", "findutils", "grep", "gzip", "procps", "sed", "tar", "util-linux"),
        *("openssh-server", "openssh-sftp-server", "python3", "libpython3-stdlib"),
        *("libc-bin", "libgomp1", "libstdc++6", "libfaketime"),
    ],
    "phone": ["adbd", "libc-bin", "mksh", "toybox"],
}
# Only maintainer scripts need these.
_UNNEEDED = ("adduser", "debconf", "dpkg", "libperl", "perl", "sensible-utils", "sysvinit-utils", "ucf", "usrmerge")
# What the host needs: program -> package.
HOST = {"ssh": "openssh-client", "ssh-keygen": "openssh-client", "adb": "adb"}
_HERE = Path(__file__).resolve().parent


def folder() -> Path:
    """Where the disks lie, built or not."""
    return environments.cache().parent / "standins" / _key()


def ensure(console: Console) -> Path:
    """`folder()`, built now if need be. Raises MissingError for what this machine lacks, WorkerError with apt's words."""
    target = folder()
    if (target / MARKER).exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{target}.lock"):
        if not (target / MARKER).exists():
            with console.task("stand-ins: a Raspberry Pi and a phone (some 60 MB of Debian packages)"):
                _build(target)
    return target


def missing() -> str | None:
    """What the disks can't be built without, as a sentence; None if nothing, or if they are built."""
    if (folder() / MARKER).exists():
        return None
    try:
        debian.refuse_elsewhere("stand-ins are")
        debian.mirror()
    except (MissingError, WorkerError) as lack:
        return lack.message
    return None


def install(programs: dict[str, str], console: Console) -> None:
    """The Debian packages of these programs, where absent. Raises MissingError with the command if we aren't root."""
    packages = sorted({package for program, package in programs.items() if not shutil.which(program)})
    if not packages:
        return
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise MissingError(f"stand-ins need {', '.join(packages)}", f"as root: {' '.join(command)}")
    with console.task(f"apt-get install {' '.join(packages)}"):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for step in (["apt-get", "update", "--quiet"], command):
            debian.run(step, env)


def _build(target: Path) -> None:
    debian.refuse_elsewhere("stand-ins are")
    if target.exists():
        shutil.rmtree(target)
    target.mkdir()
    packages = {}
    with tempfile.TemporaryDirectory(prefix="edge-standins-") as name:
        host = debian.Apt(Path(name) / "host", _architecture(), BACKPORTS)
        arm = debian.Apt(Path(name) / "arm", "arm64", BACKPORTS)
        packages["qemu"] = debian.names(found := host.download(["qemu-user"]))
        debian.unpack([p for p in found if p.name.startswith("qemu-user_")], target, ["./usr/bin/qemu-aarch64"])
        (target / "usr/bin/qemu-aarch64").rename(target / "qemu-aarch64")
        shutil.rmtree(target / "usr")
        for disk, wanted in DISKS.items():
            packages[disk] = debian.names(found := arm.download(wanted))
            _disk(target, disk, [p for p in found if not p.name.startswith(_UNNEEDED)])
    save({"packages": packages, "built": time.strftime("%Y-%m-%d", time.gmtime())}, target / MARKER)


def _disk(target: Path, disk: str, packages: list[Path]) -> None:
    root = target / disk
    for name in ("bin", "lib", "sbin"):  # merged, as on every Debian of today
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    debian.unpack(packages, root)
    for name in ("dev", "proc", "sys", "run/sshd", "tmp", *(("home/pi/.ssh",) if disk == "pi" else ())):
        (root / name).mkdir(parents=True, exist_ok=True)
    if disk == "phone":
        _android(root, target / "qemu-aarch64")
    shutil.copytree(_HERE / "files" / disk, root, dirs_exist_ok=True)
    for file in (_HERE / "files" / disk).rglob("*"):
        if file.is_file() and file.read_bytes().startswith(b"#!"):
            (root / file.relative_to(_HERE / "files" / disk)).chmod(0o755)  # a checkout may have lost the bit


def _android(root: Path, qemu: Path) -> None:
    """Where Android has its programs and a user's files. toybox itself tells its commands."""
    system = root / "system" / "bin"
    system.mkdir(parents=True)
    (root / "data" / "local" / "tmp").mkdir(parents=True)
    told = debian.run([str(qemu), "-L", str(root), str(root / "usr/bin/toybox")])
    for command in ("toybox", *told.split()):
        (system / command).symlink_to("/usr/bin/toybox")
    (system / "sh").symlink_to("/usr/bin/mksh")
    (root / "usr" / "bin" / "sh").symlink_to("mksh")  # adbd starts /bin/sh


def _architecture() -> str:
    return debian.run(["dpkg", "--print-architecture"]).strip()


def _key() -> str:
    """Of all that the disks are made from. Package versions go into the marker: asking for them takes a network."""
    files = sorted(f for f in [_HERE / "build.py", *(_HERE / "files").rglob("*")] if f.is_file())
    files.append(Path(debian.__file__))
    content = b"".join(f"{f.name}\0".encode() + f.read_bytes() + b"\0" for f in files)
    return hashlib.sha256(content + platform.machine().encode()).hexdigest()[:12]


def main() -> int:
    with Console() as console:
        install(HOST, console)
        target = ensure(console)
    packages = read_json(target / MARKER)["packages"]
    print(f"{target}: {', '.join(f'{name} ({len(list_)} packages)' for name, list_ in packages.items())}")
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except EdgeError as error:
        print(f"{error.message}\n{error.hint or ''}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
