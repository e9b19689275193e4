"""The transformers runtime beside the library's own `generate`, one row at a time, and one forward pass a right answer.

Request: path (a checkpoint or a subject's JSON file), checkpoint, rows [{"id", "prompt", "completion"}], stop, context,
max_tokens, sharing (false keeps beginnings from being shared), window (another sliding window than the config's).
"""

import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, os.environ["EDGE_CODE"])


def main(request, reply):
    import torch

    from edge.bench.runtimes import transformers as runtime

    torch.set_num_threads(1)
    out = Path(request["out"])
    (out / "answers.jsonl").write_text("".join(json.dumps(r) + "\n" for r in request["rows"]))
    subject = {"checkpoint": request["checkpoint"], "adapter": request.get("adapter"),
               "answers": str(out / "answers.jsonl"), "tokens": str(out / "tokens.jsonl")}  # fmt: skip
    (out / "subject.json").write_text(json.dumps(subject))
    options = {"threads": 1, "context": request["context"], "stop": request["stop"]}
    model = runtime.load(str(out / "subject.json"), options)
    shared = []

    def watched(*arguments):
        for common, batch in batches(*arguments):
            shared.append([common, len(batch)])
            yield common, batch

    batches, runtime.batches = runtime.batches, watched
    started = time.process_time()
    samples = list(
        model.generate([{"id": r["id"], "prompt": r["prompt"]} for r in request["rows"]], request["max_tokens"])
    )
    seconds = time.process_time() - started
    lines = (out / "tokens.jsonl").read_text().splitlines() if (out / "tokens.jsonl").exists() else []
    tokens = {t["row"]: [t["right"], t["of"]] for t in map(json.loads, lines)}
    plain = alone(request, model) if request.get("reference", True) else {}
    return {"samples": samples, "tokens": tokens, "shared": shared, "seconds": seconds, "plain": plain}


def alone(request, model):
    """{row: [text, right, of]} by the library's own generation and a whole forward pass."""
    import torch

    found = {}
    inner, tokenizer = model._model, model._tokenizer
    for row in request["rows"]:
        ids = torch.tensor([tokenizer(row["prompt"], add_special_tokens=False).input_ids])
        answer = tokenizer(row["completion"], add_special_tokens=False).input_ids
        with torch.inference_mode():
            made = inner.generate(
                input_ids=ids, max_new_tokens=request["max_tokens"], do_sample=False, eos_token_id=list(model._stop),
                pad_token_id=0, top_k=None, top_p=None, temperature=None,
            )[0, ids.shape[1] :].tolist()  # fmt: skip
            logits = inner(torch.cat([ids, torch.tensor([answer])], 1), use_cache=False).logits[
                0, ids.shape[1] - 1 : -1
            ]
        text = tokenizer.decode(made[:-1] if made[-1] in model._stop else made, skip_special_tokens=False,
                                clean_up_tokenization_spaces=False)  # fmt: skip
        right = sum(a == b for a, b in zip(answer, logits.argmax(-1).tolist()))
        found[row["id"]] = [text, right, len(answer)]
    return found


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
