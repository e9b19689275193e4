"""This machine: the reference that the other devices are like."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import psutil

from edge import environments
from edge.console import Console
from edge.devices import Agent, Done
from edge.worker import python_channel

_THERMAL = ("coretemp", "k10temp", "cpu_thermal", "acpitz")


AGENT = Path(__file__).resolve().parents[1] / "bench" / "agent.py"
_POLL_S = 0.02


class Local:
    name = kind = "local"
    stop = threading.Event()  # nothing here takes long
    _throttles: int | None = None

    def __enter__(self) -> Local:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def run(self, argv: Sequence[str], timeout_s: float = 60.0) -> Done:
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as late:
            return Done(None, _text(late.stdout), _text(late.stderr))
        return Done(done.returncode, done.stdout, done.stderr)

    def push(self, path: Path, digest: str) -> str:
        return str(path)

    def pull(self, there: str, here: Path) -> None:
        shutil.copy2(there, here)

    @contextlib.contextmanager
    def forward(self, port: int) -> Iterator[int]:
        yield port

    def lacks(self, runtime: str) -> str | None:
        if runtime == "llama_server":
            return "is for other devices; on this machine llama_cpp is the same llama.cpp"
        lack = environments.missing(environments.spec(environments.script(runtime)))
        return f"needs {lack}" if lack else None

    def environment(self, runtime: str, console: Console) -> environments.Environment:
        return environments.ensure(environments.spec(environments.script(runtime)), console)

    @contextlib.contextmanager
    def agent(
        self, runtime: str, path: str, options: dict[str, Any], environment: environments.Environment, log: IO[bytes]
    ) -> Iterator[Agent]:
        env = variables(runtime)
        with python_channel(AGENT, python=environment.python, log=log, env=env) as channel, Watch(channel.pid) as watch:
            yield Agent(channel, path, options, watch.peak)

    def facts(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "model": _first_line("/sys/devices/virtual/dmi/id/product_name"),
            "cpu": _cpu_name() or platform.processor() or None,
            "machine": platform.machine(),
            "cores": psutil.cpu_count(logical=False),
            "logical_cores": psutil.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
            "os": f"{platform.system()} {platform.release()}",
            "features": _features(),
            "governor": _governor(),
            "emulated": False,
        }

    def _throttled(self) -> bool | None:
        """Whether a core was slowed since this was asked last."""
        before, self._throttles = self._throttles, _throttles()
        if self._throttles is None:
            return None
        return before is not None and self._throttles > before

    def vitals(self) -> dict[str, Any]:
        clock = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
        return {
            "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "temperature_c": _temperature(),
            "clock_hz": clock.current * 1e6 if clock and clock.current else None,
            "throttled": self._throttled(),
            "throttled_since_boot": bool(self._throttles) if self._throttles is not None else None,
            "energy_j": _energy(),
            "power_w": None,
            "available_bytes": psutil.virtual_memory().available,
        }


def _governor() -> str | None:
    """What sets the clocks; several where cores differ."""
    files = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    return " ".join(sorted({g for f in files if (g := _first_line(str(f)))})) or None


def _throttles() -> int | None:
    """How often a core was slowed for heat since the machine started, where the kernel counts it (x86)."""
    files = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    counts = [int(f.read_text()) for f in files]
    return sum(counts) if counts else None


class Watch:
    """The memory of a process as seen from outside, sampled until the end of the `with`."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peak, self._done = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def peak(self) -> int | None:
        """Bytes; None if it ended before it was seen."""
        return self._peak or None

    def _watch(self) -> None:
        with contextlib.suppress(psutil.Error):  # it ended
            process = psutil.Process(self._pid)
            while not self._done.wait(_POLL_S):
                self._peak = max(self._peak, process.memory_info().rss)


def variables(runtime: str) -> dict[str, str]:
    """What a runtime wants in its environment's variables."""
    module = importlib.import_module(f"edge.bench.runtimes.{runtime}")
    return dict(getattr(module, "ENVIRONMENT", {}))


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def _features() -> list[str]:
    """Of the processor, as the kernel names them; none where it does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return next((sorted(line.split(":", 1)[1].split()) for line in lines if line.startswith(("flags", "Features"))), [])


def _energy() -> float | None:
    """Joules that the package has used since some moment, where the kernel lets a user read it (RAPL)."""
    try:
        return int(Path("/sys/class/powercap/intel-rapl:0/energy_uj").read_text()) / 1e6
    except (OSError, ValueError):
        return None


def _cpu_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text().strip() or None
    except OSError:
        return None


def _temperature() -> float | None:
    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    return next((float(sensors[name][0].current) for name in _THERMAL if sensors.get(name)), None)
