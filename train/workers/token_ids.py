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
"""Worker: the token ids of texts, and where in the text each token stands. Its environment is that of count_tokens.

Request: {"tokenizer": a tokenizer.json, "texts": JSON lines, one string each, "total": how many, "out"}.
Fills out with ids.jsonl, a line each: {"ids": [...], "spans": [[begin, end], ...]}, spans in characters; special tokens
where the text writes them, none added. Answer: {"texts": how many}.
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
    done = 0
    target = Path(request["out"]) / "ids.jsonl"
    with Path(request["texts"]).open(encoding="utf-8") as lines, target.open("w", encoding="utf-8") as out:
        while batch := [json.loads(line) for line in itertools.islice(lines, BATCH)]:
            for found in tokenizer.encode_batch(batch, add_special_tokens=False):
                out.write(json.dumps({"ids": found.ids, "spans": found.offsets}) + "\n")
            done += len(batch)
            reply.progress(done, request["total"])
    return {"texts": done}


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
