"""How far the arithmetic of `train/scratch/net.py` is from the library's, what the start weights can copy, and the data."""

import os
import random
import sys
from pathlib import Path

sys.path.insert(0, os.environ["EDGE_CODE"])


def main(request, reply):
    import torch

    from edge.train.scratch import net, start, tokenizer

    torch.set_num_threads(1)
    words = tokenizer.Words(Path(request["tokenizer"]))
    rng = random.Random(1)
    plain = start.new_model(words, start.SIZE, 1, "plain")
    copying = start.new_model(words, start.SIZE, 1)
    return {
        "difference": difference(plain, batch(rng, net)),
        "fused": fused(plain, batch(rng, net)) if net.can_fuse() else None,
        "same_data": same_data(words),
        "copied": {"plain": copied(plain, rng), "copying": copied(copying, rng)},
    }


def some(rng, count):
    return [rng.randrange(300, 3000) for _ in range(count)]


def batch(rng, net):
    """Two heads of different length, two questions each, all of different length."""
    heads = [[2, *some(rng, 60)], [2, *some(rng, 41)]]
    questions = [[some(rng, 9), some(rng, 4)], [some(rng, 7), some(rng, 12)]]
    answers = [[some(rng, 5), some(rng, 6)], [some(rng, 3), some(rng, 4)]]
    return net.Batch(heads, questions, answers, [])


def difference(model, batch):
    import torch

    from edge.train.scratch import net

    found, _, of = net.logits(net.Net(model, torch.float32), batch)
    rows = [(h, q, a) for h, qs, ans in zip(batch.heads, batch.questions, batch.answers) for q, a in zip(qs, ans)]
    worst = 0.0
    with torch.no_grad():
        for i, (head, question, answer) in enumerate(rows):
            at = len(head) + len(question) - 1
            whole = model(torch.tensor([head + question + answer])).logits[0, at : at + len(answer)]
            worst = max(worst, (whole - found[of == i]).abs().max().item())
    return worst


def fused(model, batch):
    """The compiled layers against the same layers uncompiled."""
    import torch

    from edge.train.scratch import net

    with torch.no_grad():
        plain, compiled = (net.logits(net.Net(model, torch.float32, how), batch)[0] for how in (False, True))
    return (plain - compiled).abs().max().item()


def same_data(words):
    """What a process of torch's loader draws for a step, with more heads as for a GPU, is what is drawn here."""
    import dataclasses

    from torch.utils.data import DataLoader

    from edge.train.scratch import data

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    lessons = data.Lessons(words, 5, 3, heads=4)
    loaded = list(DataLoader(lessons, batch_size=None, sampler=range(3), num_workers=1))
    here = [lessons[n] for n in range(3)]
    assert all(len(b.heads) == 4 and len(b.questions) == 4 and len(b.questions[0]) == data.QUESTIONS for b in here)
    return [dataclasses.astuple(b) for b in loaded] == [dataclasses.astuple(b) for b in here]


def copied(model, rng):
    """Share of tokens that are predicted right when a random text comes a second time."""
    import torch

    text = some(rng, 60)
    with torch.no_grad():
        best = model(torch.tensor([[2, *text, *text]])).logits[0].argmax(-1).tolist()
    return sum(best[61 + i] == text[i + 1] for i in range(1, 59)) / 58


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
