"""Benchmarks that run on their own: `python -m edge.bench.suites.NAME`."""

from __future__ import annotations

import sys
from typing import Callable, NoReturn

from edge.errors import EdgeError


def run(main: Callable[[], int]) -> NoReturn:
    """End with what `main` returns; of an EdgeError with its exit code, its message and remedy on standard error."""
    try:
        raise SystemExit(main())
    except EdgeError as error:
        print(f"{error.message}\n{error.hint or ''}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
