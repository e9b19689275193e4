# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#   "torch==2.13.0", "transformers==5.23.0", "trl==1.16.0", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "sentencepiece==0.2.3", "protobuf==7.36.2", "safetensors==0.8.0", "numpy==2.4.6", "bitsandbytes==0.50.2",
# ]
#
# [tool.edge]
# megabytes = 6000
# environment = "torch-4bit"
# about = "torch with CUDA and bitsandbytes, 5 GB"
# needs = ["cuda"]
# ///
"""QLoRA: LoRA over a base of 4 bits, on CUDA. Request, answer and refusals are those of `tune.py`.

An environment of its own, since bitsandbytes is of use on CUDA alone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ["EDGE_CODE"])
os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as tune.py

from edge.train import launch


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    if request["options"]["processes"] > 1 and "RANK" not in os.environ:
        return launch.launch(request, reply, Path(__file__))
    from edge.train import trainer

    return trainer.train(request, reply)


if __name__ == "__main__":
    from edge.worker import serve

    if len(sys.argv) > 1:
        launch.serve_rank(main, Path(sys.argv[1]))
    else:
        serve(main)
