"""`edge bench`: artifacts on devices, in a matrix that goes on where it was. The library is `bench/matrix.py`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.commands.options import AS_JSON, QUIET
from edge.errors import DeviceError

if TYPE_CHECKING:
    from edge.bench.matrix import Outcome
    from edge.records import Measurement, Report

Json = dict[str, Any]
_PATH = click.Path(path_type=Path)
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """From "90", "90s", "10m" or "1.5h"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", value.strip()) if value is not None else None
    if value is not None and match is None:
        raise click.BadParameter(f"{value!r} is no time: 90s, 10m or 1.5h", context, parameter)
    return float(match[1]) * _UNITS[match[2]] if match else None


def counts(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Numbers of threads from "1,2,4"."""
    words = value.replace(" ", "") if value is not None else ""
    if value is not None and not re.fullmatch(r"[1-9]\d{0,2}(,[1-9]\d{0,2})*", words):
        raise click.BadParameter(f"{value!r}: numbers of threads, such as 4 or 1,2,4", context, parameter)
    return tuple(int(n) for n in words.split(",")) if words else ()


@click.command()
@click.argument("files", nargs=-1, type=_PATH, metavar="[ARTIFACT...]")
@click.option("--device", "devices", multiple=True, metavar="NAME",
              help="Where: a name that `edge devices` lists; several times [default: local, this machine].")  # fmt: skip
@click.option("--rows", type=click.IntRange(min=0), metavar="N",
              help="How many, from the top; 0 for all [default: the profile's, else the project's].")  # fmt: skip
@click.option("--data", multiple=True, metavar="FILE",
              help="Rows to answer, by name, glob or hub id; several times [default: the project's eval rows].")  # fmt: skip
@click.option("--tools", type=_PATH, metavar="FILE", help="Tools of rows without their own: .json, .jsonl, .py (runs).")
@click.option(
    "--profile", default="quick", show_default=True, metavar="NAME", help="How thoroughly, or what; see above."
)
@click.option("--threads", callback=counts, metavar="N,…",
              help="Of the CPU; each number is a row of the matrix [default: the cores, at most 4].")  # fmt: skip
@click.option("--runtime", "runtimes", multiple=True, metavar="NAME",
              help="Measure with this one; several times [default: the best that the device can run].")  # fmt: skip
@click.option("--budget", callback=seconds, metavar="TIME",
              help="When a device stops repeating, such as 10m; every row is answered once [default: the profile's].")  # fmt: skip
@click.option("--stall", callback=seconds, metavar="TIME",
              help="A runtime that says nothing for so long is stopped, and has failed [default: 5m].")  # fmt: skip
@click.option(
    "--out", type=_PATH, metavar="FOLDER", help="Results [default: results/bench, of a project beside its edge.toml]."
)
@click.option("--base", type=_PATH, metavar="CHECKPOINT",
              help="What the artifacts were made from, to compare with [default: found by its digest].")  # fmt: skip
@click.option("--no-base", is_flag=True, help="Don't measure the checkpoint.")
@click.option(
    "-p", "--project", type=_PATH, metavar="FOLDER", help="With an edge.toml [default: here, if there is one]."
)
@AS_JSON
@QUIET
def bench(
    files: tuple[Path, ...],
    devices: tuple[str, ...],
    budget: float | None,
    stall: float | None,
    no_base: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Measure artifacts where they will run: right calls, latency, rates, memory, load, heat; without ARTIFACTs the project's.

    Every artifact answers the same rows in each runtime, on each device, with each number of threads, the float checkpoint on
    this machine besides. Devices work at once, on each of them one thing at a time, in rounds that go through all artifacts. What
    is finished is kept row by row: after Ctrl-C, a crash or a lost cable the same command goes on.

    \b
    --profile quick        50 rows once, two loads (the first from a cold file cache, where the system allows it), rates
              full         all rows, four loads, repeated until the median call is known within 3 % or the budget ends
              llama-bench  rates alone, as that tool takes them: 512 tokens fed, 128 made, 5 times
              model-card   rates alone, as on Google's model cards: 512 fed, 32 made, 4 threads

    Exits with 1 if something could not be measured, and with 5 if a device did not answer while the others were measured; that
    is in the records, too. `edge report` makes pages of them.

    \b
    edge bench
    edge bench build/*.gguf build/*.litertlm --device laptop --device pi5 --rows 200 --threads 1,4
    edge bench model.gguf --data eval.jsonl --tools tools.json --profile full --budget 20m
    """
    from edge.bench import matrix, plan
    from edge.bench.board import Board

    if no_base and options["base"] is not None and not any(f.suffix == ".tflite" for f in files):
        raise click.UsageError("--base names a checkpoint to compare with, and --no-base wants none")
    wish = plan.Wish(
        files=files, devices=devices or (plan.LOCAL,), budget_s=budget, stall_s=stall, baseline=not no_base, **options
    )  # fmt: skip
    with Board(quiet or as_json) as board:
        outcome = matrix.run(wish, board, board.show)
    reports = matrix.reports(outcome)
    if as_json:
        import json

        click.echo(json.dumps(told(outcome, reports)))
    else:
        show(outcome, reports)
    if outcome.failed:
        raise click.exceptions.Exit(DeviceError.exit_code if outcome.plan.unreached else 1)


def told(outcome: Outcome, reports: dict[str, Report]) -> Json:
    """What --json prints: the cells as in `edge.bench.report`, each with its device's name."""
    from edge.bench.report import folder

    cells = [{"on": device, **cell} for device, report in reports.items() for cell in report.cells]
    rates = [
        {
            "on": cell.device,
            "name": cell.subject.name,
            "runtime": cell.settings.runtime,
            "threads": m.threads,
            "rates": m.rates,
        }
        for cell, m, _ in outcome.measurements
        if m.rates and not outcome.plan.profile.answers
    ]
    failed = [{"cell": state.cell.name, "on": state.cell.device, "error": state.error} for state in outcome.failed]
    return {
        "out": str(outcome.plan.out),
        "profile": outcome.plan.profile.name,
        "workload": outcome.plan.digest if outcome.plan.profile.answers else None,
        "baseline": outcome.plan.baseline.subject.name if outcome.plan.baseline else None,
        "cells": cells,
        "rates": rates,
        "failed": failed,
        "left_out": outcome.plan.left_out,
        "notes": folder.earlier(outcome.plan.out),
    }


def show(outcome: Outcome, reports: dict[str, Report]) -> None:
    """A table for each device that answered, and where the records lie."""
    from edge.bench.report import folder

    for device, report in reports.items():
        if device in outcome.plan.unreached:
            continue
        click.echo(f"{device}: {_device(outcome, device)}")
        _cells(report, emulated=any(c["device"].get("emulated") for c in report.cells if c["device"]["name"] == device))
    if not outcome.plan.profile.answers:
        _rates(outcome)
    unreached = outcome.plan.unreached
    failed = [(f"{s.cell}: ", s.error or {}) for s in outcome.failed if s.cell.device not in unreached]
    for what, error in [*failed, *(("", error.to_json()) for error in unreached.values())]:
        click.echo(f"failed: {what}{error.get('message')}")
        if error.get("hint"):
            click.echo(f"        {error['hint']}")
    for lack in outcome.plan.left_out:
        click.echo(f"left out: {lack['name']} on {lack['device']}: {lack['why']}")
    click.echo(f"records: {outcome.plan.out}")
    for note in folder.earlier(outcome.plan.out):
        click.echo(f"note: {note}")


def _cells(report: Report, emulated: bool) -> None:
    """What an emulated device takes says nothing of a real one, and isn't shown."""
    from edge.bench.report.words import UNKNOWN, figure, megabytes, percent, points
    from edge.commands import data_tables as tables

    head = ["", "MB", "right %", "95 %", "change", "95 %"]
    timed = ["call ms", "p95", "first ms", "prefill tok/s", "decode tok/s", "load s", "RSS MB"]
    lines = []
    for cell in report.cells:
        right, d = cell["accuracy"], cell["difference"]
        bounds = UNKNOWN if right["value"] is None else f"{percent(right['low'])} to {percent(right['high'])}"
        changed = UNKNOWN if d is None else f"{points(d['low'])} to {points(d['high'])}"
        star = "*" if d and d["verdict"] in ("lost", "gained") else ""
        noisy = " ~" if not emulated and any(mark.startswith(("noisy", "throttled")) for mark in cell["marks"]) else ""
        line = [cell["name"] + noisy, megabytes(cell["bytes"]), percent(right["value"]), bounds,
                UNKNOWN if d is None else points(d["value"]) + star, changed]  # fmt: skip
        call = cell["call_ms"]
        rss = cell["peak_rss_bytes"]
        line += [figure(call["value"]), figure(call["p95"]), figure(cell["first_token_ms"]["value"]),
                 figure(cell["prefill_tokens_per_s"]["value"]), figure(cell["decode_tokens_per_s"]["value"]),
                 figure(cell["load_s"]), UNKNOWN if rss is None else f"{rss / 1e6:.0f}"]  # fmt: skip
        lines.append(line[: len(head)] if emulated else line)
    tables.print_table(head if emulated else head + timed, lines, "l" + "r" * (len(head) + len(timed) - 1))
    told = []
    if any(c["difference"] for c in report.cells):
        told.append(f"change: points against {report.baseline}, * where its interval excludes 0")
    if not emulated:
        told += ["times: medians", "~ noisy or throttled"]
    click.echo("; ".join(told) + "\n" if told else "")


def _device(outcome: Outcome, name: str) -> str:
    facts = next((m.device for cell, m, _ in outcome.measurements if cell.device == name), {})
    parts = [facts.get("model"), facts.get("cpu"), facts.get("os")]
    return ", ".join(str(p) for p in parts if p) + (
        " (emulated: no figures of a real one)" if facts.get("emulated") else ""
    )


def _rates(outcome: Outcome) -> None:
    """Tokens a second, the median with the least and the most."""
    from edge.commands import data_tables as tables

    lines = [
        [
            cell.device,
            cell.subject.name,
            cell.settings.runtime,
            m.threads,
            *(_spread(m, side) for side in ("prefill", "decode")),
        ]
        for cell, m, _ in outcome.measurements
        if cell.device not in outcome.plan.unreached
    ]
    tables.print_table(["", "artifact", "runtime", "threads", "prefill tok/s", "decode tok/s"], lines, "lllrrr")


def _spread(m: Measurement, side: str) -> str:
    from edge.bench import stats
    from edge.bench.report.words import UNKNOWN, figure

    found = [r[f"{side}_tokens"] / r[f"{side}_s"] for r in m.rates if r.get(f"{side}_tokens") and r.get(f"{side}_s")]
    if not found:
        return UNKNOWN
    return f"{figure(stats.percentile(found, 0.5))} [{figure(min(found))}–{figure(max(found))}]"
