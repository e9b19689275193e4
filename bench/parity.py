"""Does an artifact expect the same next tokens as its checkpoint? Compared inside the runtime's own process.

The checkpoint's logits at a few hundred places are written to a folder once (`rows.json`, `logits.npy`: a vocabulary of
262,144 makes a megabyte a place). Each runtime then feeds the same token ids and compares where it runs, so that only
a handful of figures leave it. Text is teacher-forced: both see the checkpoint's own answer, whatever they would write.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Json = dict[str, Any]

LOGITS, ROWS = "logits.npy", "rows.json"
MARGIN = 0.02  # logits: nearer than this, which token is first is a matter of rounding


def places(prompt: int, total: int, count: int) -> list[int]:
    """Up to `count` positions after which the answer's tokens come, evenly from its first to its last.

    prompt, total: tokens of the prompt, of prompt and answer.
    """
    first, last = prompt - 1, max(prompt - 1, total - 2)
    steps = max(1, count - 1)
    return sorted({first + (last - first) * i // steps for i in range(count)})


def write_reference(model: Any, rows: list[Json], count: int, folder: Path) -> Json:
    """Save the model's logits for `rows` ({"id", "prompt", "completion"}) at up to `count` places of each answer."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    kept, found = [], []
    for row in rows:
        prompt, whole = model.ids(row["prompt"]), model.ids(row["prompt"] + row["completion"])
        at = places(len(prompt), len(whole), count)
        found.append(model.logits(whole, at))
        kept.append({"id": row["id"], "ids": whole, "at": at})
    np.save(folder / LOGITS, np.concatenate(found))
    (folder / ROWS).write_text(json.dumps(kept), encoding="utf-8")
    return {"positions": sum(map(len, found)), "rows": len(rows)}


def compare(model: Any, folder: Path) -> Json:
    """Hold a runtime against what `write_reference` left.

    Returns {"positions", "vocabulary", "same": top-1 alike, "sure": places where the reference leads by MARGIN, "sure_same",
    "kl_mean", "kl_max" (nats a token, from the reference), "too_long": rows that the runtime's context can't hold,
    "worst": {"row", "at", "kl", "expected", "got"} (token ids)}.
    """
    import numpy as np

    reference = np.load(folder / LOGITS, mmap_mode="r")
    kl: list[float] = []
    marks: list[tuple[bool, bool]] = []  # same, sure
    worst: Json = {}
    at, too_long, vocabulary = 0, 0, 0
    for row in json.loads((folder / ROWS).read_text(encoding="utf-8")):
        count = len(row["at"])
        wanted, at = np.asarray(reference[at : at + count]), at + count
        if len(row["ids"]) >= model.context:
            too_long += 1
            continue
        got = model.logits(row["ids"], row["at"])
        vocabulary = got.shape[1]
        width = min(vocabulary, wanted.shape[1])  # a converter may cut rows that no token uses, or fill up
        wanted, got = wanted[:, :width], got[:, :width]
        lost = divergence(wanted, got)
        top = np.sort(np.partition(wanted, -2, axis=1)[:, -2:], axis=1)
        for i, place in enumerate(row["at"]):
            expected, chosen = int(wanted[i].argmax()), int(got[i].argmax())
            marks.append((expected == chosen, bool(top[i, 1] - top[i, 0] >= MARGIN)))
            kl.append(float(lost[i]))
            if not worst or not kl[-1] <= worst["kl"]:  # not a number is the worst of all
                worst = {"row": row["id"], "at": place, "kl": kl[-1], "expected": expected, "got": chosen}
    return {
        "positions": len(kl),
        "vocabulary": vocabulary,
        "same": sum(same for same, _ in marks),
        "sure": sum(sure for _, sure in marks),
        "sure_same": sum(same and sure for same, sure in marks),
        "kl_mean": sum(kl) / len(kl) if kl else None,
        "kl_max": max(kl, default=None),
        "too_long": too_long,
        "worst": worst or None,
    }


def divergence(wanted: Any, got: Any) -> Any:
    """Kullback-Leibler divergence of softmax(got) from softmax(wanted), nats, for each row of logits (rows, vocabulary)."""
    import numpy as np

    p, q = _log_softmax(wanted), _log_softmax(got)
    return np.maximum((np.exp(p) * (p - q)).sum(axis=1), 0.0)  # rounding can make it -1e-17


def _log_softmax(x: Any) -> Any:
    import numpy as np

    x = x.astype(np.float64)
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))
