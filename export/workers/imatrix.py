# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#   "torch==2.13.0", "transformers==5.23.0", "trl==1.16.0", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "sentencepiece==0.2.3", "protobuf==7.36.2", "safetensors==0.8.0", "numpy==2.4.6",
# ]
#
# [tool.edge]
# megabytes = 1500
# environment = "torch"
# about = "torch and its company, 1.2 GB"
# ///
"""An importance matrix: run the checkpoint over rows and note what comes into each linear layer (`export/importance.py`).

The environment is the tuning's, to the letter, so that both share one.

Request:
    checkpoint      the folder
    digest          the checkpoint's
    rows            JSON lines {"prompt", "completion"}: exact texts, as the model meets and writes them
    rows_sha256     the digest of that file
    most_tokens     rows are taken in order until there are as many tokens
    threads         of torch; unless said, as many as it takes by itself
    out             the folder to fill

Answer:
    file            "importance.gguf"
    rows, tokens    what was used; matrices: how many were seen
    versions        of the packages that the result depends on

Fails with "input" for rows that can't be read, that hold no tokens, or an architecture that is not known.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])

import array
import json
from pathlib import Path
from typing import Any

from edge.errors import EdgeError
from edge.export import checkpoint, importance
from edge.export.importance import Importance

FILE = "importance.gguf"
_LONGEST = 2048  # tokens of a row; what is beyond is cut


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Short spinning, as in bench/runtimes/llama_cpp.py: for a busy neighbour's sake.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if request.get("threads"):
        torch.set_num_threads(int(request["threads"]))
    folder = checkpoint.inspect(request["checkpoint"]).path
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = _rows(Path(request["rows"]), tokenizer, int(request["most_tokens"]))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    squares = Squares(model)
    for n, ids in enumerate(rows):
        with torch.inference_mode():
            model.get_decoder()(input_ids=torch.tensor([ids]), use_cache=False)
        reply.progress(n + 1, len(rows), "rows")
    tokens = sum(map(len, rows))
    found = Importance(request["digest"], request["rows_sha256"], len(rows), tokens, squares.means(tokens))
    importance.write(Path(request["out"]) / FILE, found)
    return {"file": FILE, "rows": len(rows), "tokens": tokens, "matrices": len(found.columns), "versions": _versions()}


def _rows(file: Path, tokenizer: Any, most: int) -> list[list[int]]:
    """Token ids of the first rows, up to `most` tokens."""
    found: list[list[int]] = []
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                text = row["prompt"] + row["completion"]
            except (ValueError, KeyError, TypeError) as error:
                raise EdgeError(f"{file}, line {number}: not a row with prompt and completion: {error!r}",
                                'each line is {"prompt": "…", "completion": "…"}, exact texts') from None  # fmt: skip
            ids = list(tokenizer(text, add_special_tokens=False).input_ids)[:_LONGEST]
            if ids:
                found.append(ids)
            most -= len(ids)
            if most <= 0:
                break
    if not found:
        raise EdgeError(f"{file}: no text in it", 'each line is {"prompt": "…", "completion": "…"}, exact texts')
    return found


class Squares:
    """Sums of x² per input column of every linear layer, in float64."""

    def __init__(self, model: Any) -> None:
        import torch

        self._sums: dict[str, Any] = {}
        for name, module in model.named_modules():
            target = importance.gguf_name(name) if isinstance(module, torch.nn.Linear) else None
            if target:
                self._sums[target] = torch.zeros(module.in_features, dtype=torch.float64)
                module.register_forward_pre_hook(self._hook(target))
        if not self._sums:
            raise EdgeError("the model has no linear layers of torch", "export without --importance")

    def _hook(self, target: str) -> Any:
        def note(_module: Any, given: tuple[Any, ...]) -> None:
            x = given[0].detach()
            self._sums[target] += x.double().square().reshape(-1, x.shape[-1]).sum(0)

        return note

    def means(self, tokens: int) -> dict[str, array.array[float]]:
        return {name: array.array("f", (total / tokens).tolist()) for name, total in self._sums.items()}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"python": sys.version.split()[0], **{n: version(n) for n in ("torch", "transformers", "tokenizers")}}


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
