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
"""Fine-tune a checkpoint with LoRA on prompt/completion rows, and merge in float32.

Request:
    checkpoint   folder of the base
    rows         JSON lines {"id", "prompt", "completion"}: exact texts, the completion ending in its stop token
    stop         the tokens that a completion may end in
    function_tokens  those that the tokenizer must hold as single pieces
    options      epochs, learning_rate, batch_size, accumulate, rank, alpha, targets, max_tokens, warmup, seed, threads
Makes, in `out`: the merged checkpoint (float32) with everything of the base's folder that is not weights (tokenizer.model too,
which transformers doesn't write), and `adapter/`. A stopped run is continued from its last trainer checkpoint.
Answers: {"rows", "tokens", "steps", "loss": [[step, loss], …], "trainable", "parameters", "precision", "seconds"}.
Refuses: rows longer than max_tokens, completions that don't end in a stop token, NaN in loss or weights.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ["EDGE_CODE"])
os.environ.setdefault(
    "GOMP_SPINCOUNT", "2000"
)  # before torch: threads that spin long lose tenfold beside a busy neighbour

from edge.errors import EdgeError, WorkerError
from edge.train.carry import carry, refuse_not_finite


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    import torch
    import transformers

    options = request["options"]
    torch.set_num_threads(options["threads"])
    transformers.set_seed(options["seed"])
    transformers.utils.logging.disable_progress_bar()
    base, out = Path(request["checkpoint"]), Path(request["out"])
    reply.progress(None, None, "loading")
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    rows = tokenise(request, tokenizer)
    started = time.monotonic()
    trainer = build_trainer(model, tokenizer, rows, options, out / "trainer", reply)
    last = last_checkpoint(out / "trainer")
    if last:
        reply.log(f"continuing from {last.name}")
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    seconds = time.monotonic() - started
    reply.progress(None, None, "merging")
    trainable, total = trainer.model.get_nb_trainable_parameters()
    save(trainer.model, base, out)
    shutil.rmtree(out / "trainer")
    return {
        "rows": len(rows),
        "tokens": sum(len(r["input_ids"]) for r in rows),
        "steps": trainer.state.global_step,
        "loss": [[h["step"], h["loss"]] for h in trainer.state.log_history if "loss" in h],
        "trainable": trainable,
        "parameters": total - trainable,
        "precision": "bfloat16 autocast" if trainer.args.bf16 else "float32",
        "seconds": seconds,
    }


def tokenise(request: dict[str, Any], tokenizer: Any) -> list[dict[str, list[int]]]:
    """Token ids and labels, the prompt masked out. Nothing is cut: a row that is too long is refused, by name."""
    refuse_plain_tokenizer(request, tokenizer)
    stops = {tokenizer.convert_tokens_to_ids(t) for t in request["stop"]} - {tokenizer.unk_token_id}
    limit, rows, long = request["options"]["max_tokens"], [], []
    for line in Path(request["rows"]).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        prompt = tokenizer(row["prompt"], add_special_tokens=False).input_ids
        completion = tokenizer(row["completion"], add_special_tokens=False).input_ids
        if not completion or completion[-1] not in stops:
            raise EdgeError(
                f"{row['id']}: its completion doesn't end in a stop token of this tokenizer: {row['completion'][-60:]!r}",
                f"the tokenizer must hold {', '.join(request['stop'])} as single tokens",
            )
        if len(prompt) + len(completion) > limit:
            long.append((row["id"], len(prompt) + len(completion)))
        rows.append({"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion})
    if long:
        name, length = max(long, key=lambda r: r[1])
        raise EdgeError(
            f"{len(long)} of {len(rows)} rows are longer than max_tokens = {limit}; the longest, {name}, has {length}",
            f"set max_tokens = {length} in [train], or take those rows out: cutting them would cut the call off",
        )
    if not rows:
        raise EdgeError(f"{request['rows']}: no rows to train on")
    return rows


def refuse_plain_tokenizer(request: dict[str, Any], tokenizer: Any) -> None:
    """Spelled out in ordinary pieces, the markers of a call would be learned as text and stop nothing."""
    rows = json.loads((Path(request["checkpoint"]) / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    ids = {t: tokenizer(t, add_special_tokens=False).input_ids for t in request["function_tokens"]}
    missing = [
        t for t, found in ids.items() if len(found) != 1 or found[0] >= rows
    ]  # a token may lie past the embedding
    if missing:
        raise EdgeError(
            f"{request['checkpoint']}: its tokenizer doesn't hold {', '.join(missing)} as single tokens",
            "take a model of this dialect's family, or set dialect in [model]",
        )


def build_trainer(
    model: Any, tokenizer: Any, rows: list[Any], options: dict[str, Any], folder: Path, reply: Any
) -> Any:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig

    steps = math.ceil(len(rows) / (options["batch_size"] * options["accumulate"])) * options["epochs"]
    config = SFTConfig(
        output_dir=str(folder),
        num_train_epochs=options["epochs"],
        per_device_train_batch_size=options["batch_size"],
        gradient_accumulation_steps=options["accumulate"],
        learning_rate=options["learning_rate"],
        lr_scheduler_type="cosine",
        warmup_steps=options["warmup"],
        seed=options["seed"],
        max_length=None,
        packing=False,
        use_cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()),
        bf16=bfloat16_pays(),  # the weights stay float32; float16 is no choice, it overflows in Gemma 3
        gradient_checkpointing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=False,
        logging_steps=max(1, int(steps // 40)),
        save_steps=max(10, int(steps // 5)),
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
    )
    lora = LoraConfig(
        r=options["rank"],
        lora_alpha=options["alpha"],
        lora_dropout=0.0,
        target_modules=options["targets"],
        task_type="CAUSAL_LM",
    )
    return trainer_class()(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[watcher(reply)],
    )


def bfloat16_pays() -> bool:
    """Whether this machine multiplies bfloat16 clearly faster than float32: tried, since some CPUs emulate it."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))

    def seconds(kind: torch.dtype) -> float:
        a = torch.ones(512, 512, dtype=kind)
        best = float("inf")
        for _ in range(5):
            started = time.perf_counter()
            for _ in range(8):
                a @ a
            best = min(best, time.perf_counter() - started)
        return best

    return seconds(torch.bfloat16) * 1.3 < seconds(torch.float32)


def trainer_class() -> type:
    import torch
    from trl import SFTTrainer

    class CompletionTrainer(SFTTrainer):
        """Computes logits where there are labels only: with a 262,144-word vocabulary that is most of a step."""

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            inner = self.accelerator.unwrap_model(model).get_base_model()
            labels = inputs["labels"][:, 1:]
            known = labels != -100
            with self.accelerator.autocast():  # which else wraps the forward that is gone round here
                hidden = inner.model(
                    input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
                )
                logits = inner.lm_head(hidden.last_hidden_state[:, :-1][known]).float()
            total = torch.nn.functional.cross_entropy(logits, labels[known], reduction="sum")
            loss = total / (num_items_in_batch if num_items_in_batch is not None else known.sum())
            return (loss, {}) if return_outputs else loss

    return CompletionTrainer


def watcher(reply: Any) -> Any:
    """Tells the host how far it is, and stops at the first loss that is not a number."""
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):
        loss: float | None = None

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            loss = "" if self.loss is None else f", loss {self.loss:.3f}"
            reply.progress(state.global_step, state.max_steps, f"epoch {state.epoch or 0:.1f}{loss}")

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
            if "loss" not in logs:
                return
            self.loss = float(logs["loss"])
            if not math.isfinite(self.loss):
                raise WorkerError(
                    f"the loss is {self.loss} at step {state.global_step}", "lower learning_rate in [train]"
                )

    return Watcher()


def last_checkpoint(folder: Path) -> Path | None:
    """The newest trainer checkpoint that was written to its end (its state file comes last)."""
    found = [f for f in folder.glob("checkpoint-*") if (f / "trainer_state.json").exists()]
    return max(found, key=lambda f: int(f.name.split("-")[1]), default=None)


def save(model: Any, base: Path, out: Path) -> None:
    """The adapter, and the merged weights with the base's tokenizer files, which are carried and not rewritten."""
    model.save_pretrained(out / "adapter")
    merged = model.merge_and_unload()
    refuse_not_finite(merged, "lower learning_rate in [train]")
    merged.save_pretrained(out)
    carry(base, out)


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
