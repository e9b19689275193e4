# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#     "gguf==0.19.0",
#     "numpy==2.4.6",
#     "protobuf==7.36.2",
#     "sentencepiece==0.2.3",
#     "tokenizers==0.23.3",
# ]
#
# [tool.edge]
# megabytes = 200
# environment = "gguf"
# ///
"""Worker: how many tokens texts have. Its environment is the GGUF exporter's, which has tokenizers and no torch.

Request: {"tokenizer": a tokenizer.json, "texts": JSON lines [prompt, completion], "total": how many}.
Answer: {"counts": [tokens of both, …]}, special tokens counted where the text writes them, none added.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ["EDGE_CODE"])

from edge.errors import EdgeError

BATCH = 200


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(request["tokenizer"])
    except Exception as error:  # whatever its Rust code raises, it raises as Exception
        raise EdgeError(f"{request['tokenizer']}: {error}", "name the folder of a whole checkpoint") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    counts: list[int] = []
    with Path(request["texts"]).open(encoding="utf-8") as lines:
        while batch := [json.loads(line) for line in itertools.islice(lines, BATCH)]:
            found = tokenizer.encode_batch([text for row in batch for text in row], add_special_tokens=False)
            lengths = [len(encoding.ids) for encoding in found]
            counts += [a + b for a, b in zip(lengths[::2], lengths[1::2])]
            reply.progress(len(counts), request["total"])
    return {"counts": counts}


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
