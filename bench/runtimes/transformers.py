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
"""The checkpoint itself, in float32 through transformers: the reference that every artifact is compared with.

Rows are generated in batches, so a row has no timings of its own: they are unknown, not zero.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

BATCH_TOKENS = 32_000  # prompt and answer of all rows in a batch: 60 short ones, 31 of a thousand tokens
ENVIRONMENT = {"GOMP_SPINCOUNT": "2000"}  # as for llama.cpp


def load(path: str, options: dict[str, Any]) -> Model:
    return Model(path, options)


class Model:
    def __init__(self, path: str, options: dict[str, Any]) -> None:
        import torch
        import transformers

        torch.set_num_threads(options["threads"])
        transformers.utils.logging.disable_progress_bar()
        started = time.monotonic()
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(path, padding_side="left")
        self._model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.load_s = time.monotonic() - started
        unknown = self._tokenizer.unk_token_id
        ids = {self._tokenizer.convert_tokens_to_ids(t): t for t in options["stop"]}
        self._stop = {i: t for i, t in ids.items() if i is not None and i != unknown}
        self.context = options["context"]

    def facts(self) -> dict[str, Any]:
        import torch
        import transformers

        version = f"transformers {transformers.__version__}, torch {torch.__version__}"
        return {
            "runtime_version": version,
            "settings": {"dtype": "float32", "batch_tokens": BATCH_TOKENS, **ENVIRONMENT},
        }

    def generate(self, rows: list[dict[str, Any]], max_tokens: int) -> Iterator[dict[str, Any]]:
        """Rows of like length together, so that a batch is padded little."""
        encoded = [(r["id"], self._tokenizer(r["prompt"], add_special_tokens=False).input_ids) for r in rows]
        encoded.sort(key=lambda r: len(r[1]), reverse=True)
        while encoded:
            size = max(1, BATCH_TOKENS // (len(encoded[0][1]) + max_tokens))
            yield from self._batch(encoded[:size], max_tokens)
            encoded = encoded[size:]

    def ids(self, text: str) -> list[int]:
        """The text's tokens, none added."""
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)

    def logits(self, ids: list[int], at: list[int]) -> Any:
        import torch

        with torch.inference_mode():
            return self._model(torch.tensor([ids]), use_cache=False).logits[0, at].float().numpy()

    def _batch(self, batch: list[tuple[str, list[int]]], max_tokens: int) -> Iterator[dict[str, Any]]:
        import torch

        padded = self._tokenizer.pad({"input_ids": [ids for _, ids in batch]}, return_tensors="pt")
        room = max(1, min(max_tokens, self.context - padded["input_ids"].shape[1]))
        with torch.inference_mode():
            made = self._model.generate(
                **padded,
                max_new_tokens=room,
                do_sample=False,
                eos_token_id=list(self._stop),
                pad_token_id=self._tokenizer.pad_token_id,
                top_k=None,
                top_p=None,
                temperature=None,
            )
        for (name, ids), out in zip(batch, made[:, padded["input_ids"].shape[1] :].tolist()):
            yield {"row": name, "prompt_tokens": len(ids), **self._read(out)}

    def _read(self, out: list[int]) -> dict[str, Any]:
        end = next((i for i, token in enumerate(out) if token in self._stop), None)
        text = self._tokenizer.decode(out[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        count = len(out) if end is None else end + 1
        return {"text": text, "completion_tokens": count, "stop": "length" if end is None else self._stop[out[end]]}
