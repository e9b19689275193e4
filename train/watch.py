"""What is seen of a tuning run from update to update: what would spoil the weights is refused before it is made."""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

from edge.errors import WorkerError
from edge.train import launch, metrics

Json = dict[str, Any]

HISTORY, NATS = 10, 2.0  # updates before a spike can be told; how far it must lie above besides its factor
SAVE_EVERY_S, SAVE_SHARE = 300.0, 20  # a checkpoint every five minutes, if that takes less than a twentieth of them
NAMED = 8  # rows of a refused update that are named
KEYS = ("loss", "eval_loss", "learning_rate", "grad_norm")


class Watch:
    """What is seen of each update: its rows' losses before it is made, its figures after."""

    def __init__(self, trainer: Any, steps: int) -> None:
        self.trainer, self.steps, self.run = trainer, steps, trainer.run
        self.metrics = metrics.Metrics(self.run.folder / "metrics.jsonl")
        self.grad_norm: Any = None
        self._seen: list[tuple[Any, Any]] = []  # this update's rows and losses
        self._history: list[float] = []
        self._tokens = 0
        self._before = 0.0  # seconds, in earlier parts of this run
        self._started = self._told = self._saved = time.monotonic()
        self._save_took = self._spent = 0.0
        self._took: list[float] = []  # seconds of updates, the first left out
        self._warm = False
        self._loss = math.nan

    def resume(self, step: int) -> float:
        """Take up the metrics of a run that was stopped; returns its seconds until then."""
        if self.run.first:
            self.run.folder.mkdir(parents=True, exist_ok=True)
            self._before = self.metrics.resume(step)
            self._history = [line["loss"] for line in metrics.read(self.metrics.file) if "loss" in line]
        return self._before

    def batch(self, numbers: Any, mask: Any, losses: Any) -> None:
        self._seen.append((numbers, losses))
        self._tokens += int(mask.sum())

    def before_update(self) -> None:
        """Raises WorkerError, with the weights of the last good update kept, if this one would spoil them."""
        rows = [(int(n), float(loss)) for ns, ls in self._seen for n, loss in zip(ns.tolist(), ls.tolist()) if n >= 0]
        self._seen = []
        encoded = self.trainer.rows
        tokens = {n: len(encoded[n].ids) - encoded[n].prompt for n, _ in rows}
        loss = sum(value for _, value in rows) / max(1, sum(tokens.values()))
        wrong = self._wrong(loss, rows)
        if not wrong:
            self._history.append(loss)
            return
        worst = sorted(rows, key=lambda row: -row[1] / tokens[row[0]] if math.isfinite(row[1]) else -math.inf)
        named = ", ".join(f"{encoded[n].id} ({value / tokens[n]:.2f})" for n, value in worst[:NAMED])
        self.run.keep_last_good(self.trainer.accelerator.unwrap_model(self.trainer.model))
        raise WorkerError(
            f"{wrong} at step {self.trainer.state.global_step + 1} of {self.steps}; its rows, by loss a token: {named}"
            + (f" and {len(worst) - NAMED} more" if len(worst) > NAMED else ""),
            "look at these rows, or lower learning_rate in [train]",
        )

    def _wrong(self, loss: float, rows: list[tuple[int, float]]) -> str | None:
        if rows and not math.isfinite(loss):
            return f"the loss is {loss}"
        norm = None if self.grad_norm is None else float(self.grad_norm)
        if norm is not None and not math.isfinite(norm):
            return f"the gradient is not finite (norm {norm})"
        factor, past = self.run.options["spike"], self._history[-50:]
        if factor and rows and len(past) >= HISTORY and loss > self._highest(factor, statistics.median(past)):
            return f"the loss jumps to {loss:.2f}, from {statistics.median(past):.2f}"
        return None

    def _highest(self, factor: float, usual: float) -> float:
        """The loss above which an update is refused.

        In the first pass rows are new, and batches of like length are often of one tool: the first of a tool that the base
        doesn't know has a high loss and nothing wrong with it. There it must be worse than guessing as well.
        """
        guessing = math.log(self.trainer.model.config.vocab_size)
        highest = factor * usual + NATS
        return highest if len(self._history) >= self.trainer.an_epoch else max(highest, guessing)

    def after_update(self, step: int, epoch: float, control: Any) -> None:
        if self._due():
            control.should_save = True
        if step == self.steps and self.trainer.watched:
            control.should_evaluate = True
        loss = "" if math.isnan(self._loss) else f", loss {self._loss:.3f}"
        left = self.left(step)
        self.run.reply.progress(step, self.steps, f"epoch {epoch:.1f}{loss}{f', {left} left' if left else ''}")
        if len(self._took) == 10:
            self.run.say(f"time: {statistics.median(self._took):.2g} s an update, about {left or 'no time'} left")

    def _due(self) -> bool:
        now = time.monotonic()
        return now - self._saved > max(SAVE_EVERY_S, SAVE_SHARE * self._save_took)

    def saved(self, took: float) -> None:
        self._saved = self._told = time.monotonic()
        self._save_took = took

    def left(self, step: int) -> str:
        """The time that remains, in words; "" before it can be told."""
        if len(self._took) < 3 or step >= self.steps:
            return ""
        seconds = statistics.mean(self._took[-100:]) * (self.steps - step)
        if seconds < 100:
            return f"{seconds:.0f} s"
        return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"

    def log(self, step: int, epoch: float, logs: Json) -> None:
        now = time.monotonic()
        line = {"step": step, "epoch": round(epoch, 4), **{k: logs[k] for k in KEYS if k in logs}}
        line["seconds"] = round(self._before + now - self._started, 3)
        if "loss" in logs:
            self._loss, took = float(logs["loss"]), now - self._told
            line["tokens_per_s"] = round(self._tokens * launch.processes() / max(took, 1e-9), 1)
            line["cpu_s"] = round(time.process_time() - self._spent, 3)
            self._took += [took] if self._warm else []
            self._warm, self._tokens = True, 0
        elif "eval_loss" not in logs:
            return
        self._told, self._spent = now, time.process_time()
        if self.run.first:
            self.metrics.add(line)

    def callback(self) -> Any:
        from transformers import TrainerCallback

        watch = self

        class Callback(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                watch._started = watch._told = watch._saved = time.monotonic()
                watch._spent = time.process_time()

            def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                watch.before_update()

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                watch.after_update(state.global_step, state.epoch or 0.0, control)

            def on_log(self, args: Any, state: Any, control: Any, logs: Json, **_: Any) -> None:
                watch.log(state.global_step, state.epoch or 0.0, logs)

            def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                watch.saved(time.monotonic() - watch._told)

        return Callback()
