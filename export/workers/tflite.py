# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["torch==2.13.0", "litert-torch==0.10.0", "sentencepiece==0.2.3"]
#
# [tool.edge]
# megabytes = 2300
# environment = "tflite"
# about = "torch and litert-torch, 1.8 GB"
# platforms = ["Linux x86_64", "Darwin arm64"]
# ///
"""Hugging Face folder -> TFLite with prefill and decode signatures, by litert-torch; its quantisations, by ai-edge-quantizer.

The float32 TFLite is converted once; every quantisation is made from it, or from one that an earlier run made.

Request:
    checkpoint      the folder: config.json, safetensors, its tokenizer's files
    dialect         whose tokens the tokenizer must have
    prefill, cache  lengths in tokens: one prefill signature for each of `prefill`; the cache holds prompt and answer
    source          the float32 TFLite of this checkpoint and shape, or null: convert
    files           [{"quantisation", "recipe", "file"}]: names, the quantizer's recipe (null: float32), file names;
                    without `source` one of them must be float32
    out             the folder to fill

Answer:
    artifacts       one each: file, quantisation, bytes, checks (signatures: {"prefill": […], "cache": N}), export_s
                    (float32: the conversion; else the quantising alone)
    stop_ids, stop_tokens
    context_tokens  the cache's length
    checks          tensors, filled_blocks (blocks of the embedding that were all zero and got a value that int4's scales
                    can express), cut_rows (of the embedding, for which the tokenizer has no token: a runtime stops with an
                    error at such an id) - these of a conversion only; decoded (files of which a decode step gave finite
                    logits: all)
    versions        of the packages that the result depends on

Fails with "input" for a checkpoint or tokenizer that can't be exported right, "missing" for want of disk, "gate" if a file
has not the signatures that were asked for, or its logits are not finite.

Memory: of a 270M model 5.8 GB for the conversion, 2 GB for quantising.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])

import gc
import shutil
import time
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from edge import dialects
from edge.errors import EdgeError, GateError, MissingError
from edge.export import checkpoint, families, litert

BLOCK = 32  # elements that share a scale in int4-block32
_ROWS = 8192  # rows looked at together
# Scales are float16. What would vanish there fails at load ("unsupported scale value"); what replaces it must not.
_VANISHES = 7 * 2.0**-24
_FILL = 2.0**-11


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    out, files = Path(request["out"]), request["files"]
    os.environ["HF_HUB_OFFLINE"] = "1"  # all that is needed lies in the folder
    folder = checkpoint.inspect(request["checkpoint"])
    plan = families.plan(folder)
    _check_request(request, plan)
    _check_disk(out, plan, files)
    tokens = litert.read_tokens(folder, dialects.get(request["dialect"]), plan.rows)

    source, seconds = request["source"], 0.0
    checks: dict[str, Any] = {}
    if not source:
        reply.progress(None, None, "converting")
        source, seconds, checks = _convert(folder, request, out, plan.rows - tokens.count)
    artifacts = []
    for n, f in enumerate(files):
        reply.progress(n, len(files), f["quantisation"])
        took = _quantise(source, out / f["file"], f["recipe"]) if f["recipe"] else seconds
        artifacts.append(_describe(out / f["file"], f["quantisation"], request, tokens, took))
        gc.collect()
    return {
        "artifacts": artifacts,
        "stop_ids": tokens.stop_ids,
        "stop_tokens": list(tokens.stop),
        "context_tokens": request["cache"],
        "checks": {**checks, "decoded": len(artifacts)},
        "versions": _versions(),
    }


# --- before anything is made ------------------------------------------------------------------------------------------


def _check_request(request: dict[str, Any], plan: families.Plan) -> None:
    if request["cache"] > plan.context:
        raise EdgeError(
            f"a cache of {request['cache']} tokens: the model was trained for at most {plan.context}",
            f"take a cache of at most {plan.context}",
        )
    if any("b32" in (f["recipe"] or "") for f in request["files"]):
        for name, shape in plan.shapes.items():
            if len(shape) > 1 and shape[-1] % BLOCK:
                raise EdgeError(
                    f"int4-block32: rows of {name} have {shape[-1]} elements, no multiple of {BLOCK}",
                    "this model can be exported as f32, int8 or int4-channel",
                )
    assert request["source"] or any(not f["recipe"] for f in request["files"]), "no float32 file to quantise from"


def _check_disk(out: Path, plan: families.Plan, files: list[dict[str, Any]]) -> None:
    """Raises MissingError with what is needed and what is free."""
    needed = int(sum(1.1 * plan.elements * (1 if f["recipe"] else 4) for f in files)) + (16 << 20)
    free = shutil.disk_usage(out).free
    if needed > free:
        raise MissingError(
            f"{out}: up to {needed / 1e6:,.0f} MB are needed for {', '.join(f['quantisation'] for f in files)}, "
            f"{free / 1e6:,.0f} MB are free",
            "free some disk, or export fewer quantisations at a time",
        )


# --- conversion -------------------------------------------------------------------------------------------------------


def _convert(
    folder: checkpoint.Folder, request: dict[str, Any], out: Path, spare: int
) -> tuple[str, float, dict[str, Any]]:
    """(the float32 TFLite under its name, seconds, checks). spare: rows at the embedding's end that are left out."""
    started = time.perf_counter()
    _stand_in_for_tensorflow()
    from litert_torch.generative.export_hf import export as exporter
    from litert_torch.generative.export_hf.core import export_lib
    from litert_torch.generative.export_hf.core.exportable_module_config import ExportableModuleConfig

    config = ExportableModuleConfig(
        model=str(folder.path),
        output_dir=str(out),
        work_dir=str(out),
        prefill_lengths=list(request["prefill"]),
        cache_length=request["cache"],
        quantization_recipe=None,
        bundle_litert_lm=False,
        keep_temporary_files=True,
    )
    checks = {"tensors": len(folder.tensors)}

    def prepare(source: Any, _config: Any, made: Any) -> Any:
        model = source.model
        _check_finite(model, folder)
        if spare:
            model.resize_token_embeddings(model.get_input_embeddings().weight.shape[0] - spare)
        tables = {id(t.weight): t.weight for t in (model.get_input_embeddings(), model.get_output_embeddings())}
        checks.update(cut_rows=spare, filled_blocks=sum(map(_fill_zero_blocks, tables.values())))
        return made

    made = exporter.run_export_tasks([prepare, export_lib.export_text_prefill_decode_model], config)
    target = out / next(f["file"] for f in request["files"] if not f["recipe"])
    Path(made.prefill_decode_model_path).replace(target)
    gc.collect()
    return str(target), time.perf_counter() - started, checks


def _stand_in_for_tensorflow() -> None:
    """litert-torch imports one file of TensorFlow, the schema of TFLite, which ai-edge-litert has as well."""
    from ai_edge_litert import schema_py_generated

    name = "tensorflow"
    for part in ("", ".lite", ".python"):
        name += part
        module = types.ModuleType(name)
        module.__spec__, module.__path__ = ModuleSpec(name, None, is_package=True), []
        sys.modules[name] = module
    sys.modules[name].schema_py_generated = schema_py_generated  # type: ignore[attr-defined]
    sys.modules[f"{name}.schema_py_generated"] = schema_py_generated


def _check_finite(model: Any, folder: checkpoint.Folder) -> None:
    import torch

    for name, weight in model.named_parameters():
        bad = int((~torch.isfinite(weight)).sum())
        if bad:
            raise EdgeError(
                f"{folder.path}: {name} has {bad} weights of {weight.numel()} that are no finite numbers",
                "training diverged (go back to an earlier checkpoint), or it was saved in float16 and overflowed",
            )


def _fill_zero_blocks(embedding: Any) -> int:
    """Give blocks of an embedding that are all zero one small value; returns how many there were.

    transformers zeroes the row of <pad>. A logit moves by at most 0.0005 times one of the hidden values per block.
    """
    import torch

    count, columns = 0, embedding.shape[1] - embedding.shape[1] % BLOCK
    with torch.no_grad():
        for start in range(0, embedding.shape[0], _ROWS):
            blocks = embedding[start : start + _ROWS, :columns].unflatten(1, (-1, BLOCK))
            empty = blocks.abs().amax(-1) < _VANISHES
            blocks[..., 0].masked_fill_(empty, _FILL)
            count += int(empty.sum())
    return count


def _quantise(source: str, target: Path, recipe: str) -> float:
    """Seconds that it took."""
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer import recipe as recipes

    started = time.perf_counter()
    work = quantizer.Quantizer(source)
    work.load_quantization_recipe(getattr(recipes, recipe)())
    work.quantize().export_model(str(target))
    shutil.copymode(source, target)  # it writes executable files
    return time.perf_counter() - started


# --- what was made ----------------------------------------------------------------------------------------------------


def _describe(
    file: Path, quantisation: str, request: dict[str, Any], tokens: litert.Tokens, seconds: float
) -> dict[str, Any]:
    """Load a finished file, look at its signatures and run one step. Raises GateError if something is off."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(file), num_threads=os.cpu_count() or 1)
        signatures = interpreter.get_signature_list()
        found = _signatures(interpreter, signatures)
        wanted = {"prefill": sorted(request["prefill"]), "cache": request["cache"]}
        if found != wanted:
            raise GateError(f"{file.name}: its signatures are {found}, asked for was {wanted}")
        _decode_once(interpreter, file, tokens.count, tokens.stop_ids[0] if tokens.start is None else tokens.start_id)
    except (RuntimeError, ValueError) as error:
        raise GateError(f"{file.name} can't be loaded by LiteRT: {error}") from error
    return {
        "file": file.name,
        "quantisation": quantisation,
        "bytes": file.stat().st_size,
        "checks": {"signatures": found},
        "export_s": seconds,
    }


def _signatures(interpreter: Any, signatures: dict[str, Any]) -> dict[str, Any]:
    lengths, cache = [], None
    for name in signatures:
        details = interpreter.get_signature_runner(name).get_input_details()
        if name.startswith("prefill"):
            lengths.append(int(details["tokens"]["shape"][-1]))
        elif name == "decode":
            cache = int(details["mask"]["shape"][-1])
    return {"prefill": sorted(lengths), "cache": cache}


def _decode_once(interpreter: Any, file: Path, rows: int, start: int) -> None:
    """One step from an empty cache, by the start token (where there is none, by another)."""
    import numpy as np

    runner = interpreter.get_signature_runner("decode")
    details = runner.get_input_details()
    inputs = {name: np.zeros(d["shape"], d["dtype"]) for name, d in details.items()}
    inputs["tokens"][...] = start
    mask = inputs["mask"]
    mask[...] = mask.dtype.type(0) if mask.dtype == np.bool_ else -1e9
    mask[..., 0] = mask.dtype == np.bool_
    logits = runner(**inputs)["logits"]
    if logits.shape[-1] != rows or not np.isfinite(logits).all():
        raise GateError(f"{file.name}: logits of shape {logits.shape}, for {rows} tokens; not all of them finite numbers"
                        if logits.shape[-1] == rows else f"{file.name}: {logits.shape[-1]} logits for {rows} tokens")  # fmt: skip


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("torch", "transformers", "litert-torch", "litert-converter", "ai-edge-litert", "ai-edge-quantizer")
    return {"python": sys.version.split()[0], **{n: version(n) for n in names}}


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
