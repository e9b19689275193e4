"""What a tuning computes with: which device, in which precision, by which attention. For a worker; each with its reason."""

from __future__ import annotations

import os
import time
from typing import Any

from edge.train.presets import NO_HALF

Json = dict[str, Any]

VERIFIED = ("cpu",)  # what a whole tuning was seen on; the others are told apart and marked
NEAR = 1e-3  # how far loss and gradient may lie from eager's in float32, as a share


def one_gpu() -> None:
    """A process takes one GPU, before torch looks: with several, transformers would split batches over threads."""
    if "WORLD_SIZE" not in os.environ:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")


def kind() -> str:
    """cuda, rocm, mps or cpu."""
    import torch

    if torch.cuda.is_available():
        return "rocm" if torch.version.hip else "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def facts() -> Json:
    """The device by name, its memory, and whether a tuning was ever seen on its kind."""
    import psutil
    import torch

    it = kind()
    if it in ("cuda", "rocm"):
        properties = torch.cuda.get_device_properties(0)
        name, memory, version = properties.name, properties.total_memory, torch.version.hip or torch.version.cuda
    else:
        name, memory, version = it, psutil.virtual_memory().total, None
    verified = it in VERIFIED
    return {"kind": it, "name": name, "memory_bytes": memory, "version": version, "verified": verified}


def free_bytes() -> int:
    """What is free of the memory that a training fills: the GPU's, else the machine's."""
    import psutil
    import torch

    if kind() in ("cuda", "rocm"):
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def precision(wanted: str) -> Json:
    """{"used": "bfloat16" or "float32", "why"}. bfloat16 is autocast: the trained weights stay float32."""
    it = kind()
    if wanted == "float32":
        return {"used": "float32", "why": "asked for"}
    fast, why = _bfloat16(it)
    if wanted == "bfloat16":
        return {"used": "bfloat16", "why": "asked for" + ("" if fast else f", though {why}")}
    return {"used": "bfloat16" if fast else "float32", "why": f"{why}; {NO_HALF.split(':')[0]}"}


def _bfloat16(it: str) -> tuple[bool, str]:
    import torch

    if it in ("cuda", "rocm"):
        has = bool(torch.cuda.is_bf16_supported(including_emulation=False))
        return has, f"this GPU {'has' if has else 'has no'} bfloat16"
    if it == "mps":
        return False, "bfloat16 on MPS is not verified"
    ratio = _seconds(torch.float32) / _seconds(torch.bfloat16)
    return ratio > 1.3, f"this CPU multiplies bfloat16 {ratio:.1f} times as fast as float32"


def _seconds(dtype: Any) -> float:
    """Of a multiplication, tried: some CPUs emulate bfloat16."""
    import torch

    a, best = torch.ones(512, 512, dtype=dtype), float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(8):
            a @ a
        best = min(best, time.perf_counter() - started)
    return best


def attention(model: Any, wanted: str, batch: Json, used: str) -> Json:
    """Set the model's attention: {"used", "why", "difference"}. eager is what the model was published with.

    sdpa is taken if on this device, on these rows (padding among them), it gives eager's loss and gradient in float32, and
    in bfloat16 lies no farther from those than eager in bfloat16 does. `batch`: input_ids, labels, attention_mask.
    """
    model.set_attn_implementation("eager")
    if wanted != "auto":
        model.set_attn_implementation(wanted)
        return {"used": wanted, "why": "asked for", "difference": None}
    layers = model.config.num_hidden_layers
    kinds = getattr(model.config, "layer_types", None) or []
    # To the first layer of each kind: the others are the same once more, and cost as much.
    model.config.num_hidden_layers = max((kinds.index(k) + 1 for k in set(kinds)), default=min(2, layers))
    try:
        exact = _loss_and_slope(model, batch, False)
        eager = _apart(exact, _loss_and_slope(model, batch, True)) if used == "bfloat16" else 0.0
        model.set_attn_implementation("sdpa")
        apart = _apart(exact, _loss_and_slope(model, batch, False))
        rounded = _apart(exact, _loss_and_slope(model, batch, True)) if used == "bfloat16" else 0.0
    except (RuntimeError, ValueError, ImportError) as error:
        model.set_attn_implementation("eager")
        return {"used": "eager", "why": f"sdpa fails here: {str(error).splitlines()[0]}", "difference": None}
    finally:
        model.config.num_hidden_layers = layers
    agree = apart <= NEAR and rounded <= 2 * eager + NEAR
    verdict = f"sdpa's loss and gradient are {'' if agree else 'not '}eager's: {apart:.1g} apart in float32" + (
        f", {rounded:.1g} in bfloat16, where eager is {eager:.1g} from float32" if used == "bfloat16" else ""
    )
    if not agree:
        model.set_attn_implementation("eager")
    return {"used": "sdpa" if agree else "eager", "why": f"tried on this device: {verdict}", "difference": apart}


def _loss_and_slope(model: Any, batch: Json, bf16: bool) -> Any:
    """The loss, and its gradient by the first layer's query weights, through which all layers above are felt."""
    import torch

    weight = next(p for name, p in model.named_parameters() if "q_proj" in name)
    if not weight.is_floating_point():  # of 4 bits: what they mean can't be differentiated by them
        weight = next(p for name, p in model.named_parameters() if "norm" in name)
    was = weight.requires_grad
    weight.requires_grad_(True)
    try:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            loss = model(**batch)["loss"]
        (slope,) = torch.autograd.grad(loss, weight)
    finally:
        weight.requires_grad_(was)
    return loss.detach().float(), slope.float()


def _apart(exact: Any, other: Any) -> float:
    """The larger distance of loss and slope, as a share of the exact one's; infinite for what is no number."""
    shares = [float((a - b).norm() / a.norm().clamp_min(1e-12)) for a, b in zip(exact, other)]
    return max(s if s == s else float("inf") for s in shares)
