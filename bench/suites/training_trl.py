"""Tuning as one writes it by hand: TRL's trainer with its defaults, eager attention, logits at every position.

What the benchmark of training compares with; a worker, in the tuning worker's environment.

Request:
    do          "rows": write rows.jsonl into `out`; "train": tune on `rows`, in their order
    checkpoint  a folder
    tokens      of each row, completion_tokens of them in the completion (for "rows")
    count       of rows (for "rows")
    rows        JSON lines {"id", "prompt", "completion"} (for "train")
    options     batch_size, learning_rate, rank, alpha, seed, threads, bfloat16 (for "train")

Answer: of "train" loss, seconds and CPU seconds of each step, versions.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ["EDGE_CODE"])
os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as for ours

from edge.errors import EdgeError


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(request["checkpoint"])
    return rows(request, tokenizer) if request["do"] == "rows" else train(request, tokenizer, reply)


def rows(request: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """Rows of exactly so many tokens: words, then a call."""
    dice, lines = random.Random(0), []
    for n in range(request["count"]):
        start, end = "<start_function_call>call:f{x:<escape>", "<escape>}<end_function_call><start_function_response>"
        argument = _words(dice, tokenizer, start, end, request["completion_tokens"])
        prompt = _words(dice, tokenizer, "<bos>", "", request["tokens"] - request["completion_tokens"])
        lines.append({"id": f"row {n}", "prompt": prompt, "completion": argument})
    (Path(request["out"]) / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"rows": len(lines)}


def _words(dice: random.Random, tokenizer: Any, start: str, end: str, tokens: int) -> str:
    """A text of so many tokens: words, and near the end digits. Raises EdgeError if it can't be met."""
    middle, left = "", tokens
    for _ in range(10 * tokens):
        longer = middle + (f" {dice.randrange(1 << 16):x}" if left > 20 else dice.choice("0123456789"))
        left = tokens - len(tokenizer(start + longer + end, add_special_tokens=False).input_ids)
        if left == 0:
            return start + longer + end
        middle = longer if left > 0 else middle[:-1]
    raise EdgeError(f"no text of exactly {tokens} tokens was found")


def train(request: dict[str, Any], tokenizer: Any, reply: Any) -> dict[str, Any]:
    import datasets
    import peft
    import torch
    import transformers
    import trl

    options = request["options"]
    torch.set_num_threads(options["threads"])
    encoded = []
    for line in Path(request["rows"]).read_text().splitlines():
        row = json.loads(line)
        prompt, completion = (tokenizer(row[k], add_special_tokens=False).input_ids for k in ("prompt", "completion"))
        mask = [0] * len(prompt) + [1] * len(completion)
        encoded.append({"input_ids": prompt + completion, "completion_mask": mask})
    model = transformers.AutoModelForCausalLM.from_pretrained(
        request["checkpoint"], dtype=torch.float32, attn_implementation="eager"
    )
    arguments = trl.SFTConfig(
        output_dir=str(Path(request["out"]) / "trainer"),
        num_train_epochs=1,
        per_device_train_batch_size=options["batch_size"],
        learning_rate=options["learning_rate"],
        lr_scheduler_type="cosine",
        seed=options["seed"],
        bf16=options["bfloat16"],
        completion_only_loss=True,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    config = peft.LoraConfig(
        r=options["rank"], lora_alpha=options["alpha"], target_modules="all-linear", task_type="CAUSAL_LM"
    )
    clock = _clock(reply)
    trainer = trl.SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=datasets.Dataset.from_list(encoded),
        processing_class=tokenizer,
        peft_config=config,
        callbacks=[clock],
    )
    trainer.train()
    versions = {m.__name__: m.__version__ for m in (torch, transformers, trl, peft)}
    return {"loss": clock.loss, "seconds": clock.seconds, "cpu": clock.cpu, "versions": versions}


def _clock(reply: Any) -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.loss: list[float] = []
            self.seconds: list[float] = []
            self.cpu: list[float] = []
            self._since = self._spent = 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._since, self._spent = time.perf_counter(), time.process_time()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.seconds.append(time.perf_counter() - self._since)
            self.cpu.append(time.process_time() - self._spent)
            reply.progress(state.global_step, state.max_steps, "TRL")

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
            if "loss" in logs:
                self.loss.append(float(logs["loss"]))

    return Clock()


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
