"""What the agent has no request for: a runtime's model asked directly, in the environment of that runtime.

Request: `native` {"model", "cases": [{"messages", "tools"}], "max_tokens"}: what LiteRT-LM renders and which calls it reads
(null where it refused the answer); `pieces` {"tokenizer", "ids"}: their text as the litert runtime writes it; `reference`
{"checkpoint", "ids"}: as transformers does.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, os.environ["EDGE_CODE"])


def main(request, reply):
    return {do: DO[do](**request[do]) for do in DO if do in request}


def native(model, cases, max_tokens):
    from edge.bench.runtimes import litert_lm

    loaded = litert_lm.load(model, {"threads": 1, "context": 4096, "stop": [], "tokenizer": None})
    return [{"prompt": loaded.render(**case), "calls": calls(loaded, case, max_tokens)} for case in cases]


def calls(loaded, case, max_tokens):
    from edge.errors import WorkerError

    try:
        return loaded.native(**case, max_tokens=max_tokens).get("tool_calls", [])
    except WorkerError:
        return None


def pieces(tokenizer, ids):
    from edge.bench.runtimes.litert import SentencePiece

    loaded = SentencePiece(tokenizer, Path(tokenizer).read_bytes())
    return [loaded.decode(run) for run in ids]


def reference(checkpoint, ids):
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(checkpoint)
    return [loaded.decode(n, skip_special_tokens=False, clean_up_tokenization_spaces=False) for n in ids]


DO = {"native": native, "pieces": pieces, "reference": reference}

if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
