# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = ["mediapipe==0.10.21", "numpy==1.26.4", "sentencepiece==0.2.3"]
#
# [tool.edge]
# megabytes = 300
# environment = "task-legacy"
# platforms = ["Linux x86_64", "Darwin arm64"]
# without = ["jax", "jaxlib", "matplotlib", "opencv-contrib-python", "sounddevice"]
# ///
"""TFLite -> `.task` by MediaPipe 0.10.21 and numpy 1.26, the generation that published notebooks pin.

The task worker itself, in another environment: its docstring is the contract of both. MediaPipe 0.10.21 asks for numpy
below 2 and protobuf below 5, the other exporters for numpy 2 and protobuf 7: no one environment holds both.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])

from edge.export.workers.task import main

if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
