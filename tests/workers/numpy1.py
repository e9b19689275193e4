# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = ["numpy==1.26.4"]
# ///
"""Reports the numpy of its environment."""

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])


def main(request, reply):
    import numpy

    return {"numpy": numpy.__version__}


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
