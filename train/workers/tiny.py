# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#   "torch==2.13.0", "transformers==5.23.0", "trl==1.16.0", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "sentencepiece==0.2.3", "protobuf==7.36.2", "safetensors==0.8.0", "numpy==2.4.6",
# ]
#
# [tool.edge]
# megabytes = 1500
# environment = "torch"
# about = "torch and its company, 1.2 GB"
# ///
"""Worker: the embedded base model, trained from scratch on `edge.train.generator`.

Request: {"out": folder, "steps": 14000, "seed": 1, "heads": heads a step, of 10 questions each, "threads": cores to use,
"every": steps between checkpoints, "rows": questions an evaluation set on the way, "size": changes to `SIZE`, "start":
"copying", "plain", or the folder of a model of this kind to go on from (then all prompts are long from the first)}.
Answer: {"steps", "examples", "minutes", "cpu_minutes", "threads", "device", "parameters", "seed", "size", "start",
"curve": [{"minutes", "steps", "examples", "loss", "scores": {set: exact match}}]}.

A GPU is taken where torch finds one: then give it more heads a step, since it is idle with two.

`out` ends as a plain Hugging Face folder in bfloat16. While training it holds `checkpoint.pt`, and a run that finds one
there goes on from it. The data of a step depend on the seed and the step's number, and the learning rate and the most
tools in a prompt on the share of `steps` that is done: a repetition sees the same rows in the same order.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])
os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # before torch: for a busy neighbour's sake

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]

RATE, WARM_UP, DECAY = 2e-3, 30, 0.8  # the peak, steps to reach it, share of the steps over which it falls to zero
WORTH_FUSING = 1000  # steps: compiling takes about a minute and a half, and then a third off each step
ON_THE_WAY = [
    "seen phrasings",
    "unseen phrasings",
    "unseen tools",
    "parallel calls",
    "several turns",
    "no fitting tool",
]


def main(request: Json, reply: Any) -> Json:
    import torch

    from edge.train.scratch import data, start, tokenizer

    threads = int(request.get("threads") or os.cpu_count() or 1)
    torch.set_num_threads(threads)
    out, seed = Path(request["out"]), int(request.get("seed", 1))
    size = {**start.SIZE, **request.get("size", {})}
    how = request.get("start", "copying")
    if how not in start.FRESH:
        tokenizer.copy_tokenizer(Path(how), out)
    elif not (out / "tokenizer.json").exists():
        reply.log(f"tokenizer: {tokenizer.build_tokenizer(out, size['vocabulary'], seed)}")
    words = tokenizer.Words(out)
    model = start.new_model(words, size, seed, how)
    lessons = data.Lessons(words, seed, int(request["steps"]), request.get("heads") or data.HEADS, how in start.FRESH)
    run = Run(model, lessons)
    run.resume(out / "checkpoint.pt")
    train(run, out, request, reply)
    start.save_model(run.model, out)
    (out / "checkpoint.pt").unlink(missing_ok=True)
    return {
        "steps": run.step,
        "examples": run.examples,
        "minutes": round(run.minutes, 2),
        "cpu_minutes": round(run.cpu_minutes, 2),
        "threads": threads,
        "device": run.device_name(),
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "seed": seed,
        "heads": run.lessons.heads,
        "size": size,
        "start": how,
        "curve": run.curve,
    }


class Run:
    """A model in training: weights, optimizer and how far it got."""

    def __init__(self, model: Any, lessons: Any) -> None:
        import torch

        from edge.train.scratch import net

        self.gpu = torch.cuda.is_available()
        self.model = model.to("cuda" if self.gpu else "cpu")
        self.lessons, self.words, self.steps = lessons, lessons.words, lessons.steps
        self.optimizer = Optimizer(self.model)
        self.step = self.examples = 0
        self.minutes, self.cpu_minutes, self.loss = 0.0, 0.0, float("nan")
        self.curve: list[Json] = []
        fast = torch.cuda.is_bf16_supported() if self.gpu else net.fast_bfloat16()
        self.dtype = torch.bfloat16 if fast else torch.float32
        self.fused = self.steps >= WORTH_FUSING and net.can_fuse()

    def device_name(self) -> str:
        import torch

        return torch.cuda.get_device_name() if self.gpu else "CPU"

    def batches(self) -> Iterator[Any]:
        """The batches of the steps that are left. A GPU would wait for one process that draws them."""
        from torch.utils.data import DataLoader

        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are forked
        workers = max(1, (os.cpu_count() or 1) - 1) if self.gpu else 0
        return iter(
            DataLoader(self.lessons, batch_size=None, sampler=range(self.step, self.steps), num_workers=workers)
        )

    def resume(self, path: Path) -> None:
        import torch

        if path.exists():
            kept = torch.load(path, weights_only=True, map_location=self.model.device)
            self.model.load_state_dict(kept["model"])
            self.optimizer.load_state_dict(kept["optimizer"])
            for name in _KEPT:
                setattr(self, name, kept[name])

    def keep(self, path: Path) -> None:
        """A checkpoint, whole or not at all."""
        import torch

        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**state, **{n: getattr(self, n) for n in _KEPT}}, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def rate(self) -> float:
        left = 1 - self.step / self.steps
        return RATE * min(1.0, (self.step + 1) / WARM_UP) * min(1.0, max(0.02, left / DECAY))

    def learn(self, batches: Iterator[Any]) -> None:
        """One step. A token weighs less in a long answer (by the root of its length), which would drown short ones."""
        import torch
        from torch.nn import functional

        from edge.train.scratch.net import Net, logits

        started, spent = time.perf_counter(), time.process_time()
        batch = next(batches)
        found, right, of = logits(Net(self.model, self.dtype, self.fused), batch)
        loss = functional.cross_entropy(found, right, reduction="none")
        weight = torch.bincount(of).float()[of] ** -0.5
        ((loss * weight).sum() / weight.sum()).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step(self.rate())
        mean = float(loss.detach().mean())
        self.loss = mean if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * mean
        self.step += 1
        self.examples += sum(map(len, batch.questions))
        self.minutes += (time.perf_counter() - started) / 60
        self.cpu_minutes += (time.process_time() - spent) / 60

    def scores(self, rows: int) -> Json:
        """Exact match on the way, on rows other than the card's."""
        from edge.train.scratch import exam
        from edge.train.scratch.net import Net

        found = list(exam.examine(Net(self.model, self.dtype), self.words, rows, exam.SEED_ON_THE_WAY, ON_THE_WAY))
        return {k: round(v["right"] / v["rows"], 4) for k, v in exam.summary(found, "set").items()}


class Optimizer:
    """Muon for the layers' matrices, AdamW for the rest. Beside AdamW alone: docs/log.md, 2026-11-21.

    The rate is one for both: Muon's updates are scaled to the size that AdamW's have.
    """

    def __init__(self, model: Any) -> None:
        from torch.optim import AdamW, Muon

        matrices, rest = [], []
        for name, p in model.named_parameters():
            (matrices if p.ndim == 2 and "embed" not in name else rest).append(p)
        muon = Muon(matrices, lr=RATE, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw")
        self.both = (muon, AdamW(rest, lr=RATE, betas=(0.9, 0.95), weight_decay=0.01))

    def step(self, rate: float) -> None:
        for optimizer in self.both:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> list[Json]:
        return [optimizer.state_dict() for optimizer in self.both]

    def load_state_dict(self, kept: list[Json]) -> None:
        for optimizer, state in zip(self.both, kept):
            optimizer.load_state_dict(state)


_KEPT = ("step", "examples", "minutes", "cpu_minutes", "loss", "curve")


def train(run: Run, out: Path, request: Json, reply: Any) -> None:
    every, rows = int(request.get("every", 1000)), int(request.get("rows", 100))
    batches = run.batches()
    while run.step < run.steps:
        run.learn(batches)
        if run.step % every == 0:
            note = {"minutes": round(run.minutes, 2), "steps": run.step, "examples": run.examples}
            run.curve.append({**note, "loss": round(run.loss, 4), "scores": run.scores(rows)})
            reply.log(json.dumps(run.curve[-1]))
            run.keep(out / "checkpoint.pt")
        if run.step % min(25, every) == 0:
            reply.progress(run.step, run.steps, f"loss {run.loss:.3f}")


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
