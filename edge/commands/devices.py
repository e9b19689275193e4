"""`edge devices`: the machines that artifacts are measured on.

Errors are caught by `edge/cli.py`. Library imports stand inside the commands, so that `edge --help` is quick.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edge.commands.options import AS_JSON, QUIET
from edge.errors import DeviceError, EdgeError

if TYPE_CHECKING:
    from edge.devices.inventory import Entry

_MARKS = {"ok": "✓", "note": "·", "warning": "!", "error": "✗"}
# Of a processor's features those that decide what runs there, and how fast.
_TELLING = (
    "asimddp",
    "asimdhp",
    "atomics",
    "bf16",
    "i8mm",
    "sme",
    "sve",
    "avx",
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
)


@click.group(invoke_without_command=True)
@AS_JSON
@QUIET
@click.pass_context
def devices(context: click.Context, as_json: bool, quiet: bool) -> None:
    """The machines to measure on: this one, computers over ssh, phones over adb. Without a command: ask all of them.

    They are written down in devices.toml in your configuration folder (EDGE_CONFIG overrides it); `local` is always there.

    \b
    edge devices
    edge devices add pi5 ssh:pi@raspberrypi.local
    edge devices add phone adb:28271FDH2004FV
    edge devices doctor pi5
    """
    if context.invoked_subcommand is None:
        _list((), as_json, quiet)
    else:
        context.default_map = {
            context.invoked_subcommand: {"as_json": as_json, "quiet": quiet}
        }  # flags before it count too


@devices.command("list")
@click.argument("names", nargs=-1)
@AS_JSON
@QUIET
def list_(names: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """What devices are, how they are now, and what each can run: NAMES, or all. One that is named must answer (else exit code 5)."""
    _list(names, as_json, quiet)


def _list(names: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    from edge.console import Console
    from edge.devices import survey

    entries = _entries(names)
    with Console(quiet) as console, console.task(f"asking {', '.join(e.name for e in entries)}"):
        found = survey.look_all(entries)
    click.echo(json.dumps(found, ensure_ascii=False) if as_json else "\n\n".join(map(_block, found)))
    _exit_if(bool(names) and any(one["error"] for one in found))


def _entries(names: tuple[str, ...]) -> list[Entry]:
    from edge.devices import inventory

    return [inventory.get(name) for name in dict.fromkeys(names)] if names else list(inventory.entries().values())


def _exit_if(failed: bool) -> None:
    """What went wrong was shown already."""
    if failed:
        raise click.exceptions.Exit(DeviceError.exit_code)


@devices.command()
@click.argument("name")
@click.argument("address")
@click.option("--folder", metavar="PATH", help="Where ours lies there [default: ~/.cache/edge; /data/local/tmp/edge].")
@click.option(
    "--python", metavar="PATH", help='ssh: the Python there [default: python3]; adb: "bundle" takes one along.'
)
@click.option("--config", metavar="FILE", help="ssh: a configuration file instead of ~/.ssh/config.")
@click.option("--adb", metavar="FILE", help="adb: the program to run [default: adb].")
@AS_JSON
@QUIET
def add(
    name: str,
    address: str,
    folder: str | None,
    python: str | None,
    config: str | None,
    adb: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write down a device and look at it. ADDRESS: ssh:[user@]host[:port], adb:SERIAL, or local (this machine by another name).

    Keys only, no passwords: `ssh user@host true` must work without a question. One that does not answer now is kept.

    \b
    edge devices add pi5 ssh:pi@raspberrypi.local
    edge devices add phone adb:28271FDH2004FV
    """
    from edge.console import Console
    from edge.devices import inventory, survey

    entry = inventory.add(name, address, folder=folder, python=python, config=config, adb=adb)
    with Console(quiet) as console, console.task(f"asking {name}"):
        told = survey.look(entry)
    click.echo(json.dumps(told, ensure_ascii=False) if as_json else _block(told))
    if told["error"] and not as_json:
        click.echo(f"{name} is written down in {inventory.path()} all the same", err=True)


@devices.command()
@click.argument("name")
@AS_JSON
def remove(name: str, as_json: bool) -> None:
    """Forget the device NAME. What was pushed to it stays there: `edge devices clean NAME` before."""
    from edge.devices import inventory

    gone = inventory.remove(name)
    told = {"removed": name, "address": gone.address}
    click.echo(json.dumps(told) if as_json else f"removed {name} ({gone.address})")


@devices.command()
@click.argument("names", nargs=-1)
@AS_JSON
@QUIET
def doctor(names: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Say what is wrong with NAMES (default: all), or would make their figures worse, and what to do. Exit code 5 if nothing runs."""
    from edge.console import Console
    from edge.devices import survey

    found = {}
    with Console(quiet) as console:
        for entry in _entries(names):
            with console.task(f"examining {entry.name}"):
                found[entry.name] = survey.doctor(entry)
    if as_json:
        click.echo(json.dumps({name: [asdict(f) for f in these] for name, these in found.items()}, ensure_ascii=False))
    else:
        click.echo("\n".join(line for name, these in found.items() for line in [name, *map(_line, these)]))
    _exit_if(any(f.level == "error" for these in found.values() for f in these))


def _line(finding: Any) -> str:
    hint = f"\n      {finding.hint}" if finding.hint else ""
    return f"  {_MARKS[finding.level]} {finding.text}{hint}"


@devices.command()
@click.argument("names", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Say what lies there, and remove nothing.")
@AS_JSON
@QUIET
def clean(names: tuple[str, ...], dry_run: bool, as_json: bool, quiet: bool) -> None:
    """Remove everything of ours from NAMES (default: all but this machine), and say what it was."""
    from edge import locks
    from edge.console import Console
    from edge.devices import inventory

    told: dict[str, Any] = {}
    with Console(quiet) as console:
        for entry in _entries(names):
            if entry.kind == "local":
                continue
            try:
                busy = DeviceError(
                    f"{entry.name}: an edge bench measures there now", "wait until it is done, or stop it"
                )
                with (
                    contextlib.nullcontext() if dry_run else locks.only_one(inventory.lock(entry), busy),
                    console.task(f"looking through {entry.name}"),
                    inventory.device(entry) as device,
                ):
                    lying = device.pushed() if dry_run else device.clean()
                told[entry.name] = {"files": [{"path": path, "bytes": size} for path, size in lying], "error": None}
            except EdgeError as error:
                told[entry.name] = {"files": [], "error": error.to_json()}
    if as_json:
        click.echo(json.dumps({"removed": not dry_run, "devices": told}, ensure_ascii=False))
    else:
        click.echo(
            "\n".join(line for name, one in told.items() for line in _cleaned(name, one, dry_run))
            or "no device but this machine"
        )
    _exit_if(any(one["error"] for one in told.values()))


def _cleaned(name: str, told: dict[str, Any], dry_run: bool) -> list[str]:
    if told["error"]:
        return [f"{name}: {told['error']['message']}", f"  {told['error']['hint'] or ''}".rstrip()]
    files = told["files"]
    if not files:
        return [f"{name}: nothing of ours lies there"]
    total = sum(f["bytes"] for f in files) / 1e6
    head = f"{name}: {len(files)} {'lie there' if dry_run else 'removed'}, {total:.1f} MB"
    return [head, *(f"  {f['bytes'] / 1e6:>9.1f} MB  {f['path']}" for f in files)]


# --- showing ----------------------------------------------------------------------------------------------------------


def _block(told: dict[str, Any]) -> str:
    """A device in some lines, the first starting with its name."""
    if told["error"]:
        lines = [f"{told['address']}: not reached: {told['error']['message']}", told["error"]["hint"] or ""]
    else:
        lines = [
            _what(told["address"], told["facts"]),
            _made_of(told["facts"]),
            _now(told["facts"], told["vitals"], told["disk_free_bytes"]),
            *_runtimes(told["runtimes"]),
        ]
    head, *rest = [line for line in lines if line]
    return "\n".join([f"{told['name']:<12} {head}", *(f"{'':<12} {line}" for line in rest)])


def _what(address: str, facts: dict[str, Any]) -> str:
    emulated = " [emulated: its speed means nothing]" if facts.get("emulated") else ""
    return f"{facts.get('model') or facts.get('machine') or 'unknown'} ({address}){emulated}"


def _made_of(facts: dict[str, Any]) -> str:
    telling = [f for f in facts.get("features") or () if f in _TELLING]
    cores = facts.get("cores")
    parts = [
        facts.get("soc"),
        facts.get("cpu"),
        f"{cores} cores" if cores else None,
        f"({' '.join(telling)})" if telling else None,
        _gigabytes(facts.get("memory_bytes"), "of memory"),
        facts.get("os"),
        "32-bit" if facts.get("bits") == 32 else None,
        f"Python {facts['python']}" if facts.get("python") else None,
    ]
    return ", ".join(p for p in parts if p).replace(", (", " (")


def _now(facts: dict[str, Any], vitals: dict[str, Any], free: int | None) -> str:
    clock, most = vitals.get("clock_hz"), facts.get("max_clock_hz")
    of = f" of {most / 1e9:.1f}" if most else ""
    temperature = vitals.get("temperature_c")
    load = vitals.get("load_average")
    parts = [
        None if temperature is None else f"{temperature:.0f} °C",
        "throttled" if vitals.get("throttled") else None,
        None if clock is None else f"{clock / 1e9:.1f}{of} GHz",
        f"governor {facts['governor']}" if facts.get("governor") else None,
        None if load is None else f"load {load:.1f}",
        _gigabytes(vitals.get("available_bytes"), "of memory free"),
        _gigabytes(free, "of disk free"),
    ]
    said = ", ".join(p for p in parts if p)
    return f"now: {said}" if said else ""


def _gigabytes(size: float | None, what: str) -> str | None:
    return None if size is None else f"{size / 1e9:.1f} GB {what}"


def _runtimes(runtimes: dict[str, str | None]) -> list[str]:
    able = [name for name, lack in runtimes.items() if not lack]
    return [f"runs {', '.join(able) or 'nothing'}", *(f"not {name}: {lack}" for name, lack in runtimes.items() if lack)]
