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

sys.path.insert(0, os.environ["EDGE_CODE"])
os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as tune.py

from edge.train import launch

if __name__ == "__main__":
    launch.work(Path(__file__))
