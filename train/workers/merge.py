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
"""An adapter and its base -> one checkpoint in float32 that answers as the two did together.

The environment is the tuning's, to the letter, so that both share one.

Request:
    adapter    folder with adapter_config.json and adapter_model.safetensors
    base       folder of the checkpoint that it was trained on
    prompts    texts to compare on, before and after merging
    threads    of torch
Makes, in `out`: the merged checkpoint with everything of the base's folder that is not weights, and `adapter/`, as it was.
Answers: {"parameters", "changed": tensors that the adapter changes, "prompts", "largest": of the logits' differences,
"versions"}.

Fails with "input" for an adapter of another base, one that changes nothing, or one that holds no numbers; "gate" if the
merged checkpoint expects other tokens than base and adapter together.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ["EDGE_CODE"])
os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # before torch: for a busy neighbour's sake

from edge.errors import EdgeError, GateError
from edge.train.carry import carry, refuse_not_finite

MARGIN, LARGEST = 0.02, 0.05  # logits: nearer first tokens may swap; a difference beyond is more than rounding


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    import torch
    import transformers

    torch.set_num_threads(int(request.get("threads") or os.cpu_count() or 1))
    transformers.utils.logging.disable_progress_bar()
    adapter, base, out = Path(request["adapter"]), Path(request["base"]), Path(request["out"])
    reply.progress(0, 3, "loading")
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    model = join(adapter, base)
    changed = check(model, adapter)
    ids = [tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids for text in request["prompts"]]
    reply.progress(1, 3, "merging")
    before = [last(model, i) for i in ids]
    merged = model.merge_and_unload()
    refuse_not_finite(merged, "the adapter holds values that no weights can take: train it again, at a lower rate")
    largest = compare(before, [last(merged, i) for i in ids], adapter)
    reply.progress(2, 3, "saving")
    merged.save_pretrained(out)
    carry(base, out)
    shutil.copytree(adapter, out / "adapter")
    return {
        "parameters": sum(p.numel() for p in merged.parameters()),
        "changed": changed,
        "prompts": len(ids),
        "largest": largest,
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, __import__("peft"))},
    }


def join(adapter: Path, base: Path) -> Any:
    """The base in float32 with the adapter beside its matrices. Raises EdgeError for one that doesn't fit."""
    import peft
    import torch
    import transformers
    from safetensors import safe_open

    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    try:
        joined = peft.PeftModel.from_pretrained(model, adapter)
    except (RuntimeError, ValueError) as error:  # sizes that differ; modules that the base hasn't
        raise _of_another(adapter, base, str(error).strip().splitlines()[-1].strip()) from None
    with safe_open(adapter / "adapter_model.safetensors", "pt") as f:
        given = set(f.keys())
    taken = set(peft.get_peft_model_state_dict(joined))
    if given != taken:
        some = sorted(given ^ taken)[0]
        raise _of_another(adapter, base, f"{len(given ^ taken)} tensors have no counterpart, first {some}")
    return joined


def _of_another(adapter: Path, base: Path, why: str) -> EdgeError:
    return EdgeError(
        f"{adapter}: not an adapter of {base}: {why}", "give the checkpoint that it was trained on: --base"
    )


def check(model: Any, adapter: Path) -> int:
    """How many matrices it changes. Raises EdgeError for one that changes none, and for one that isn't finite."""
    import torch

    changed = 0
    for name, module in model.named_modules():
        for key in getattr(module, "lora_B", {}):
            if key in getattr(module, "lora_A", {}):
                a, b = module.lora_A[key].weight, module.lora_B[key].weight
                if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
                    raise EdgeError(
                        f"{adapter}: {name} holds values that are no numbers", "train it again, at a lower rate"
                    )
                changed += bool(a.any() and b.any())
    saved = [m for m in model.modules() if type(m).__name__ == "ModulesToSaveWrapper"]
    if not changed and not saved:
        raise EdgeError(
            f"{adapter}: it changes nothing: all its matrices are zero", "it was saved before it was trained"
        )
    return changed + len(saved)


def last(model: Any, ids: Any) -> Any:
    """Logits after the last token (vocabulary)."""
    import torch

    with torch.inference_mode():
        return model(ids, use_cache=False).logits[0, -1].clone()


def compare(before: list[Any], after: list[Any], adapter: Path) -> float:
    """The largest difference of a logit. Raises GateError for more than rounding."""
    largest, swapped = 0.0, 0
    for b, a in zip(before, after):
        largest = max(largest, float((a - b).abs().max()))
        top = b.topk(2).values
        swapped += bool(top[0] - top[1] >= MARGIN) and int(a.argmax()) != int(b.argmax())
    if swapped or not largest <= LARGEST:
        raise GateError(
            f"{adapter}: merged it is another model: logits differ by up to {largest:.3g}, another first token after "
            f"{swapped} of {len(before)} prompts",
            "such an adapter can't be merged into its base's weights; train one of plain LoRA",
        )
    return largest


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
