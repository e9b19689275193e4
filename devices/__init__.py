"""One file per kind of device: `local`, `ssh`, `adb`. This is what each of them is and does; `inventory.py` says which there are.

A device is a context manager; what it holds open (a connection, a forward) ends with it. Failures of the way there (no
route, a refused key, a lost cable) are DeviceErrors with what to do; failures of what runs there are the agent's own.

name, kind               what a report calls it; "local", "ssh" or "adb"
facts() -> dict          what it is: {"name", "kind", "model", "cpu", "machine", "cores", "logical_cores", "memory_bytes", "os",
                         "features", "emulated", …}; None where it does not tell. Read once; part of what makes two
                         measurements the same, so nothing in it may change by itself
vitals() -> dict         how it is now: VITALS; None where it does not tell, never 0
run(argv, timeout_s) -> Done     a command there
push(path, digest) -> str        the place there of a file or folder, by digest: what lies there whole is not sent again,
                                 what was cut off goes on; local: the path itself
pull(there, here)
forward(port) -> ContextManager[int]     a port here that leads to a port there
lacks(runtime) -> str | None     why a runtime can't run there, as a sentence with the remedy; None if it can
environment(runtime, console) -> Environment    what the runtime runs in there, made if need be; `python` is a path there
agent(runtime, path, options, environment, log) -> ContextManager[Agent]    a process ready to load `path` (there) in `runtime`;
                         it ends with the `with`, and by itself when the connection does
stop                     an Event, set by another thread: what takes long raises Stopped soon after
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Optional

from edge.errors import DeviceError
from edge.worker import Channel

VITALS = (
    "load_average",
    "temperature_c",
    "clock_hz",
    "throttled",
    "throttled_since_boot",
    "energy_j",
    "power_w",
    "available_bytes",
)


@dataclass(frozen=True)
class Done:
    """What a command left. A status of None: it was ended by its time limit."""

    status: Optional[int]
    out: str
    err: str


@dataclass(frozen=True)
class Agent:
    """A process that speaks bench/agent.py's protocol, and what to load in it. Nothing is loaded yet."""

    channel: Channel
    path: str  # of the artifact, where the agent runs
    options: dict[str, Any]  # for the runtime's load(); a device may have added its own
    peak_rss_bytes: Callable[[], Optional[int]] = lambda: None  # seen from outside, so far


class Lost(DeviceError):
    """Of the kind that may pass: a device that starts again, a network that comes back."""


class Full(DeviceError):
    """There is no room there for what was sent. What needs less still goes on there."""


class Stopped(Exception):
    """Somebody wants this to end (Ctrl-C in another thread); nothing failed."""
