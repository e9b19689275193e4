"""How thoroughly `edge bench` measures: what a --profile stands for. Standard library only.

quick, full     answer the workload's rows, and take rates besides. Rows are cut into `rounds` parts; every round loads each
                artifact anew, so that there are as many loads, and goes through all of a device's artifacts, so that
                what drifts (heat, a neighbour) falls on all alike. When every row is answered once, further rounds answer
                them again until the median call is known well enough, or until the budget ends.
llama-bench     rates alone, as that tool takes them by default: 512 tokens fed, 128 made, five times after a warm-up that does
                not count. llama.cpp's runtimes make them in an empty context, as the tool does, the others after the 512.
model-card      rates alone in the shape of Google's tables for LiteRT-LM: 512 tokens fed, 32 made, 4 threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from edge.errors import EdgeError


@dataclass(frozen=True)
class Profile:
    """shapes: (tokens fed, tokens made) of each rate. narrow: half the 95 % interval of the median call, as a
    share of it, at which repeating ends. Seconds of budget are a device's, for all its artifacts together."""

    name: str
    about: str
    shapes: tuple[tuple[int, int], ...]
    repetitions: int  # of each shape in a round
    rounds: int
    answers: bool = True
    rows: int = 0  # where neither --rows nor a project says; 0 takes all
    narrow: Optional[float] = None  # None: every row once
    most_rounds: int = 0  # repeated ones included
    budget_s: float = 0.0
    threads: Optional[int] = None
    covers: tuple[str, ...] = ()  # profiles whose measurement this one's can stand for


PROFILES = {
    p.name: p
    for p in (
        Profile("quick", "50 rows once, two loads, a rate", ((128, 32),), 2, rounds=2, rows=50),
        Profile(
            "full", "all rows, four loads and rates, repeated until the median call is known within 3 %",
            ((128, 32),), 3, rounds=4, narrow=0.03, most_rounds=40, budget_s=900.0, covers=("quick",),
        ),
        Profile("llama-bench", "rates as that tool takes them: 512 fed, 128 made", ((512, 128),), 5, 1, answers=False),
        Profile(
            "model-card", "rates as on Google's model cards: 512 fed, 32 made, 4 threads", ((512, 32),), 5, 1,
            answers=False, threads=4,
        ),
    )
}  # fmt: skip


def get(name: str) -> Profile:
    """Raises EdgeError for a name that is none."""
    if name not in PROFILES:
        raise EdgeError(f"no profile {name!r}", f"there are: {', '.join(PROFILES)}")
    return PROFILES[name]
