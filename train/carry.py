"""What training and merging share: the base's files that go along with new weights, and weights that must be numbers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from edge.errors import WorkerError


def carry(base: Path, out: Path) -> None:
    """Copy what is as true of the new weights: tokenizer.model too, which transformers doesn't write when it saves."""
    for file in base.iterdir():
        if file.is_file() and not (out / file.name).exists() and belongs(file.name):
            shutil.copy2(file, out / file.name)


def belongs(name: str) -> bool:
    """Whether a file of the base's folder is as true of the tuned model: tokenizer and template, not weights or cards."""
    return (
        not name.endswith((".safetensors", ".bin", ".md", ".index.json"))
        and not name.startswith(".")
        and name != "checkpoint.json"
    )


def refuse_not_finite(model: Any, hint: str) -> None:
    """Raises WorkerError naming the first parameter that holds an infinity or no number."""
    import torch

    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise WorkerError(f"{name} is not finite after merging", hint)
