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
"""Tune a checkpoint on prompt/completion rows, with LoRA or all weights, and save it in float32.

Request:
    checkpoint   folder of the base
    rows         JSON lines {"id", "prompt", "completion"}: exact texts, the completion ending in its stop token
    watched      the same, held out, whose loss is looked at; null for none
    stop         the tokens that a completion may end in
    function_tokens  those that the tokenizer must hold as single pieces
    name         of the run, for its plot
    options      the keys of [train] in edge.toml (edge/project.py), `threads` above 0
Makes, in `out`: the (merged) checkpoint in float32 with everything of the base's folder that is not weights (tokenizer.model
too, which transformers doesn't write), `adapter/` for LoRA, and `training/` with metrics.jsonl and plot.svg. A stopped
run is continued from its last trainer checkpoint. With options.processes above 1 torchrun starts that many; the script
can be given to a launcher of the user's as well, see `edge/train/launch.py`.
Answers: {"rows", "watched", "tokens", "steps", "loss": [[step, loss], …], "eval_loss", "trainable", "parameters", "method",
"precision", "attention", "device", "processes", "preflight", "peak_device_bytes", "seconds"}.
Refuses: rows longer than max_tokens, completions that are empty or don't end in a stop token, more memory than there is;
a loss or gradient that is no number, and a loss that jumps (the weights before it are left in `last-good/`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, os.environ["EDGE_CODE"])
# Before torch: threads that spin long lose tenfold beside a busy neighbour.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

from edge.train import launch

if __name__ == "__main__":
    launch.work(Path(__file__))
