"""Logits of the same ids by transformers in float32, or by llama.cpp: what the test of parity compares.

Request: ids, and `checkpoint` (writes out/logits.npy, [positions, vocabulary]) or `files` and `reference` (answers, for
each GGUF file, the greatest difference, and how often the likeliest token is the same). It runs in the environment of
the transformers or the llama_cpp runtime.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, os.environ["EDGE_CODE"])


def main(request, reply):
    import numpy as np

    if "checkpoint" in request:
        np.save(Path(request["out"], "logits.npy"), by_transformers(request["checkpoint"], request["ids"]))
        return {}
    reference = np.load(request["reference"])
    found = {}
    for file in request["files"]:
        logits = by_llama(file, request["ids"])
        same = (logits.argmax(-1) == reference.argmax(-1)).mean()
        found[Path(file).name] = {"max_abs": float(np.abs(logits - reference).max()), "top1": float(same)}
    return {"found": found, "deviation": float(reference.std())}


def by_transformers(checkpoint, ids):
    import torch
    from transformers import Gemma3ForCausalLM

    model = Gemma3ForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def by_llama(file, ids):
    import numpy as np
    from llama_cpp import Llama

    model = Llama(file, n_ctx=256, n_batch=256, n_threads=1, logits_all=True, verbose=False)
    model.eval(ids)
    logits = np.array(model.scores[: len(ids)])
    ends = [n for n in range(model.n_vocab()) if _ends(model, n)]
    model.close()
    assert ends == [1, 5, 10], ends  # <eos>, <end_of_turn>, <start_function_response>
    return logits


def _ends(model, token):
    import llama_cpp

    return llama_cpp.llama_vocab_is_eog(llama_cpp.llama_model_get_vocab(model.model), token)


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
