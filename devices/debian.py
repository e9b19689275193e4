"""Debian packages without installing them: apt chooses and verifies them in a folder of its own, dpkg-deb unpacks them.

No root, no maintainer script, and nothing of this machine's package state is touched. The Debian release is fixed, the mirror
is the one that this machine's own apt names.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edge.errors import MissingError, WorkerError

SUITE = "bookworm"
SUITES = (SUITE, f"{SUITE}-updates", f"{SUITE}-backports")
EXCLUDED = ("./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./usr/share/info", "./usr/share/lintian")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def refuse_elsewhere(what: str) -> None:
    """Raises MissingError where Debian's tools are not at hand."""
    lack = [p for p in ("apt-get", "dpkg-deb", "tar") if not shutil.which(p)]
    if lack:
        raise MissingError(f"{what} built from Debian packages, and there is no {' and no '.join(lack)} here",
                           "do it on Debian or Ubuntu, or in a container of it")  # fmt: skip


class Apt:
    """apt with lists, cache and state of its own, for one architecture, as if nothing were installed.

    backports: names to take from there.
    """

    def __init__(self, where: Path, architecture: str, backports: Sequence[str] = ()) -> None:
        for name in ("lists/partial", "archives/partial"):
            (where / name).mkdir(parents=True)
        (where / "status").touch()
        key = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
        (where / "sources.list").write_text("".join(f"deb {key}{mirror()} {suite} main\n" for suite in SUITES))
        pin = f"Package: {' '.join(backports)}\nPin: release n={SUITES[-1]}\nPin-Priority: 900\n"
        (where / "preferences").write_text(pin if backports else "")
        options = {
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "",  # the user _apt may not read here
            "Acquire::Languages": "none",
            "Dir::State": where,
            "Dir::State::lists": "lists",
            "Dir::State::status": where / "status",
            "Dir::Cache": where,
            "Dir::Log": where,
            "Dir::Etc::SourceList": where / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": where / "preferences",
            "Dir::Etc::PreferencesParts": "/dev/null",
        }
        self._archives = where / "archives"
        self._command = ["apt-get", "--yes", "--quiet", *(w for k, v in options.items() for w in ("-o", f"{k}={v}"))]
        run([*self._command, "update"])

    def download(self, packages: Sequence[str]) -> list[Path]:
        """These packages and all that they depend on, verified."""
        for old in self._archives.glob("*.deb"):
            old.unlink()
        run([*self._command, "install", "--download-only", *packages])
        return sorted(self._archives.glob("*.deb"))


def mirror() -> str:
    """The Debian mirror of this machine's apt. Raises MissingError if it has none."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT)", "Created-By: Packages"]
    for line in run(asked).splitlines():
        address, _, component = line.rpartition(" ")
        if component == "main" and address.rstrip("/").endswith("/debian"):
            return address
        if component == "main" and "/archive/debian/" in address:  # a mirror of one day
            return address
    raise MissingError(
        "this machine's apt names no Debian mirror, from which this is built",
        "do it in a Debian container",
    )


def unpack(packages: list[Path], root: Path, only: list[str] | None = None) -> None:
    """Files of these packages, owned by us; symbolic links to folders stay."""
    root.mkdir(exist_ok=True)
    rules = [f"--exclude={name}" for name in EXCLUDED] if only is None else only
    unpack = ["tar", "--extract", "--keep-directory-symlink", "--no-same-owner", "--directory", str(root), *rules]
    for package in packages:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as source:
            done = subprocess.run(unpack, stdin=source.stdout, stderr=subprocess.PIPE, text=True, check=False)
        if source.returncode or done.returncode:
            raise WorkerError(f"{package.name} could not be unpacked: {done.stderr.strip()}")


def names(packages: list[Path]) -> list[str]:
    """name=version of each."""
    parts = [p.stem.replace("%3a", ":").split("_") for p in packages]
    return [f"{name}={version}" for name, version, _ in parts]


def run(command: list[str], env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-8:]
        raise WorkerError(f"{command[0]} failed (exit code {done.returncode}):\n" + "\n".join(said))
    return done.stdout
