"""Every failure that a user can meet, with its exit code.

    EdgeError            2   bad input: a file, a line, an option
    ├── MissingError     3   something that this machine lacks (a compiler, disk, a package)
    ├── WorkerError      4   a worker or a runtime said what went wrong
    │   └── WorkerCrash  4   it died without a word (signal, out of memory, time-out)
    ├── DeviceError      5   a device can't be reached or did not do what it was told
    └── GateError        6   a check refused to let an artifact pass

The library raises these and never prints; the command line catches them once. Assertions are for our own bugs.
Standard library only.
"""

from __future__ import annotations

from typing import Any, Optional


class EdgeError(Exception):
    """What failed, on which input, and what to do next.

    Args:
        message: what failed and on what; names the file and the line where there is one.
        hint: the remedy, one sentence, or None.
    """

    exit_code = 2
    kind = "input"

    def __init__(self, message: str, hint: Optional[str] = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "message": self.message, "hint": self.hint}


class MissingError(EdgeError):
    exit_code = 3
    kind = "missing"


class WorkerError(EdgeError):
    exit_code = 4
    kind = "worker"


class WorkerCrash(WorkerError):
    kind = "crash"


class DeviceError(EdgeError):
    exit_code = 5
    kind = "device"


class GateError(EdgeError):
    exit_code = 6
    kind = "gate"


_BY_KIND = {c.kind: c for c in (EdgeError, MissingError, WorkerError, WorkerCrash, DeviceError, GateError)}


def from_json(error: dict[str, Any]) -> EdgeError:
    """The error that a worker reported as `{"kind", "message", "hint"}`; an unknown kind is a WorkerError."""
    return _BY_KIND.get(error.get("kind", ""), WorkerError)(str(error.get("message")), error.get("hint"))
