"""What `edge devices` shows: every device asked at once, what it is, how it is now, what it can run; and what is wrong with one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.bench.runtimes import READS
from edge.devices import inventory, probe
from edge.devices.inventory import Entry
from edge.errors import EdgeError
from edge.records import Json

_HERE = ("transformers", *dict.fromkeys(runtime for runtimes in READS.values() for runtime in runtimes))
_SPARE_BYTES = 500e6  # of disk: the packages of a runtime and a model
_GOVERNORS = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
_HOT_C, _BUSY = 75.0, 0.5  # a Pi slows down at 80; load average a core


@dataclass(frozen=True)
class Finding:
    """level: "error" (nothing can be measured), "warning" (figures will suffer), "note", "ok"."""

    level: str
    text: str
    hint: str | None = None


def look_all(entries: Sequence[Entry]) -> list[Json]:
    """`look` at all of them side by side."""
    with ThreadPoolExecutor(max_workers=max(1, len(entries))) as pool:
        return list(pool.map(look, entries))


def look(entry: Entry) -> Json:
    """{"name", "address", "kind", "error": None or {"kind", "message", "hint"}, "facts", "vitals", "disk_free_bytes", "runtimes"}.

    runtimes: name -> None if it runs there, else why not. Never raises what a device did: that is its `error`.
    """
    told: Json = {"name": entry.name, "address": entry.address, "kind": entry.kind, "error": None, "facts": None,
                  "vitals": None, "disk_free_bytes": None, "runtimes": {}}  # fmt: skip
    try:
        with _open(entry) as device:
            told["facts"], told["vitals"] = device.facts(), device.vitals()
            told["disk_free_bytes"] = _disk(device, told["vitals"])
            names = _HERE if entry.kind == "local" else probe.ON_DEVICES
            told["runtimes"] = {runtime: device.lacks(runtime) for runtime in names}
    except EdgeError as error:
        told["error"] = error.to_json()
    return told


def doctor(entry: Entry) -> list[Finding]:
    """What is wrong with a device, and what would make its figures worse. The first is the way there."""
    told = look(entry)
    if told["error"]:
        return [Finding("error", told["error"]["message"], told["error"]["hint"])]
    facts, vitals = told["facts"], told["vitals"]
    found = [Finding("ok", f"{entry.address} answers: {facts['model'] or facts['cpu'] or facts['machine']}")]
    if facts.get("emulated"):
        found.append(Finding("note", "it is emulated: its figures are never shown as a device's"))
    if entry.kind != "local":
        found.append(_ours(entry))
    able = [name for name, lack in told["runtimes"].items() if not lack]
    found.append(Finding("ok" if able else "error", f"runs {', '.join(able) or 'nothing'}"))
    found += [Finding("note", f"{name}: {lack}") for name, lack in told["runtimes"].items() if lack]
    return found + _now(entry, facts, vitals, told["disk_free_bytes"])


def _open(entry: Entry) -> Any:
    device = inventory.device(entry)
    device.tries = 1  # nobody waits here for a device that is off
    return device


def _disk(device: Any, vitals: Json) -> int | None:
    if device.kind == "local":
        return shutil.disk_usage(Path.home()).free
    ask = getattr(device, "disk_free_bytes", None)
    return ask() if ask else vitals.get("disk_free_bytes")


def _ours(entry: Entry) -> Finding:
    try:
        with _open(entry) as device:
            if hasattr(device, "refuse_busy"):
                device.refuse_busy()
            lying = device.pushed()
    except EdgeError as error:
        return Finding("error", error.message, error.hint)
    if not lying:
        return Finding("ok", "nothing of ours lies there")
    size = sum(size for _, size in lying) / 1e6
    return Finding("note", f"{len(lying)} things of ours lie there, {size:.0f} MB", f"edge devices clean {entry.name}")


def _now(entry: Entry, facts: Json, vitals: Json, free: int | None) -> list[Finding]:
    found = []
    governor = facts.get("governor")
    if governor and governor != "performance" and entry.kind != "adb":
        hint = f"while measuring: echo performance | sudo tee {_GOVERNORS}"
        found.append(Finding("warning", f"its clock follows the load (governor {governor})", hint))
    if vitals.get("throttled"):
        found.append(
            Finding("warning", "it is slowed down now: too hot, or too little power", "cool it; a Pi 5 wants 5 V 5 A")
        )
    if (vitals.get("temperature_c") or 0) > _HOT_C:
        found.append(
            Finding("warning", f"it is at {vitals['temperature_c']:.0f} °C", "let it cool down, or give it a fan")
        )
    load, cores = vitals.get("load_average"), facts.get("logical_cores") or 1
    if load and load > _BUSY * cores:
        found.append(
            Finding(
                "warning", f"other work runs there (load average {load:.1f} on {cores} cores)", "`top` there tells what"
            )
        )
    if free is not None and free < _SPARE_BYTES:
        hint = f"free some, or: edge devices clean {entry.name}"
        found.append(Finding("warning", f"{free / 1e6:.0f} MB of disk are free there", hint))
    return found
