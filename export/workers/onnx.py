# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#   "torch==2.13.0", "transformers==5.23.0", "onnxruntime-genai==0.18.0", "onnxruntime==1.31.1", "onnx==1.23.2",
#   "onnx-ir==1.1.0", "numpy==2.4.6", "tokenizers==0.23.3",
# ]
#
# [tool.edge]
# megabytes = 1600
# environment = "onnx"
# about = "torch and onnxruntime-genai, 1.3 GB"
# ///
"""Hugging Face folder -> folders for onnxruntime-genai: a graph with its weights, genai_config.json, the tokenizer.

Request:
    checkpoint      the folder: config.json, safetensors, tokenizer.json
    dialect         whose tokens the tokenizer must have, whose stop tokens and (for want of the checkpoint's own)
                    template go into the folder
    context         tokens of prompt and answer together
    files           [{"quantisation", "file"}]: names of edge.export.onnx_model, and of the folders
    notices         sentences for a file NOTICE in the folder; none if empty
    out             the folder to fill

Answer:
    artifacts       one each: file, quantisation, bytes, export_s, checks: embedding (its type), kl (mean over `positions`
                    of a prompt, nats, against the checkpoint in float32), same_token (share of them at which the likeliest
                    token is the same), positions
    stop_ids, stop_tokens, chat_template_sha256, chat_template_source
    context_tokens  what the folder has room for
    checks          tensors; tokenizer_strings_checked, tokenizer_exotic_mismatches (invisible characters and the like,
                    which onnxruntime-genai reads otherwise); template_runs (whether onnxruntime-genai's own Jinja makes the
                    prompt of the training from the template), template_error
    versions        of the packages that the result depends on

Fails with "input" for a checkpoint or tokenizer that can't be exported right, "missing" for want of disk, "gate" if what is
read back has other inputs, outputs, logits or stop ids than it should, if float32 strays from the checkpoint, or if
onnxruntime-genai tokenises otherwise than the checkpoint's tokenizer.

The graph comes from onnxruntime-genai's builder, with what it gets wrong put right (`_flat`, `_corrected`):
    it can't read the nested rope parameters of transformers 5: it gets a flat configuration;
    it rounds Gemma's embedding scale to two decimals;
    under int8 it keeps a second, float32 copy of the embedding (270M: 981 MB), though ONNX Runtime gathers from the int8
    output matrix as well;
    it writes the commit of whatever git repository lies around its environment into the file.
Logits are of the last position only, and every layer's cache holds the whole context. int4 is rounded by k_quant, which
searches scale and zero point of a block: in edge-tiny KL 0.086 where plain rounding gave 0.108.

Memory: up to 4.6 GB for a 270M model.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])

import gc
import hashlib
import json
import logging
import math
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from edge import dialects
from edge.bench.runtimes import onnxruntime as runtime
from edge.errors import EdgeError, GateError, MissingError
from edge.export import checkpoint, gemma3, onnx_model, token_check, vocabulary
from edge.export.onnx_model import BLOCK, Quantisation, Tokens

TABLES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
TEMPLATE, CONFIG, GRAPH = "chat_template.jinja", "genai_config.json", "model.onnx"
_PIECE = 1 << 12  # blocks that k_quant rounds together: some arrays of half a megabyte, which a core's cache holds
STEP = 16  # every so many positions the logits are compared
MAX_KL = 1e-3  # nats; what float32 may stray: 4e-12 was seen
_BITS = {32: 4.0, 8: 1.0 + 4 / BLOCK, 4: 0.5 + 4.5 / BLOCK}  # bytes an element, scales and zero points included


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    out, dialect = Path(request["out"]), dialects.get(request["dialect"])
    os.environ["HF_HUB_OFFLINE"] = "1"  # all that is needed lies in the folder
    chosen = [(onnx_model.parse(f["quantisation"]), out / f["file"]) for f in request["files"]]
    folder = checkpoint.inspect(request["checkpoint"])
    shape, tokens = onnx_model.read(folder, dialect)
    onnx_model.check_rows(shape, [quantisation for quantisation, _ in chosen])
    context = onnx_model.context_of(shape, request["context"])
    _check_disk(out, shape, context, chosen)

    reply.progress(None, None, "reading the checkpoint")
    model = _load(folder)
    template, source = vocabulary.chat_template(folder, dialect.CHAT_TEMPLATE)
    strings = token_check.strings(dialect, dialect.FUNCTION_TOKENS)
    probe = Probe(folder, model, max(strings, key=len), context)
    config = _flat(folder, shape, context)
    artifacts = []
    for n, (quantisation, target) in enumerate(chosen):
        reply.progress(n, len(chosen), quantisation.name)
        started = time.perf_counter()
        _build(model, config, quantisation, tokens, target)
        _carry(folder, target, template, request["notices"])
        seconds = time.perf_counter() - started
        artifacts.append(_describe(target, quantisation, shape, tokens, context, probe, seconds))
        gc.collect()
    reply.progress(None, None, "reading back")
    return {
        "artifacts": artifacts,
        "stop_ids": tokens.stop_ids,
        "stop_tokens": list(tokens.stop),
        "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        "chat_template_source": source,
        "context_tokens": context,
        "checks": {"tensors": len(folder.tensors), **_check_genai(chosen[0][1], dialect, strings)},
        "versions": _versions(),
    }


# --- before anything is made ------------------------------------------------------------------------------------------


def _check_disk(out: Path, shape: gemma3.Shape, context: int, chosen: list[tuple[Quantisation, Path]]) -> None:
    """Raises MissingError with what is needed and what is free."""
    sizes = [math.prod(w.shape) for w in gemma3.weights(shape)]
    tables = 4 * 4 * context * shape.head // 2  # cosines and sines, of the global and the local layers
    needed = 16 << 20
    for q, _ in chosen:
        body = _BITS[{"fp32": 32, "int8": 8, "int4": 4}[q.precision]]
        needed += int(1.1 * (sizes[0] * _BITS[q.embedding_bits] + sum(sizes[1:]) * body) + tables)
    free = shutil.disk_usage(out).free
    if needed > free:
        raise MissingError(
            f"{out}: up to {needed / 1e6:,.0f} MB are needed for {', '.join(q.name for q, _ in chosen)}, "
            f"{free / 1e6:,.0f} MB are free",
            "free some disk, or export fewer quantisations at a time",
        )


def _load(folder: checkpoint.Folder) -> Any:
    """The model in float32: from bfloat16 the builder's arithmetic would lose what float32 keeps."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model = transformers.Gemma3ForCausalLM.from_pretrained(folder.path, dtype=torch.float32).eval()
    for name, weight in model.named_parameters():
        bad = int((~torch.isfinite(weight)).sum())
        if bad:
            raise EdgeError(
                f"{folder.path}: {name} has {bad} weights of {weight.numel()} that are no finite numbers",
                "training diverged (go back to an earlier checkpoint), or it was saved in float16, which Gemma 3 overflows",
            )
    return model


def _flat(folder: checkpoint.Folder, shape: gemma3.Shape, context: int) -> dict[str, Any]:
    """config.json as transformers 4 wrote it, which is what the builder reads."""
    nested = ("rope_parameters", "rope_scaling", "dtype", "torch_dtype")
    kept = {k: v for k, v in folder.config.items() if k not in nested}
    layers = ["sliding_attention" if (n + 1) % gemma3.PERIOD else "full_attention" for n in range(shape.layers)]
    return {
        **kept,
        "_name_or_path": str(folder.path),
        "architectures": ["Gemma3ForCausalLM"],
        "hidden_activation": "gelu_pytorch_tanh",
        "layer_types": layers,
        "max_position_embeddings": context,
        "query_pre_attn_scalar": shape.head,
        "rope_theta": shape.rope_base,
        "rope_local_base_freq": shape.rope_base_local,
        "tie_word_embeddings": True,
    }


# --- making a folder --------------------------------------------------------------------------------------------------


def _build(model: Any, config: dict[str, Any], quantisation: Quantisation, tokens: Tokens, target: Path) -> None:
    """The graph, its weights and genai_config.json."""
    from onnxruntime.quantization.neural_compressor import weight_only
    from onnxruntime_genai.models import builder

    logging.disable(logging.INFO)  # a line for every node
    options = {"prune_lm_head": True, "windowed_kv_cache": False, "hf_token": "false", "block_size": BLOCK}
    if quantisation.precision == "int4":
        options["algo_config"] = "k_quant"
        if quantisation.embedding_bits == 8:
            options["matmul_mixed_precision"] = "last_matmul:int8"
    made = SimpleNamespace(**config)
    cache = target.with_name(f"{target.name}.cache")
    where = ("", made._name_or_path, str(target), quantisation.precision, "cpu", str(cache))
    original, k_quant = builder.Gemma3Model, weight_only.quant_tensor_k_quant_cpu
    weight_only.quant_tensor_k_quant_cpu = _in_pieces(k_quant)
    builder.get_hf_details = lambda *_: {"extra_kwargs": {}, "hf_name": made._name_or_path, "hf_config": made}
    builder.Gemma3Model = _corrected(original, model, quantisation, tokens)
    builder.Model.get_genai_commit = classmethod(lambda _: None)
    try:
        builder.create_model(*where, **builder.parse_extra_options(*where, [f"{k}={v}" for k, v in options.items()]))
    finally:
        builder.Gemma3Model, weight_only.quant_tensor_k_quant_cpu = original, k_quant
        shutil.rmtree(cache, ignore_errors=True)


def _in_pieces(quantise: Any) -> Any:
    """k_quant some blocks at a time, on every core: blocks are independent of each other, and numpy computes without
    Python's lock. At once, the 270M's embedding takes 9 GB, and a quarter longer on one core."""
    import numpy as np

    def pieces(data: Any, num_bits: int = 4, group_size: int = 32) -> tuple[Any, ...]:
        rows = max(1, _PIECE * group_size // data.shape[1])  # of a matrix that is transposed, not copied

        def piece(begin: int) -> tuple[Any, ...]:
            values, *rest = quantise(data[begin : begin + rows], num_bits, group_size)
            return (values.astype(np.uint8), *rest)  # they come as whole numbers in float64

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            found = list(pool.map(piece, range(0, len(data), rows)))
        return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))

    return pieces


def _corrected(original: Any, model: Any, quantisation: Quantisation, tokens: Tokens) -> type:
    """onnxruntime-genai's class for Gemma 3, with the corrections that stand above."""

    class Corrected(original):  # type: ignore[misc]
        def __init__(self, config: Any, *arguments: Any) -> None:
            super().__init__(config, *arguments)
            self.embed_attrs["scale"] = math.sqrt(self.hidden_size)

        def load_weights(self, _input_path: str) -> Any:
            return model

        def make_tied_embeddings_init(self, config: Any) -> None:
            super().make_tied_embeddings_init(config)
            self.tied_quantized_embeddings = quantisation.embedding_bits < 32
            self.tied_unquantized_embeddings = not self.tied_quantized_embeddings

        def make_tied_quantized_embedding_input_names(self) -> tuple[int, str, str, str]:
            if self.quantization_algo != "default":
                found: tuple[int, str, str, str] = super().make_tied_quantized_embedding_input_names()
                return found
            bits = quantisation.embedding_bits  # the quantizer names int8 as it names int4
            return bits, f"lm_head.MatMul.weight_Q{bits}", "lm_head.MatMul.weight_scales", ""

        def resolve_special_token_ids(self, *_: Any) -> tuple[int, list[int], int]:
            return tokens.start_id, tokens.stop_ids, tokens.pad_id

        def update_genai_config(self, made: dict[str, Any]) -> None:
            made["search"].update(do_sample=False, top_k=1, top_p=1.0, temperature=1.0)  # calls are written greedily

        def save_processing(self, *_: Any) -> None:
            pass  # `save_pretrained` of transformers 5 leaves out what others need: the files are copied

    return Corrected


def _carry(folder: checkpoint.Folder, target: Path, template: str, notices: list[str]) -> None:
    for name in TABLES:
        if (folder.path / name).is_file():
            shutil.copyfile(folder.path / name, target / name)
    (target / TEMPLATE).write_text(template, encoding="utf-8")
    if notices:
        (target / "NOTICE").write_text("".join(f"{notice}\n" for notice in notices), encoding="utf-8")


# --- what was made ----------------------------------------------------------------------------------------------------


class Probe:
    """A prompt with declarations, a call and a response, and what the checkpoint expects after every 16th of its tokens."""

    def __init__(self, folder: checkpoint.Folder, model: Any, text: str, context: int) -> None:
        import torch
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder.path / "tokenizer.json"))
        self.ids = tokenizer.encode(text, add_special_tokens=False).ids[: context - 1]
        self.positions = list(range(len(self.ids) - 1, -1, -STEP))[::-1]
        with torch.inference_mode():
            ids, kept = torch.tensor([self.ids]), torch.tensor(self.positions)
            self.logits = model(ids, logits_to_keep=kept).logits[0].numpy()

    def compare(self, logits: Any) -> dict[str, Any]:
        import numpy as np

        expected, found = _log_probabilities(self.logits), _log_probabilities(logits)
        kl = (np.exp(expected) * (expected - found)).sum(-1)
        same = self.logits.argmax(-1) == logits.argmax(-1)
        return {"kl": float(kl.mean()), "same_token": float(same.mean()), "positions": len(self.positions)}


def _log_probabilities(logits: Any) -> Any:
    import numpy as np

    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(-1, keepdims=True))


def _describe(
    target: Path,
    quantisation: Quantisation,
    shape: gemma3.Shape,
    tokens: Tokens,
    context: int,
    probe: Probe,
    seconds: float,
) -> dict[str, Any]:
    """Read a finished folder back and run it. Raises GateError if something is off."""
    _check_config(target / CONFIG, tokens, context)
    try:
        made = runtime.load(str(target), {"threads": os.cpu_count() or 1, "context": context, "stop": tokens.stop})
    except EdgeError as error:
        raise GateError(error.message) from error
    _check_ends(target / GRAPH, made, shape.layers)
    logits = made.logits(probe.ids, probe.positions)
    compared = _check_logits(target, quantisation, logits, shape.vocabulary, probe)
    embedding = {32: "float32", 8: "int8", 4: "int4"}[quantisation.embedding_bits]
    return {
        "file": target.name,
        "quantisation": quantisation.name,
        "bytes": sum(f.stat().st_size for f in target.iterdir()),
        "checks": {"embedding": embedding, **compared},
        "export_s": seconds,
    }


def _check_config(file: Path, tokens: Tokens, context: int) -> None:
    told = json.loads(file.read_text(encoding="utf-8"))
    wanted = {
        "eos_token_id": tokens.stop_ids,
        "bos_token_id": tokens.start_id,
        "pad_token_id": tokens.pad_id,
        "context_length": context,
    }
    for key, value in wanted.items():
        if told["model"].get(key) != value:
            raise GateError(f"{file}: {key} is {told['model'].get(key)}, it should be {value}")
    if told["search"]["max_length"] > context:
        raise GateError(f"{file}: max_length is {told['search']['max_length']}, there is room for {context}")


def _check_ends(file: Path, made: Any, layers: int) -> None:
    """The graph has the inputs and outputs that runtimes bind, and no others."""
    kinds = [(n, kind) for n in range(layers) for kind in ("key", "value")]
    wanted = (
        {"input_ids", "attention_mask", *(f"past_key_values.{n}.{kind}" for n, kind in kinds)},
        {"logits", *(f"present.{n}.{kind}" for n, kind in kinds)},
    )
    found = made.ends()
    if found != wanted:
        strange = sorted((found[0] ^ wanted[0]) | (found[1] ^ wanted[1]))
        raise GateError(f"{file}: inputs and outputs are not the expected ones: {', '.join(strange[:6])}")


def _check_logits(target: Path, quantisation: Quantisation, logits: Any, rows: int, probe: Probe) -> dict[str, Any]:
    import numpy as np

    if logits.shape[-1] != rows:
        raise GateError(f"{target.name}: {logits.shape[-1]:,} logits for {rows:,} tokens")
    if not np.isfinite(logits).all():
        raise GateError(f"{target.name}: not all of its logits are finite numbers")
    compared = probe.compare(logits)
    if quantisation.precision == "fp32" and not compared["kl"] <= MAX_KL:
        raise GateError(f"{target.name}: a KL divergence of {compared['kl']:.3g} from the checkpoint, in float32")
    return compared


def _check_genai(target: Path, dialect: dialects.Dialect, strings: list[str]) -> dict[str, Any]:
    """onnxruntime-genai itself: loads the folder, tokenises as the checkpoint's tokenizer does, prints what parsers need.

    Its template is tried as well; apps that render prompts themselves need none, so a failure is told and no gate.
    """
    import onnxruntime_genai
    from tokenizers import Tokenizer

    onnxruntime_genai.disable_telemetry_events()
    ours = Tokenizer.from_file(str(target / "tokenizer.json"))
    theirs = onnxruntime_genai.Tokenizer(onnxruntime_genai.Model(str(target)))
    pairs = [(s, list(ours.encode(s, add_special_tokens=False).ids)) for s in strings]
    wrong = token_check.differing(pairs, lambda s: [int(n) for n in theirs.encode(s)])
    plain = [w for w in wrong if not token_check.exotic(w[0])]
    if plain:
        raise GateError(
            f"{target.name}: onnxruntime-genai tokenises {len(plain)} of {len(pairs)} strings otherwise than the "
            f"checkpoint's tokenizer; first {plain[0][0][:60]!r}: {plain[0][1]}"
        )
    shown = vocabulary.visible_tokens(dialect.FUNCTION_TOKENS, dialect.STOP)
    hidden = [t for t in shown if t not in theirs.decode([ours.token_to_id(t)])]
    if hidden:
        raise GateError(
            f"{target.name}: onnxruntime-genai prints no {' '.join(hidden)}: calls would arrive without their markers",
            'in the checkpoint\'s tokenizer.json, set "special": false for these tokens',
        )
    return {
        "tokenizer_strings_checked": len(pairs) - len(wrong),
        "tokenizer_exotic_mismatches": len(wrong),
        **_try_template(theirs, (target / TEMPLATE).read_text(encoding="utf-8"), dialect),
    }


_TOOL = {"type": "function", "function": {
    "name": "set_alarm", "description": "Sets an alarm.",
    "parameters": {"type": "object", "required": ["time"], "properties": {
        "time": {"type": "string", "description": "When"}, "repeat": {"type": "boolean", "description": "Every day"}}}}}  # fmt: skip


def _try_template(tokenizer: Any, template: str, dialect: dialects.Dialect) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Wake me at seven"}]
    try:
        prompt = tokenizer.apply_chat_template(
            json.dumps(messages), template_str=template, tools=json.dumps([_TOOL]), add_generation_prompt=True
        )
    except Exception as error:  # the package's own kind
        lines = str(error).splitlines()
        return {"template_runs": False, "template_error": lines[0] if lines else repr(error)}
    same = prompt == dialect.render(messages, [_TOOL])
    return {"template_runs": same, "template_error": None if same else "another prompt than that of the training"}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("torch", "transformers", "onnxruntime-genai", "onnxruntime", "onnx", "onnx-ir", "tokenizers")
    return {"python": sys.version.split()[0], **{n: version(n) for n in names}}


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
