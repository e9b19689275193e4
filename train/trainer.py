"""A tuning run in one process (or one rank of several): transformers' Trainer, with what it lacks. For a worker.

What is added: logits where there are labels only, batches by length, a stop before an update that would spoil the weights,
a line of metrics a step, a memory estimate before and the time that remains after ten steps. See `train/workers/tune.py`
for the request and the answer.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

from edge.errors import EdgeError, MissingError
from edge.records import read_json, write_text
from edge.train import batches, device, encode, launch, memory, metrics
from edge.train.carry import carry, refuse_not_finite
from edge.train.encode import Encoded
from edge.train.watch import Watch

Json = dict[str, Any]

SAY = "say: "  # a progress message that begins so is a line that stays on the screen
LAST_GOOD = "last-good"  # folder of the weights before the update that was refused
EVAL_ROWS = 4  # times the training's rows at once: nothing is kept for a backward pass


def train(request: Json, reply: Any) -> Json:
    """Tune, merge and save; the worker's answer."""
    device.one_gpu()
    import torch
    import transformers

    options = request["options"]
    torch.set_num_threads(max(1, options["threads"] // launch.processes()))
    transformers.set_seed(options["seed"])
    transformers.utils.logging.disable_progress_bar()
    run = _Run(request, reply)
    try:
        return run.go()
    except Exception as error:  # safetensors raises its own kind
        full = run.full_disk(error)
        if full:
            raise full from None
        raise


class _Run:
    """One run, in its order."""

    def __init__(self, request: Json, reply: Any) -> None:
        self.request, self.reply, self.options = request, reply, request["options"]
        self.base, self.out = Path(request["checkpoint"]), Path(request["out"])
        self.folder = self.out / "training"  # metrics, settings, plot
        self.first = launch.rank() == 0

    def go(self) -> Json:
        import psutil
        import transformers
        from peft import get_peft_model  # noqa: F401 (so that what is imported counts below)
        from transformers import Trainer  # noqa: F401

        fixed = psutil.Process().memory_info().rss
        self.reply.progress(None, None, "loading")
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(self.base)
        rows = encode.read(Path(self.request["rows"]), self.request, self.tokenizer)
        watched = (
            encode.read(Path(self.request["watched"]), self.request, self.tokenizer) if self.request["watched"] else []
        )
        precision = device.precision(self.options["precision"])
        model = self.load(precision)
        forward_where_labelled(model)
        attention = self.choose_attention(model, rows, precision)
        parameters = model.num_parameters()  # of 4 bits as well, two of which lie in one element
        shape = memory.shape(model.config, parameters)
        model = self.adapt(model)
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        plan = {"method": self.options["method"], "trainable": trainable, "rank": self._rank(),
                "bfloat16": precision["used"] == "bfloat16", "attention": attention["used"]}  # fmt: skip
        preflight = self.preflight(shape, plan, rows, fixed)
        self.tell(rows, precision, attention, preflight)
        trainer = trainer_class()(
            self, model, rows, watched, precision["used"] == "bfloat16", preflight["checkpointing"]
        )
        last = last_checkpoint(self.out / "trainer")
        if last:
            self.reply.log(f"continuing from {last.name}")
        before = trainer.watch.resume(int(last.name.split("-")[1]) if last else 0)
        started = time.monotonic()
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        seconds = before + time.monotonic() - started
        answer = {
            "rows": len(rows),
            "watched": len(watched),
            "tokens": sum(len(row.ids) for row in rows),
            "steps": trainer.state.global_step,
            "trainable": trainable,
            "parameters": parameters,
            "method": self.options["method"],
            "precision": precision,
            "attention": attention,
            "device": device.facts(),
            "processes": launch.processes(),
            "preflight": preflight,
            "peak_device_bytes": _peak_device(),
            "seconds": seconds,
        }
        return {**answer, **self.finish(trainer)}

    # --- before -------------------------------------------------------------------------------------------------------

    def load(self, precision: Json) -> Any:
        import torch
        import transformers

        kind, more = device.kind(), {}
        if self.options["method"] == "qlora":
            compute = torch.bfloat16 if precision["used"] == "bfloat16" else torch.float32
            more["quantization_config"] = transformers.BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=compute,
            )
            more["device_map"] = {"": int(os.environ.get("LOCAL_RANK", "0")) if kind != "cpu" else "cpu"}
        model = transformers.AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32, **more)
        if self.options["method"] != "qlora" and kind != "cpu":
            model.to("mps" if kind == "mps" else f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        return model

    def choose_attention(self, model: Any, rows: list[Encoded], precision: Json) -> Json:
        """On a row longer than the sliding window, if there is one, beside the shortest."""
        window = getattr(model.config, "sliding_window", None) or 0
        by_length = sorted(rows, key=lambda row: len(row.ids))
        longer = next((row for row in by_length if len(row.ids) > window + 8), by_length[-1])
        batch = batches.collator(self.pad)([(0, by_length[0]), (1, longer)])
        batch.pop("numbers")
        batch = {key: value.to(model.device) for key, value in batch.items()}
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        model.activation_checkpointing_enable({"use_reentrant": False})  # the trial shall take no more than a step
        model.train()
        found = device.attention(model, self.options["attention"], batch, precision["used"])
        model.activation_checkpointing_disable()
        model.disable_input_require_grads()
        return found

    def adapt(self, model: Any) -> Any:
        """LoRA's matrices beside the weights, or all weights set free."""
        options = self.options
        if options["method"] == "full":
            for parameter in model.parameters():
                parameter.requires_grad_(True)
            return model
        import peft

        config = peft.LoraConfig(
            r=options["rank"],
            lora_alpha=options["alpha"],
            lora_dropout=options["dropout"],
            use_dora=options["dora"],
            use_rslora=options["rslora"],
            target_modules=_targets(options["targets"]),
            task_type="CAUSAL_LM",
        )
        try:
            return peft.get_peft_model(model, config)
        except ValueError as error:
            names = sorted({n.rpartition(".")[2] for n, m in model.named_modules() if type(m).__name__ == "Linear"})
            raise EdgeError(
                f"targets = {options['targets']!r}: {str(error).splitlines()[0]}",
                f"all-linear, or some of {', '.join(names)}, with commas between",
            ) from None

    def preflight(self, shape: memory.Shape, plan: Json, rows: list[Encoded], fixed: int) -> Json:
        """What it will take, and whether checkpointing is needed. Raises MissingError for more than the device has."""
        options, count = self.options, launch.processes()
        heaviest = (0, 0, 0)
        for epoch in range(options["epochs"]):
            order = batches.order([len(r.ids) for r in rows], *self.deal(), options["seed"], epoch)
            found = batches.shapes(rows, order, options["batch_size"])
            heaviest = max(heaviest, *found, key=lambda s: memory.estimate(shape, self._at(plan, s, False), 0)["total"])
        kind, free = device.kind(), device.free_bytes()
        fixed = 0 if kind in ("cuda", "rocm") else fixed
        share = count if kind == "cpu" else 1  # processes on one machine share its memory
        # The weights are loaded already, and no longer count as free.
        room = free / share + memory.weight_bytes(shape, options["method"]) + fixed
        off, on = (memory.estimate(shape, self._at(plan, heaviest, c), fixed) for c in (False, True))
        wanted = options["checkpointing"]
        checkpointing = wanted == "on" or (wanted == "auto" and off["total"] > memory.ROOM * room)
        parts = on if checkpointing else off
        if parts["total"] > room:
            raise MissingError(
                f"this tuning takes about {memory.gigabytes(parts['total'])} of {kind} memory a process, "
                f"and {memory.gigabytes(room)} are free",
                "take a smaller batch_size with more accumulate"
                + ("" if checkpointing else ', or checkpointing = "on"')
                + (', or method = "lora"' if options["method"] == "full" else ""),
            )
        why = {"on": "asked for", "off": "asked for"}.get(
            wanted, f"{'needs' if checkpointing else 'fits'}: {memory.gigabytes(off['total'])} without it, "
                    f"{memory.gigabytes(room)} free",
        )  # fmt: skip
        return {"bytes": parts["total"], "parts": parts, "checkpointing": checkpointing, "why": why, "room_bytes": int(room),
                "batch": {"tokens": heaviest[0], "longest": heaviest[1], "completion": heaviest[2]}}  # fmt: skip

    def _at(self, plan: Json, batch: tuple[int, int, int], checkpointing: bool) -> Json:
        return {**plan, "tokens": batch[0], "longest": batch[1], "completion": batch[2], "checkpointing": checkpointing}

    def deal(self) -> tuple[int, int]:
        """Rows an update, and what its end is filled up to (see batches.order)."""
        at_once = self.options["batch_size"] * launch.processes()
        return at_once * self.options["accumulate"], at_once if launch.processes() > 1 else 1

    def tell(self, rows: list[Encoded], precision: Json, attention: Json, preflight: Json) -> None:
        """What was decided, and why, in lines that stay."""
        it, lengths = device.facts(), [len(row.ids) for row in rows]
        seen = "" if it["verified"] else ", on which edge was not verified"
        name = it["kind"] if it["name"] == it["kind"] else f"{it['kind']} ({it['name']})"
        many = f", {launch.processes()} processes" if launch.processes() > 1 else ""
        self.say(f"device: {name}{many}{seen}")
        self.say(f"precision: {precision['used']} ({precision['why']})")
        self.say(f"attention: {attention['used']} ({attention['why']})")
        self.say(f"rows: {len(rows)} of {min(lengths)} to {max(lengths)} tokens; none is cut")
        self.say(
            f"memory: about {memory.gigabytes(preflight['bytes'])}; gradient checkpointing "
            f"{'on' if preflight['checkpointing'] else 'off'} ({preflight['why']})"
        )

    def say(self, text: str) -> None:
        self.reply.progress(None, None, SAY + text)

    # --- after --------------------------------------------------------------------------------------------------------

    def finish(self, trainer: Any) -> Json:
        """Merge, save, plot; what the answer says of the losses."""
        lines = metrics.read(self.folder / "metrics.jsonl")
        loss = [[line["step"], line["loss"]] for line in lines if "loss" in line]
        told = {
            "loss": loss[:: max(1, len(loss) // 40)],
            "eval_loss": [[line["step"], line["eval_loss"]] for line in lines if "eval_loss" in line],
        }
        if not self.first:
            return told
        self.reply.progress(None, None, "saving")
        write_text(self.folder / "plot.svg", metrics.plot(lines, self.request.get("name") or self.base.name))
        self.save(trainer.model, self.out)
        shutil.rmtree(self.out / "trainer", ignore_errors=True)
        return told

    def save(self, model: Any, out: Path) -> None:
        """The weights in float32 with the base's tokenizer files, which are carried and not rewritten; the adapter."""
        plain(model)
        if self.options["method"] != "full":
            model.save_pretrained(out / "adapter")
            model = self.merge(model, out)
        refuse_not_finite(model, "lower learning_rate in [train]")
        model.save_pretrained(out)
        carry(self.base, out)

    def merge(self, model: Any, out: Path) -> Any:
        """Into the weights as they are; for QLoRA into the base's own, since those at hand have 4 bits."""
        if self.options["method"] == "lora":
            return model.merge_and_unload()
        import peft
        import torch
        import transformers

        base = transformers.AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32)
        return peft.PeftModel.from_pretrained(base, out / "adapter").merge_and_unload()

    def keep_last_good(self, model: Any) -> None:
        """The adapter, or all weights, as they were before the update that was refused. Once, whoever is first."""
        folder = self.out / LAST_GOOD
        try:
            folder.mkdir()
        except FileExistsError:
            return
        plain(model)
        model.save_pretrained(folder)
        if self.options["method"] == "full":
            carry(self.base, folder)

    def full_disk(self, error: Exception) -> MissingError | None:
        """The error as one of a full disk, if it is that: torch and safetensors have words of their own for it."""
        text, free = str(error), shutil.disk_usage(self.out).free
        if isinstance(error, EdgeError) or not (
            getattr(error, "errno", None) == 28 or "os error 28" in text or free < 1 << 20
        ):
            return None
        last = last_checkpoint(self.out / "trainer")
        after = f"it goes on from step {last.name.split('-')[1]}" if last else "it begins anew"
        return MissingError(f"{self.out}: the disk is full", f"free some and run it again: {after}")

    @property
    def pad(self) -> int:
        return int(self.tokenizer.pad_token_id or 0)

    def _rank(self) -> int:
        return 0 if self.options["method"] == "full" else int(self.options["rank"])


def _targets(given: str) -> Any:
    """all-linear, or names with commas between; one name is a list too, or peft takes it for a pattern."""
    return given if given == "all-linear" else [name.strip() for name in given.split(",") if name.strip()]


def _peak_device() -> int | None:
    import torch

    return int(torch.cuda.max_memory_reserved()) if torch.cuda.is_available() else None


# --- the model ----------------------------------------------------------------------------------------------------------


def forward_where_labelled(model: Any) -> None:
    """Let the model compute logits where there are labels only: with 262,144 words that is most of a step.

    Its forward then takes input_ids, attention_mask, labels (rows, tokens) and num_items_in_batch, and returns "loss" (the
    sum over tokens by num_items_in_batch, else their mean) and "row_loss" (rows): sums, detached. It is the model's own
    forward that is replaced, so that DDP and autocast, which wrap it, stay around it.
    """
    import torch

    def forward(
        input_ids: Any, attention_mask: Any = None, labels: Any = None, num_items_in_batch: Any = None, **_: Any
    ) -> Any:
        hidden = model.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        labels = labels[:, 1:]
        known = labels != encode.IGNORE
        logits = model.get_output_embeddings()(hidden[:, :-1][known])
        cap = getattr(model.config, "final_logit_softcapping", None)
        logits = logits.float() if cap is None else torch.tanh(logits.float() / cap) * cap
        each = torch.nn.functional.cross_entropy(logits, labels[known], reduction="none")
        rows = torch.zeros(len(labels), device=each.device).index_add_(0, known.nonzero()[:, 0], each.detach())
        count = known.sum() if num_items_in_batch is None else num_items_in_batch
        return {"loss": each.sum() / count, "row_loss": rows}

    model.forward = forward


def plain(model: Any) -> None:
    """Undo `forward_where_labelled`, and autocast's wrapping."""
    for module in model.modules():
        for name in ("forward", "_original_forward"):
            module.__dict__.pop(name, None)


# --- the trainer --------------------------------------------------------------------------------------------------------


def trainer_class() -> type:
    import torch
    from transformers import Trainer, TrainingArguments

    class CompletionTrainer(Trainer):
        def __init__(
            self, run: _Run, model: Any, rows: list[Encoded], watched: list[Encoded], bf16: bool, checkpointing: bool
        ) -> None:
            options, self.run, self.rows, self.watched = run.options, run, rows, watched
            self.update, self.share = run.deal()
            self.an_epoch = math.ceil(len(rows) / self.update)
            steps = self.an_epoch * options["epochs"]
            self.watch = Watch(self, steps)
            every = options["eval_steps"] or self.an_epoch
            arguments = TrainingArguments(
                output_dir=str(run.out / "trainer"),
                num_train_epochs=options["epochs"],
                per_device_train_batch_size=options["batch_size"],
                gradient_accumulation_steps=options["accumulate"],
                learning_rate=options["learning_rate"],
                lr_scheduler_type=SCHEDULES[options["schedule"]],
                warmup_steps=options["warmup"],
                weight_decay=options["weight_decay"],
                seed=options["seed"],
                use_cpu=device.kind() == "cpu",
                bf16=bf16,  # the weights stay float32
                activation_checkpointing=checkpointing,
                activation_checkpointing_kwargs={"use_reentrant": False},
                ddp_backend=launch.backend(),
                ddp_find_unused_parameters=False,
                dataloader_pin_memory=False,
                remove_unused_columns=False,
                label_names=["labels"],
                logging_steps=1,
                logging_nan_inf_filter=False,
                eval_strategy="steps" if watched else "no",
                eval_steps=every,
                save_steps=max(10, steps // 5),
                save_total_limit=1,
                report_to="none",
                disable_tqdm=True,
            )
            super().__init__(
                model=model,
                args=arguments,
                train_dataset=batches.dataset(rows),
                eval_dataset=batches.dataset(watched) if watched else None,
                data_collator=batches.collator(run.pad),
                callbacks=[self.watch.callback()],
            )
            self.model_accepts_loss_kwargs = True  # the loss is a sum by the update's tokens already

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            lengths, seed = [len(row.ids) for row in self.rows], self.run.options["seed"]
            return batches.sampler(
                lengths, self.update, self.share, seed, lambda: self.state.global_step // self.an_epoch
            )

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            numbers = inputs.pop("numbers")
            made = model(**inputs, num_items_in_batch=num_items_in_batch)
            self.watch.batch(numbers, inputs["attention_mask"], made["row_loss"])
            # Each process has divided by the tokens of all, and DDP takes the mean over them.
            return made["loss"] * self.accelerator.num_processes

        def _clip_grad_norm(self, model: Any) -> Any:
            self.watch.grad_norm = super()._clip_grad_norm(model)
            return self.watch.grad_norm

        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            """The held-out loss a token, over all rows; each process takes its part of the batches."""
            size = EVAL_ROWS * self.run.options["batch_size"]
            order = sorted(range(len(self.watched)), key=lambda n: -len(self.watched[n].ids))
            parts = [order[i : i + size] for i in range(0, len(order), size)]
            total = torch.zeros(2, device=self.args.device)
            model = self.accelerator.unwrap_model(self.model)
            model.eval()
            with torch.no_grad():
                for part in parts[self.args.process_index :: self.args.world_size]:
                    batch = self._prepare_inputs(self.data_collator([(n, self.watched[n]) for n in part]))
                    batch.pop("numbers")
                    total[0] += model(**batch)["row_loss"].sum()
                    total[1] += (batch["labels"] != encode.IGNORE).sum()
            total = self.accelerator.reduce(total)
            found = {"eval_loss": float(total[0] / total[1])}
            self.log(found)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
            return found

    return CompletionTrainer


SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


def last_checkpoint(folder: Path) -> Path | None:
    """The newest trainer checkpoint that was written to its end (its state file comes last)."""
    found = [f for f in folder.glob("checkpoint-*") if _whole(f / "trainer_state.json")]
    return max(found, key=lambda f: int(f.name.split("-")[1]), default=None)


def _whole(state: Path) -> bool:
    try:
        return isinstance(read_json(state), dict)
    except EdgeError:
        return False
