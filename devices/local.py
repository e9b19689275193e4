"""This machine: the reference that the other devices are like."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import psutil

from edge.worker import Channel

_THERMAL = ("coretemp", "k10temp", "cpu_thermal", "acpitz")


class Local:
    name = "local"

    def __enter__(self) -> Local:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def start(self, script: Path, *, python: Path, log: IO[bytes], env: dict[str, str]) -> Channel:
        return Channel(script, python=python, log=log, env=env)

    def facts(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "model": _first_line("/sys/devices/virtual/dmi/id/product_name"),
            "cpu": _cpu_name() or platform.processor() or None,
            "machine": platform.machine(),
            "cores": psutil.cpu_count(logical=False),
            "logical_cores": psutil.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
            "os": f"{platform.system()} {platform.release()}",
            "emulated": False,
        }

    def vitals(self) -> dict[str, Any]:
        clock = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
        return {
            "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "temperature_c": _temperature(),
            "clock_hz": clock.current * 1e6 if clock and clock.current else None,
        }


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
