"""What a runtime makes of rows: greedy text, token ids, and the logits of the answers, compared with another's.

Request: runtime ("transformers", "onnxruntime", or "genai" for onnxruntime-genai itself), path, stop, max_tokens, rows
({"id", "prompt", "completion"}); reference: the folder that such a run of another runtime filled, or null. It runs in the
environment of the runtime, of the onnx worker for genai.

Answer: texts and ids, a row each; with a reference kl (mean), worst_kl (of a token), same (share of equal first tokens).
"""

import importlib
import os
import sys
from pathlib import Path

sys.path.insert(0, os.environ["EDGE_CODE"])


def main(request, reply):
    if request["runtime"] == "genai":
        return {"texts": by_genai(request)}
    import numpy as np

    runtime = importlib.import_module(f"edge.bench.runtimes.{request['runtime']}")
    model = runtime.load(request["path"], {"threads": 1, "context": 1024, "stop": request["stop"]})
    rows = request["rows"]
    texts = {s["row"]: s["text"] for s in model.generate(rows, request["max_tokens"])}
    pairs = [(model.ids(r["prompt"]), model.ids(r["completion"])) for r in rows]
    found = {"texts": [texts[r["id"]] for r in rows], "ids": [prompt for prompt, _ in pairs]}
    logits = np.concatenate([answer_logits(model, *pair) for pair in pairs])
    np.save(Path(request["out"], "logits.npy"), logits)
    if request["reference"]:
        found.update(compare(np.load(Path(request["reference"], "logits.npy")), logits))
    return found


def answer_logits(model, prompt, answer):
    """What is expected where each token of the answer stands."""
    ids = prompt + answer
    return model.logits(ids, list(range(len(prompt) - 1, len(ids) - 1)))


def compare(expected, found):
    import numpy as np

    p, q = (x.astype(np.float64) - np.logaddexp.reduce(x.astype(np.float64), -1)[:, None] for x in (expected, found))
    kl = (np.exp(p) * (p - q)).sum(-1)
    same = (expected.argmax(-1) == found.argmax(-1)).mean()
    return {"kl": float(kl.mean()), "worst_kl": float(kl.max()), "same": float(same), "tokens": len(kl)}


def by_genai(request):
    """As an app would: its tokenizer, its stop ids, its search settings. The stop token that it printed is taken off."""
    import onnxruntime_genai as genai

    genai.disable_telemetry_events()
    model = genai.Model(request["path"])
    tokenizer, texts = genai.Tokenizer(model), []
    for row in request["rows"]:
        ids = tokenizer.encode(row["prompt"])
        params = genai.GeneratorParams(model)
        params.set_search_options(max_length=len(ids) + request["max_tokens"])
        generator = genai.Generator(model, params)
        generator.append_tokens(ids)
        while not generator.is_done():
            generator.generate_next_token()
        text = tokenizer.decode(generator.get_sequence(0)[len(ids) :])
        for stop in request["stop"]:
            text = text.removesuffix(stop)
        texts.append(text)
    return texts


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
