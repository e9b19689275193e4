"""The page's drawings as SVG text: accuracy against latency, latency distributions, and the small interval bars.

Drawn here and not by a script in the page, so that they are there without JavaScript, in print and offline. Each chart
is drawn for a width in CSS pixels, so that its letters stay readable on a phone. Colours are classes (k0 to k7) that
the page's style sheet fills, for light and dark alike. Text is escaped here: names come from files.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge.bench.report.words import figure, markup, megabytes, percent

Json = dict[str, Any]
COLOURS = 8
_LETTER, _LINE = 8.0, 14  # a bold label's width per letter in the widest of common fonts, and its height
_SHIFTS = (0, 12, -12, 18, -18, 26, -26, 36, -36, 50, -50)  # of a label, up and down
_LARGEST, _SMALLEST = 22, 3.5  # a dot's radius


def colours_of(cells: Sequence[Json]) -> dict[str, int]:
    """A colour for each name, the same wherever it comes up, on every device. Artifacts first: they are what is told apart."""
    names = [c["name"] for kind in (True, False) for c in cells if (c["kind"] == "quantisation") is kind]
    return {name: i % COLOURS for i, name in enumerate(dict.fromkeys(names))}


@dataclass(frozen=True)
class Box:
    """A rectangle that is taken: what labels must keep off."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return width * height if width > 0 and height > 0 else 0.0


@dataclass(frozen=True)
class Axis:
    """Values to pixels. `ticks` are round numbers inside the range."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return self.start + (inside - self.low) / (self.high - self.low) * (self.end - self.start)


def axis(values: Sequence[float], start: float, end: float, steps: int, least: float, top: float = math.inf) -> Axis:
    """A range of round numbers around the values; at least `least` wide, never below 0 or above `top`."""
    low, high = min(values), max(values)
    if high - low < least:
        low, high = max(0.0, (low + high - least) / 2), (low + high + least) / 2
    step = _round_step((high - low) / steps)
    low = max(0.0, math.floor(low / step - 0.05) * step)
    high = min(top, math.ceil(high / step + 0.05) * step)
    count = int((high - low) / step + 1.001)
    return Axis(low, high, start, end, tuple(low + i * step for i in range(count)))


def _round_step(rough: float) -> float:
    power: float = 10 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)


def scatter(
    cells: Sequence[Json], colours: dict[str, int], width: int, height: int, tail: bool = False, where: str = ""
) -> str:
    """Accuracy with its interval against the median call, the dot's area by file size; checkpoints as lines.

    Args:
        tail: against p95 instead.
        where: a device, for the title. Cells that are marked as its front are joined by a line.

    "" where no cell has both.
    """
    key = "call_p95_ms" if tail else "call_ms"
    dots = [{**c, "ms": c[key]} for c in cells if c["accuracy"]["value"] is not None and c[key]["value"] is not None]
    if not dots:
        return ""
    shown = [c["key"] if "key" in c else c["name"] for c in dots]
    lines = [c for c in cells if c["kind"] != "quantisation" and c["accuracy"]["value"] is not None
             and c.get("key", c["name"]) not in shown]  # fmt: skip
    return _Scatter(dots, lines, colours, width, height, tail, where).draw()


class _Scatter:
    def __init__(
        self,
        dots: list[Json],
        lines: list[Json],
        colours: dict[str, int],
        width: int,
        height: int,
        tail: bool,
        where: str,
    ) -> None:
        self._tail, self._where = tail, where
        self._dots = sorted(dots, key=lambda c: -(c["bytes"] or 0))
        self._lines, self._colours, self._width, self._height = lines, colours, width, height
        self._left, self._right, self._top, self._bottom = 52, width - 16, 16, height - 46
        ends = ("value", "low", "high")
        ms = [c["ms"][end] for c in dots for end in ends if c["ms"][end] is not None]
        spread = [min(ms) * 0.88, max(ms) * 1.08] if min(ms) > 0.35 * max(ms) else [0.0, max(ms) * 1.08]
        self.x = axis(spread, self._left, self._right, 5 if width > 500 else 4, max(max(ms) * 0.2, 1e-6))
        near = [v for c in dots for v in (c["accuracy"]["low"], c["accuracy"]["high"])]
        self.y = axis(self._with_lines(near), self._bottom, self._top, 6, 0.1, 1.0)

    def _with_lines(self, near: list[float]) -> list[float]:
        """Also the lines, unless that would press the dots together: then a far line is noted at the edge."""
        found = list(near)
        for cell in sorted(self._lines, key=lambda c: -c["accuracy"]["value"]):
            wider = [*found, cell["accuracy"]["value"]]
            if max(wider) - min(wider) <= max(3 * (max(near) - min(near)), 0.2):
                found = wider
        return found

    def draw(self) -> str:
        grid = self._grid()
        lines, taken = self._references()
        marks = "".join(self._dot(c) for c in self._dots)
        taken += [box for c in self._dots for box in self._boxes(c)]
        taken += [Box(x, y - 1, min(end, self._right), y + 1) for x, y, end in self._steps()]
        labels = []
        for cell in sorted(self._dots, key=lambda c: self._place(c)[1]):
            drawn, box = self._label(cell, taken)
            labels.append(drawn)
            taken.append(box)
        told = "; ".join(_told(c) for c in [*self._lines, *self._dots])
        of = f"{' (p95)' if self._tail else ''}{f' on {self._where}' if self._where else ''}"
        drawn = grid + lines + self._front() + marks + "".join(labels)
        return svg(self._width, self._height, f"Accuracy against latency{of}", told, drawn)

    def _front(self) -> str:
        """A step from each to the next slower one that is more often right: what can be had for how long a wait."""
        steps = self._steps()
        path = "".join(f"{'V' if i else f'M{x:.1f} '}{y:.1f}H{end:.1f}" for i, (x, y, end) in enumerate(steps))
        return f'<path class="front" d="{path}"/>' if steps else ""

    def _steps(self) -> list[tuple[float, float, float]]:
        """x, y and where the next one begins, of each dot on the front."""
        which = "p95" if self._tail else "median"
        places = sorted({self._place(c)[:2] for c in self._dots if c.get("front", {}).get(which)})
        return [(x, y, end) for (x, y), end in zip(places, [*(x for x, _ in places[1:]), self._right])]

    def _place(self, cell: Json) -> tuple[float, float, float]:
        return self.x.at(cell["ms"]["value"]), self.y.at(cell["accuracy"]["value"]), self._radius(cell)

    def _radius(self, cell: Json) -> float:
        largest = max(c["bytes"] or 0 for c in self._dots)
        share = (cell["bytes"] or 0) / largest if largest else 0.0
        return max(_SMALLEST, (_LARGEST if self._width > 500 else 15) * math.sqrt(share))

    def _grid(self) -> str:
        parts = []
        for tick in self.y.ticks:
            y = self.y.at(tick)
            parts.append(f'<line class="grid" x1="{self._left}" x2="{self._right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(text("tick", self._left - 8, y + 4, f"{100 * tick:g}", "end"))
        for tick in self.x.ticks:
            x = self.x.at(tick)
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{self._top}" y2="{self._bottom}"/>')
            parts.append(text("tick", x, self._bottom + 18, f"{tick:g}", "middle"))
        middle, foot = (self._left + self._right) / 2, self._height - 8
        parts.append(
            text(
                "axis",
                middle,
                foot,
                f"{'p95 of calls' if self._tail else 'median call'}, ms (left is faster)",
                "middle",
            )
        )
        half = (self._top + self._bottom) / 2
        upright = text("axis", 14, half, "right calls, %", "middle")
        parts.append(f'<g transform="rotate(-90 14 {half})">{upright}</g>')
        return "".join(parts)

    def _references(self) -> tuple[str, list[Box]]:
        parts, boxes = [], []
        for cell in self._lines:
            value = cell["accuracy"]["value"]
            y, outside = self.y.at(value), not self.y.low <= value <= self.y.high
            mark = " ↓" if value < self.y.low else " ↑" if outside else ""
            line = f"{named(cell)} {percent(value)} %{mark}"
            at = y - 6 if y > self._top + 20 else y + 14
            if not outside:
                parts.append(f'<line class="ref" x1="{self._left}" x2="{self._right}" y1="{y:.1f}" y2="{y:.1f}"/>')
                boxes.append(Box(self._left, y - 1, self._right, y + 1))
            parts.append(text("reflabel", self._left + 6, at, line))
            boxes.append(Box(self._left, at - 12, self._left + 10 + len(line) * _LETTER, at + 4))
        return "".join(parts), boxes

    def _dot(self, cell: Json) -> str:
        x, y, r = self._place(cell)
        low, high = self.y.at(cell["accuracy"]["low"]), self.y.at(cell["accuracy"]["high"])
        parts = [
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>',
            *(f'<line x1="{x - 4:.1f}" x2="{x + 4:.1f}" y1="{e:.1f}" y2="{e:.1f}"/>' for e in (low, high)),
        ]
        if cell["ms"]["low"] is not None:
            a, b = self.x.at(cell["ms"]["low"]), self.x.at(cell["ms"]["high"])
            parts.append(f'<line x1="{a:.1f}" x2="{b:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"/>')
        parts.append(f'<circle class="core" cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>')
        colour = self._colours[cell["name"]]
        return f'<g class="dot k{colour}"><title>{markup(_told(cell))}</title>{"".join(parts)}</g>'

    def _boxes(self, cell: Json) -> list[Box]:
        x, y, r = self._place(cell)
        low, high = self.y.at(cell["accuracy"]["low"]), self.y.at(cell["accuracy"]["high"])
        a, b = (self.x.at(v) if v is not None else x for v in (cell["ms"]["low"], cell["ms"]["high"]))
        return [Box(x - r, y - r, x + r, y + r), Box(x - 4, high, x + 4, low), Box(a, y - 2, b, y + 2)]

    def _label(self, cell: Json, taken: list[Box]) -> tuple[str, Box]:
        """Beside the dot, where it covers least of what is there already; moved further away if need be."""
        x, y, r = self._place(cell)
        size = len(named(cell)) * _LETTER
        best = min(
            (self._try(x, y, r, size, side, shift) for shift in _SHIFTS for side in (1, -1)),
            key=lambda box: self._cost(box, x, y, taken),
        )
        leader = ""
        middle, after = (best.top + best.bottom) / 2, best.left > x
        # Anchored at the end by the dot: the width is only an estimate.
        near, anchor = (best.left, "start") if after else (best.right, "end")
        if abs(middle - y) > r + 6:
            leader = f'<line class="leader" x1="{x:.1f}" y1="{y:.1f}" x2="{near:.1f}" y2="{middle:.1f}"/>'
        kind = f"label t{self._colours[cell['name']]}"
        return leader + text(kind, near, best.bottom - 3, named(cell), anchor), best

    def _try(self, x: float, y: float, r: float, size: float, side: int, shift: float) -> Box:
        gap = max(r, 4) + 5
        left = x + gap if side > 0 else x - gap - size
        return Box(left, y + shift - _LINE / 2, left + size, y + shift + _LINE / 2)

    def _cost(self, box: Box, x: float, y: float, taken: list[Box]) -> float:
        covered = sum(box.overlap(other) for other in taken)
        outside = max(0, self._left - box.left) + max(0, box.right - self._width + 2)
        outside += max(0, self._top - 8 - box.top) + max(0, box.bottom - self._bottom)
        return covered * 10 + outside * 400 + abs((box.top + box.bottom) / 2 - y) + (4 if box.right < x else 0)


def named(cell: Json) -> str:
    return str(cell.get("label", cell["name"]))


def _told(cell: Json) -> str:
    """A cell in words: what a screen reader says and a pointer shows."""
    a, ms = cell["accuracy"], cell["ms" if "ms" in cell else "call_ms"]["value"]
    parts = [f"{named(cell)}: {percent(a['value'])} % right ({percent(a['low'])} to {percent(a['high'])})"]
    parts += [f"{figure(ms)} ms a call"] if ms is not None else []
    parts += [f"{megabytes(cell['bytes'])} MB"] if cell["bytes"] else []
    return ", ".join(parts)


def strips(cells: Sequence[Json], colours: dict[str, int], width: int, where: str = "") -> str:
    """How whole calls spread: a tick every 2.5 % of the rows, the middle half as a bar, median and p95 marked."""
    timed = [c for c in cells if c["call_quantiles_ms"]]
    if not timed:
        return ""
    narrow = width < 500
    row, left, top = (46 if narrow else 34), (10 if narrow else margin(timed)), 8
    height = top + row * len(timed) + 42
    reach = max(max(c["call_ms"]["p95"] * 1.35, c["call_ms"]["value"]) for c in timed)
    x = axis([0.0, min(reach, max(c["call_ms"]["max"] for c in timed))], left, width - 20, 4 if narrow else 6, 1e-6)
    floor = height - 38
    grid = "".join(
        f'<line class="grid" x1="{x.at(t):.1f}" x2="{x.at(t):.1f}" y1="{top}" y2="{floor}"/>'
        + text("tick", x.at(t), floor + 16, f"{t:g}", "middle")
        for t in x.ticks
    )
    grid += text("axis", (left + width - 20) / 2, height - 4, "whole call, ms", "middle")
    rows = "".join(_strip(c, colours[c["name"]], x, top + row * i, row, narrow) for i, c in enumerate(timed))
    each = ((named(c), figure(c["call_ms"]["value"]), figure(c["call_ms"]["p95"])) for c in timed)
    told = "; ".join(f"{name}: median {middle} ms, p95 {tail} ms" for name, middle, tail in each)
    return svg(width, height, f"Latency of whole calls{f' on {where}' if where else ''}", told, grid + rows)


def margin(cells: Sequence[Json]) -> int:
    """What names on the left take."""
    return min(max(150, 20 + int(7.4 * max(len(named(c)) for c in cells))), 300)


def _strip(cell: Json, colour: int, x: Axis, top: float, height: float, narrow: bool) -> str:
    q, ms = cell["call_quantiles_ms"], cell["call_ms"]
    y = top + height - 13 if narrow else top + height / 2
    place = (x.start, top + 14, named(cell), "start") if narrow else (x.start - 12, y + 4, named(cell), "end")
    name = text(f"label t{colour}", *place)
    inside = [v for v in q if v <= x.high]
    ticks = "".join(f'<path d="M{x.at(v):.1f} {y - 6:.1f}v12"/>' for v in inside)
    a, b = x.at(q[len(q) // 4]), x.at(q[3 * len(q) // 4])
    bar = f'<rect x="{a:.1f}" y="{y - 6:.1f}" width="{max(b - a, 1):.1f}" height="12"/>'
    middle = f'<path class="median" d="M{x.at(ms["value"]):.1f} {y - 10:.1f}v20"/>'
    tail = f'<circle cx="{x.at(ms["p95"]):.1f}" cy="{y:.1f}" r="3.5"/>'
    beyond = text("tick", x.end + 2, y - 8, f"max {figure(ms['max'])} →", "end") if ms["max"] > x.high else ""
    return f'<g class="strip k{colour}">{name}{bar}{ticks}{middle}{tail}{beyond}</g>'


def whisker(difference: Json | None, reach: float, colour: int) -> str:
    """A difference and its interval, from -reach to reach. Hidden from screen readers: the text is beside it."""
    if difference is None or difference["low"] is None:
        return ""
    a, m, b = (70 + 64 * max(-1.0, min(1.0, difference[end] / reach)) for end in ("low", "value", "high"))
    body = (
        f'<path class="zero" d="M70 1v16"/><path class="range" d="M{a:.1f} 9H{b:.1f}"/>'
        f'<circle cx="{m:.1f}" cy="9" r="3.5"/>'
    )
    return (
        f'<svg class="whisker k{colour}" viewBox="0 0 140 18" width="140" height="18" aria-hidden="true">{body}</svg>'
    )


def text(kind: str, x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{markup(words)}</text>'


def svg(width: float, height: float, title: str, told: str, body: str) -> str:
    """An image with a name and a description. The ids must differ within the page: title and width are part of them."""
    name = f"c{hashlib.sha256(title.encode('utf-8', 'replace')).hexdigest()[:10]}-{width:g}"
    head = f'<title id="{name}-t">{markup(title)}</title><desc id="{name}-d">{markup(told)}</desc>'
    box = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    return f'<svg class="chart" {box} role="img" aria-labelledby="{name}-t {name}-d">{head}{body}</svg>'
