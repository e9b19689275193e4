"""Which devices there are: `devices.toml` in the user's configuration folder, or in EDGE_CONFIG if that is set.

    [pi5]
    address = "ssh:pi@raspberrypi.local"      ssh:[user@]host[:port], adb:SERIAL, or local
    folder = "/mnt/ssd/edge"                  where ours lies there; default ~/.cache/edge, /data/local/tmp/edge
    python = "/usr/local/bin/python3.12"      ssh: instead of the python3 there; adb: "bundle", see edge/devices/bundle.py
    config = "~/.ssh/lab"                     ssh: a configuration file instead of ~/.ssh/config
    adb = "/opt/platform-tools/adb"           adb: which one to run

Keys only: a password in it is refused, as is everything that is not in this list. `local` is always there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import platformdirs
import tomllib

from edge import archive
from edge.devices.local import Local
from edge.errors import EdgeError
from edge.records import digest_value, write_text

KINDS = ("local", "ssh", "adb")
LAPTOP = "laptop"  # this machine too, unless a device is called so
_OPTIONS = {"folder": ("ssh", "adb"), "python": ("ssh", "adb"), "config": ("ssh",), "adb": ("adb",)}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_HOST = re.compile(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[\w.-]+)?")  # a name, or IPv6
_SECRET = re.compile(r"pass|pwd|secret|token|credential", re.IGNORECASE)
_KEYS_ONLY = (
    "devices are reached with keys only: take it out, then `ssh-copy-id` once, and `ssh-add` for a key's passphrase"
)


@dataclass(frozen=True)
class Entry:
    """One device as it was written down."""

    name: str
    kind: str
    target: str = ""  # ssh: [user@]host; adb: the serial
    port: int | None = None
    folder: str | None = None
    python: str | None = None
    config: str | None = None
    adb: str | None = None

    @property
    def address(self) -> str:
        return (
            self.kind if self.kind == "local" else f"{self.kind}:{self.target}" + (f":{self.port}" if self.port else "")
        )


def path() -> Path:
    """Where it is written down."""
    given = os.environ.get("EDGE_CONFIG")
    return (Path(given).expanduser() if given else platformdirs.user_config_path("edgecall")) / "devices.toml"


def entries() -> dict[str, Entry]:
    """All of them, by name; `local` first. Raises EdgeError naming file and line."""
    found = _parse(path(), _text(path()))
    return {"local": Entry("local", "local"), **found}


def get(name: str) -> Entry:
    """The one of this name; `laptop` is this machine unless it is another. Raises EdgeError naming those there are."""
    known = entries()
    if name == LAPTOP and name not in known:
        return known["local"]
    if name not in known:
        raise EdgeError(
            f"no device {name!r}", f"there are: {', '.join(known)}; another: edge devices add {name} ssh:user@host"
        )
    return known[name]


def lock(entry: Entry) -> Path:
    """Who uses the device holds it: among all processes of this user one at a time (edge/locks.py)."""
    return archive.cache().parent / "locks" / f"device-{digest_value(entry.address)[:16]}.lock"


def device(entry: Entry) -> Any:
    """What edge.devices describes, not yet entered."""
    if entry.kind == "local":
        here = Local()
        here.name = entry.name
        return here
    if entry.kind == "adb":
        from edge.devices.adb import FOLDER, Adb

        return Adb(entry.name, entry.target, entry.folder or FOLDER, entry.adb, entry.python)
    from edge.devices.ssh import Ssh

    return Ssh(entry.name, entry.target, entry.port, entry.folder, entry.python, entry.config)


def add(name: str, address: str, **options: str | None) -> Entry:
    """Write one down. Raises EdgeError for a name that is taken, an address that is none, a password."""
    file = path()
    values = {"address": address, **{k: v for k, v in options.items() if v}}
    entry = _entry(name, values, lambda key: f"{name!r}")
    with _locked(file):
        text = _text(file)
        if name == "local":
            raise EdgeError(
                "there is a device 'local' already: this machine", f"another name: edge devices add NAME {address}"
            )
        if name in _parse(file, text):
            raise EdgeError(f"there is a device {name!r} already", f"another name, or: edge devices remove {name}")
        lines = "".join(f"{key} = {_quoted(value)}\n" for key, value in values.items())
        new = f"{text.rstrip()}\n\n[{name}]\n{lines}".lstrip()
        _parse(file, new)
        write_text(file, new)
    return entry


def remove(name: str) -> Entry:
    """Forget one; comments and the others stay as they are. What lies on the device stays too (`edge devices clean`)."""
    file = path()
    with _locked(file):
        text = _text(file)
        known = _parse(file, text)
        if name not in known:
            hint = "`local` is always there" if name == "local" else f"there are: {', '.join(known) or 'none'}"
            raise EdgeError(f"no device {name!r} in {file}", hint)
        lines = text.splitlines(keepends=True)
        start = _line(lines, name) - 1
        end = next((n for n in range(start + 1, len(lines)) if lines[n].lstrip().startswith("[")), len(lines))
        new = "".join(lines[:start] + lines[end:])
        if set(_parse(file, new)) != set(known) - {name}:
            raise EdgeError(f"{file}: [{name}] is written in a way that can't be taken out", "edit the file")
        write_text(file, new)
    return known[name]


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{file}.lock"):
        yield


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise EdgeError(f"{file}: not UTF-8", "save the file as UTF-8") from None


def _parse(file: Path, text: str) -> dict[str, Entry]:
    lines = text.splitlines()
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EdgeError(f"{file}: not TOML: {error}") from None
    found = {}
    for name, values in tables.items():
        if not isinstance(values, dict) and _SECRET.search(name):
            raise EdgeError(f"{file}, line {_line(lines, None, name)}: {name} in the list of devices", _KEYS_ONLY)
        if not isinstance(values, dict):
            raise EdgeError(
                f"{file}, line {_line(lines, None, name)}: {name} stands outside of a device",
                f"write it under [NAME], as: {_EXAMPLE}",
            )
        found[name] = _entry(name, values, lambda key, name=name: f"{file}, line {_line(lines, name, key)}")
    return found


_EXAMPLE = '[pi5] address = "ssh:pi@raspberrypi.local"'


def _entry(name: str, values: dict[str, Any], where: Any) -> Entry:
    """where(key) says where in a file a key stands, for messages."""
    if not _NAME.fullmatch(name):
        raise EdgeError(f"{where(None)}: {name!r} is no name for a device", "letters, digits, - and _")
    for key, value in values.items():
        if _SECRET.search(key):
            raise EdgeError(f"{where(key)}: {key} in the list of devices", _KEYS_ONLY)
        if key != "address" and key not in _OPTIONS:
            raise EdgeError(f"{where(key)}: unknown key {key!r}", f"there are: address, {', '.join(_OPTIONS)}")
        if not isinstance(value, str) or not value or not value.isprintable():
            raise EdgeError(f"{where(key)}: {key} is {value!r:.60}, not a text")
    if "address" not in values:
        raise EdgeError(f"{where(None)}: device {name!r} has no address", f"such as: {_EXAMPLE}")
    kind, target, port = _address(values["address"], where("address"))
    for key in values:
        if key != "address" and kind not in _OPTIONS[key]:
            raise EdgeError(f"{where(key)}: {key} means nothing for {kind}", f"it is for {' and '.join(_OPTIONS[key])}")
    if kind == "adb" and not re.fullmatch(r"(/[\w.-]+)+", values.get("folder", "/x")):
        raise EdgeError(
            f"{where('folder')}: folder is {values['folder']!r}",
            "an absolute path of letters, digits, - _ and ., such as /data/local/tmp/edge",
        )
    if kind == "ssh" and not re.fullmatch(r"(/|~/).*|[^/~].*", values.get("folder", "/")):
        raise EdgeError(
            f"{where('folder')}: folder is {values['folder']!r}", "an absolute path, or one from the home: ~/edge"
        )
    return Entry(name, kind, target, port, **{k: v for k, v in values.items() if k != "address"})


def _address(text: str, where: str) -> tuple[str, str, int | None]:
    """ "ssh:pi@host:22" -> ("ssh", "pi@host", 22)"""
    hint = "ssh:[user@]host[:port], adb:SERIAL or local"
    if text == "local":
        return "local", "", None
    kind, mark, rest = re.sub("^ssh://", "ssh:", text).partition(":")
    if kind not in KINDS[1:] or not mark or not rest:
        raise EdgeError(f"{where}: {text!r:.60} is no address", hint)
    if kind == "adb":
        if not re.fullmatch(r"[A-Za-z0-9][\w.:()-]*", rest):
            raise EdgeError(f"{where}: {rest!r:.60} is no serial", "one that `adb devices` lists")
        return kind, rest, None
    user, at, place = rest.rpartition("@")
    if ":" in user:
        raise EdgeError(f"{where}: a password in the address", _KEYS_ONLY)  # and it is not repeated here
    host, port = place, None
    match = re.fullmatch(r"(.+):(\d+)", place)
    if match and (place.startswith("[") or place.count(":") == 1):
        host, port = match[1], int(match[2])
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not _HOST.fullmatch(host) or host.startswith("-") or (at and not re.fullmatch(r"[\w][\w.+-]*", user)):
        raise EdgeError(f"{where}: {text!r:.60} is no address", hint)
    if port is not None and not 0 < port < 65536:
        raise EdgeError(f"{where}: there is no port {port}", hint)
    return kind, f"{user}{at}{host}", port


def _line(lines: list[str], table: str | None, key: str | None = None) -> int:
    """From 1: of a table's head, or of a key in it."""
    start = 0
    if table is not None:
        head = re.compile(rf"\s*\[\s*[\"']?{re.escape(table)}[\"']?\s*\]")
        dotted = re.compile(rf"\s*[\"']?{re.escape(table)}[\"']?\s*[.=]")
        start = next((n for n, line in enumerate(lines) if head.match(line) or dotted.match(line)), 0)
    if key is None:
        return start + 1
    named = re.compile(rf"(\s*|.*[.{{,]\s*)[\"']?{re.escape(key)}[\"']?\s*=")
    return next((n for n, line in enumerate(lines) if n >= start and named.match(line)), start) + 1


def _quoted(text: str) -> str:
    """As a TOML basic string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
