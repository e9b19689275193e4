# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["xllamacpp==2026.10.11549"]
# ///
"""llama.cpp's server in process, from a prebuilt wheel: the runtime for machines without a C++ compiler.

It is asked over its own HTTP-shaped interface with token ids, so that nothing is added to the prompt, and its own timings are taken.
"""

from __future__ import annotations

import time
from typing import Any, Iterator

FORMATS = ("gguf",)
ORDER = 2
ENVIRONMENT = {"GOMP_SPINCOUNT": "2000"}


def load(path: str, options: dict[str, Any]) -> Any:
    raise NotImplementedError
