"""What a training writes down while it runs: `metrics.jsonl`, a line a step, and a plot of it at the end.

    {"step": 3, "epoch": 0.2, "loss": 1.25, "learning_rate": 1e-4, "grad_norm": 0.8, "seconds": 7.1,
     "tokens_per_s": 900.0, "cpu_s": 2.2}
    {"step": 50, "epoch": 1.0, "eval_loss": 0.61, "seconds": 90.2}

`seconds` counts training time, over all parts of a run that was stopped. Standard library only.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.records import write_text

Json = dict[str, Any]
Points = list[tuple[float, float]]

WIDTH, HEIGHT, LEFT, RIGHT = 720, 220, 64, 16
_MOST = 1000  # points of a line: more than there are pixels


class Metrics:
    """The file of one run, to which lines are added."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def resume(self, step: int) -> float:
        """Forget what was written after this step, which is done again; returns the seconds until then."""
        kept = [line for line in read(self.file) if line["step"] <= step] if step else []
        write_text(self.file, "".join(json.dumps(line) + "\n" for line in kept))
        return float(kept[-1]["seconds"]) if kept else 0.0

    def add(self, line: Json) -> None:
        with self.file.open("a", encoding="utf-8") as f:
            f.write(json.dumps(line) + "\n")


def read(file: Path) -> list[Json]:
    """Its lines; [] if there is no file. A last line that was cut off is left out."""
    if not file.exists():
        return []
    lines = []
    for text in file.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(dict(json.loads(text)))
        except ValueError:
            continue
    return lines


def plot(lines: Sequence[Json], title: str) -> str:
    """Loss (training and held-out) over learning rate as one SVG that needs nothing beside it."""
    panels = [
        (
            "loss",
            [("training", "#2a6fb0", _series(lines, "loss")), ("held out", "#c2571a", _series(lines, "eval_loss"))],
        ),
        ("learning rate", [("", "#4c8f4c", _series(lines, "learning_rate"))]),
    ]
    drawn, top = [], 28
    for name, series in panels:
        if any(points for _, _, points in series):
            drawn.append(_panel(name, series, top))
            top += HEIGHT + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}"'
        ' font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{LEFT}" y="18" font-weight="bold">{html.escape(title)}</text>{"".join(drawn)}</svg>\n'
    )


def _series(lines: Sequence[Json], key: str) -> Points:
    points = [(float(line["step"]), float(line[key])) for line in lines if key in line and math.isfinite(line[key])]
    every = max(1, math.ceil(len(points) / _MOST))
    return points[::every] + ([points[-1]] if points and (len(points) - 1) % every else [])


def _panel(name: str, series: list[tuple[str, str, Points]], top: int) -> str:
    points = [p for _, _, s in series for p in s]
    last, high = max(x for x, _ in points), max(y for _, y in points) or 1.0
    bottom = top + HEIGHT - 24

    def x(step: float) -> float:
        return LEFT + step / max(last, 1.0) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return bottom - value / high * (bottom - top - 8)

    parts = [f'<text x="{LEFT}" y="{top + 2}" fill="#444">{name}</text>']
    for tick in range(5):
        value, step = high * tick / 4, last * tick / 4
        parts.append(
            f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
            f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end" fill="#444">{value:.3g}</text>'
            f'<text x="{x(step):.1f}" y="{bottom + 16}" text-anchor="middle" fill="#444">{step:.0f}</text>'
        )
    for number, (label, colour, line) in enumerate(series):
        if line:
            path = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in line)
            parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
            parts += [
                f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3" fill="{colour}"/>' for a, b in line if len(line) < 20
            ]
        if line and label:
            parts.append(f'<text x="{LEFT + 80 + 80 * number}" y="{top + 2}" fill="{colour}">{label}</text>')
    return "".join(parts)
