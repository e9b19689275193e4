"""Drawings of what a device went through: temperature, clock and load over the run, and the memory that each artifact took."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge.bench.report.charts import Axis, axis, margin, named, svg, text
from edge.bench.report.words import figure, markup, megabytes
from edge.records import Json

_GAP_S, _SHOWN_GAP_S = 600.0, 30.0  # a longer pause is drawn as the shorter one
_PANEL, _LANE = 118, 16


@dataclass(frozen=True)
class Panel:
    name: str
    unit: str
    least: float  # the axis covers at least this
    value: Callable[[Json], float | None]


PANELS = (
    Panel("temperature", "°C", 5.0, lambda v: v.get("temperature_c")),
    Panel("clock", "GHz", 0.2, lambda v: None if v.get("clock_hz") is None else v["clock_hz"] / 1e9),
    Panel("load average", "", 1.0, lambda v: v.get("load_average")),
)


@dataclass(frozen=True)
class Moment:
    """A look at the device. at_s: since the first one, long pauses cut short."""

    at_s: float
    after_gap: float | None  # seconds that were cut out right before it
    vitals: Json
    cell: Json


def moments(cells: Sequence[Json]) -> list[Moment]:
    """Every look at a device, in order."""
    found = []
    for cell in cells:
        start = _seconds(cell["started_at"])
        if start is not None:
            found += [(start + v["at_s"], v, cell) for v in cell["vitals"] if isinstance(v.get("at_s"), (int, float))]
    found.sort(key=lambda it: it[0])
    shown, at, before = [], 0.0, None
    for when, vitals, cell in found:
        step = 0.0 if before is None else when - before
        at += step if step <= _GAP_S else _SHOWN_GAP_S
        shown.append(Moment(at, step if step > _GAP_S else None, vitals, cell))
        before = when
    return shown


def known(cells: Sequence[Json]) -> list[str]:
    """The panels that there is anything to draw in."""
    return [p.name for p in PANELS if any(p.value(m.vitals) is not None for m in moments(cells))]


def timeline(cells: Sequence[Json], colours: dict[str, int], width: int, where: str) -> str:
    """Temperature, clock and load over the run, throttling marked, and below them what was measured when. "" without any."""
    seen = moments(cells)
    panels = [p for p in PANELS if any(p.value(m.vitals) is not None for m in seen)]
    if not panels or seen[-1].at_s <= 0:
        return ""
    left, right, floor = 52, width - 16, len(panels) * _PANEL + 8
    minutes = [m.at_s / 60 for m in seen]
    x = axis([0.0, max(minutes)], left, right, 4 if width < 500 else 8, 1e-6)
    parts = [_panel(p, seen, x, 8 + i * _PANEL, left, right) for i, p in enumerate(panels)]
    parts += [_gap(m, x, floor) for m in seen if m.after_gap]
    parts.append(_lane(seen, colours, x, floor + 2))
    below = floor + _LANE + 18
    parts += [text("tick", x.at(t), below, f"{t:g}", "middle") for t in x.ticks]
    parts.append(text("axis", (left + right) / 2, below + 18, "minutes since the first measurement", "middle"))
    told = "; ".join(_told(p, seen) for p in panels)
    return svg(width, below + 26, f"{', '.join(p.name for p in panels)} over the run on {where}", told, "".join(parts))


def _panel(panel: Panel, seen: Sequence[Moment], x: Axis, top: float, left: float, right: float) -> str:
    points = [(x.at(m.at_s / 60), v, m) for m in seen if (v := panel.value(m.vitals)) is not None]
    floor = top + _PANEL - 34
    y = axis([v for _, v, _ in points], floor, top + 20, 3, panel.least)
    unit = f", {panel.unit}" if panel.unit else ""
    parts = [text("axis", left, top + 10, f"{panel.name}{unit}")]
    for tick in y.ticks:
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y.at(tick):.1f}" y2="{y.at(tick):.1f}"/>')
        parts.append(text("tick", left - 8, y.at(tick) + 4, f"{tick:g}", "end"))
    path = "".join(
        f"{'M' if i == 0 or m.after_gap else 'L'}{px:.1f} {y.at(v):.1f}" for i, (px, v, m) in enumerate(points)
    )
    parts.append(f'<path class="curve" d="{path}"/>')
    if len(points) <= 60:
        parts += [f'<circle class="point" cx="{px:.1f}" cy="{y.at(v):.1f}" r="2"/>' for px, v, _ in points]
    hot = [(px, v) for px, v, m in points if m.vitals.get("throttled")]
    parts += [f'<circle class="throttled" cx="{px:.1f}" cy="{y.at(v):.1f}" r="4.5"/>' for px, v in hot]
    return "".join(parts)


def _gap(moment: Moment, x: Axis, floor: float) -> str:
    at = x.at((moment.at_s - _SHOWN_GAP_S / 2) / 60)
    hours = (moment.after_gap or 0.0) / 3600
    told = text("tick", at + 4, 12, f"{hours:.1f} h later" if hours >= 1 else f"{60 * hours:.0f} min later")
    return f'<line class="ref" x1="{at:.1f}" x2="{at:.1f}" y1="4" y2="{floor}"/>{told}'


def _lane(seen: Sequence[Moment], colours: dict[str, int], x: Axis, top: float) -> str:
    """A bar from the first to the last look of each round of each cell."""
    spans: dict[tuple[str, object], list[Moment]] = {}
    for m in seen:
        spans.setdefault((m.cell["key"], m.vitals.get("round")), []).append(m)
    parts = []
    for (_, number), span in spans.items():
        a, b = x.at(span[0].at_s / 60), x.at(span[-1].at_s / 60)
        cell = span[0].cell
        title = f"{named(cell)}{f', round {number}' if number is not None else ''}"
        place = f'x="{a:.1f}" y="{top}" width="{max(b - a, 1.5):.1f}" height="{_LANE - 4}"'
        parts.append(f'<g class="lane k{colours[cell["name"]]}"><title>{markup(title)}</title><rect {place}/></g>')
    return "".join(parts)


def _told(panel: Panel, seen: Sequence[Moment]) -> str:
    values = [v for m in seen if (v := panel.value(m.vitals)) is not None]
    unit = f" {panel.unit}" if panel.unit else ""
    return (
        f"{panel.name} from {figure(min(values))} to {figure(max(values))}{unit}, at the end {figure(values[-1])}{unit}"
    )


def _seconds(stamp: str | None) -> float | None:
    try:
        return datetime.datetime.fromisoformat(stamp or "").timestamp()
    except ValueError:
        return None


def memory(cells: Sequence[Json], colours: dict[str, int], width: int, where: str) -> str:
    """Peak resident memory of each, the file's size as a mark in it, and what the runtime's own cache adds. "" without any."""
    shown = [c for c in cells if c["peak_rss_bytes"] and c["kind"] == "quantisation"]
    if not shown:
        return ""
    narrow = width < 500
    row, left, top = (46 if narrow else 32), (10 if narrow else margin(shown)), 8
    most = max(c["peak_rss_bytes"] + (c["cache_bytes"] or 0) for c in shown) / 1e6
    x = axis([0.0, most], left, width - (84 if narrow else 120), 4 if narrow else 6, 1e-6)
    floor = top + row * len(shown) + 4
    grid = "".join(
        f'<line class="grid" x1="{x.at(t):.1f}" x2="{x.at(t):.1f}" y1="{top}" y2="{floor}"/>'
        + text("tick", x.at(t), floor + 16, f"{t:g}", "middle")
        for t in x.ticks
    )
    grid += text("axis", (x.start + x.end) / 2, floor + 34, "MB", "middle")
    bars = "".join(_bar(c, colours[c["name"]], x, top + row * i, row, narrow) for i, c in enumerate(shown))
    told = "; ".join(f"{named(c)}: {megabytes(c['peak_rss_bytes'])} MB" for c in shown)
    return svg(width, floor + 40, f"Peak memory on {where}", told, grid + bars)


def _bar(cell: Json, colour: int, x: Axis, top: float, height: float, narrow: bool) -> str:
    y = top + (height - 22 if narrow else height / 2 - 7)
    place = (x.start, top + 14, named(cell), "start") if narrow else (x.start - 12, y + 11, named(cell), "end")
    end = x.at(cell["peak_rss_bytes"] / 1e6)
    parts = [text(f"label t{colour}", *place)]
    parts.append(f'<rect class="rss" x="{x.start}" y="{y}" width="{end - x.start:.1f}" height="14"/>')
    if cell["cache_bytes"]:
        added = x.at((cell["peak_rss_bytes"] + cell["cache_bytes"]) / 1e6)
        parts.append(f'<rect class="cache" x="{end:.1f}" y="{y}" width="{added - end:.1f}" height="14"/>')
        end = added
    if cell["bytes"]:
        at = x.at(cell["bytes"] / 1e6)
        parts.append(f'<path class="size" d="M{at:.1f} {y - 3}v20"/>')
    cache = f" + {megabytes(cell['cache_bytes'])}" if cell["cache_bytes"] else ""
    parts.append(text("tick", end + 6, y + 11, f"{megabytes(cell['peak_rss_bytes'])}{cache} MB"))
    return f'<g class="bar k{colour}">{"".join(parts)}</g>'
