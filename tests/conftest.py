"""Tests import the installed package: the checkout's `edge/` alone lacks train, export, bench and devices."""

import os
import signal
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != _ROOT]
os.environ["PYTHONSAFEPATH"] = "1"  # the same for the interpreters that tests start
# A shell's job in the background ignores Ctrl-C, and so does all that it starts: the tests of Ctrl-C would wait in vain.
signal.signal(signal.SIGINT, signal.default_int_handler)

from standins import phone, pi, pi4, standins_allowed  # noqa: E402, F401  fixtures
