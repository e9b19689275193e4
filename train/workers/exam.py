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
"""Worker: scores of an embedded model on held-out rows, as it ships: bfloat16 weights, computed in float32.

Request: {"model": folder, "rows": questions a set, "threads": cores to use, "fake": weights rounded first, e.g.
"int4-block32" (`scratch/rounding.py` lists them)}.
Answer: {"sets", "tools", "languages", "kinds": {name: {"right", "rows"}}, "digits": one character a row, 1 if right}.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])
os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # before torch: for a busy neighbour's sake

from pathlib import Path
from typing import Any

Json = dict[str, Any]


def main(request: Json, reply: Any) -> Json:
    import torch
    from transformers import Gemma3ForCausalLM

    from edge.train.scratch import exam, net, rounding, tokenizer

    torch.set_num_threads(int(request.get("threads") or os.cpu_count() or 1))
    folder = Path(request["model"])
    model = Gemma3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if request.get("fake"):
        rounding.apply(model, request["fake"])
    words, rows, found = tokenizer.Words(folder), int(request["rows"]), []
    for row in exam.examine(net.Net(model, torch.float32), words, rows):
        found.append(row)
        if len(found) % 50 == 0:
            reply.progress(len(found), rows * len(exam.EXAMS), row["set"])
    called = [row for row in found if row["kind"] == "call" and row["set"] in ("seen phrasings", "unseen phrasings")]
    return {
        "sets": exam.summary(found, "set"),
        "tools": exam.summary(called, "tool"),
        "languages": exam.summary(found, "language"),
        "kinds": exam.summary(found, "kind"),
        "digits": "".join("1" if row["right"] else "0" for row in found),
    }


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
