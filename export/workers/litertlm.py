# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["litert-lm-builder==0.18.1", "sentencepiece==0.2.3"]
#
# [tool.edge]
# megabytes = 30
# environment = "litertlm"
# ///
"""TFLite -> `.litertlm`: with the tokenizer, and with metadata of our own, by litert-lm-builder.

Request:
    checkpoint      the folder that the TFLite was converted from: for its tokenizer
    dialect         the one whose calls LiteRT-LM reads from a model of this family
    cache           tokens that the TFLite's cache holds
    files           [{"quantisation", "model", "sha256", "file"}]: TFLites, their digests, the names of the bundles
    notices         what goes into the file's metadata as its license notice
    out             the folder to fill

Answer:
    artifacts       one each: file, quantisation, bytes, export_s, checks (carried_sha256: of the TFLite inside)
    stop_ids, stop_tokens, chat_template_sha256
    context_tokens  the cache's length
    checks          sections (their kinds, in order), model_type, prefer_activation_type, as read back
    versions        of the packages that the result depends on

Fails with "input" for a tokenizer that can't be used, "missing" for want of disk, "gate" if what is read back is not what
was put in. The file also holds a random name and the time, so two of them differ: compare the sections.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])

import hashlib
import io
import pkgutil
import zlib
from pathlib import Path
from typing import Any

from edge import dialects
from edge.errors import EdgeError, GateError
from edge.export import checkpoint, families, litert

TEMPLATES = {"functiongemma": "litert_template.jinja", "hermes": "litert_template_hermes.jinja"}
# On Android's GPU float16 is what a section without this is computed in, and Gemma 3 overflows there.
ACTIVATION = "fp32"
_HF = "HF_Tokenizer_Zlib"
_MARKERS = ("<start_function_call>", "<end_function_call>", "<escape>", "<start_function_response>")


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    folder = checkpoint.inspect(request["checkpoint"])
    family = families.require(folder, "litertlm")
    if request["dialect"] != family.dialect:
        raise EdgeError(f"no .litertlm for the dialect {request['dialect']}", "export it as tflite, or as gguf")
    litert.check_disk(Path(request["out"]), request["files"])
    tokens = litert.read_tokens(folder, dialects.get(request["dialect"]), folder.config["vocab_size"])
    metadata = _metadata(tokens, request["cache"], family)
    made = litert.bundles(
        request,
        reply,
        lambda target, f: _build(target, metadata, tokens, f["model"], request["notices"]),
        lambda target, f: _read_back(target, metadata, tokens, f["sha256"]),
    )
    return {
        **made,
        "stop_ids": tokens.stop_ids,
        "stop_tokens": list(tokens.stop),
        "chat_template_sha256": hashlib.sha256(metadata.jinja_prompt_template.encode()).hexdigest(),
        "context_tokens": request["cache"],
        "versions": _versions(),
    }


def _metadata(tokens: litert.Tokens, cache: int, family: families.Family) -> Any:
    """What LiteRT-LM is told. Stops are ids: as text they would be tokenised, and miss."""
    from litert_lm_builder.runtime.proto import llm_metadata_pb2, sampler_params_pb2

    told = llm_metadata_pb2.LlmMetadata()
    if tokens.start is not None:
        told.start_token.token_ids.ids.append(tokens.start_id)
    for n in tokens.stop_ids:
        told.stop_tokens.add().token_ids.ids.append(n)
    if tokens.pad_id is not None:
        told.pad_token.token_ids.ids.append(tokens.pad_id)
    sampler = told.sampler_params  # greedy, as calls are scored; the runtime has no sampler of the type GREEDY
    sampler.type = sampler_params_pb2.SamplerParameters.TOP_P
    sampler.k, sampler.p, sampler.temperature, sampler.seed = 1, 1.0, 1.0, 0
    told.max_num_tokens = cache
    told.supports_thinking, told.supports_function_calling = False, True
    told.jinja_prompt_template = _template(family.dialect)
    kind = getattr(told.llm_model_type, str(family.litert_lm))
    (_function_gemma if family.dialect == "functiongemma" else _hermes)(kind)
    return told


def _template(dialect: str) -> str:
    return (pkgutil.get_data("edge.export", TEMPLATES[dialect]) or b"").decode()


def _function_gemma(kind: Any) -> None:
    """How LiteRT-LM finds and reads calls."""
    from litert_lm_builder.runtime.proto import llm_model_type_pb2

    begin, end, quote, response = _MARKERS
    kind.code_fence_start, kind.code_fence_end, kind.function_response_start = begin, end, response
    kind.open_quote = kind.close_quote = quote
    kind.syntax_type, kind.escape_fence_strings = "fc", True
    # The template writes declarations, calls and responses: the runtime would keep the order that an app gives them in.
    kind.use_template_for_fc_format = True
    kind.constraint_mode = llm_model_type_pb2.CONSTRAINT_MODE_TEXT_AND_OR


def _hermes(kind: Any) -> None:
    """The same for Qwen 2.5 and Qwen 3, whose calls are JSON."""
    kind.code_fence_start, kind.code_fence_end, kind.escape_fence_strings = "<tool_call>", "</tool_call>", True


def _build(target: Path, metadata: Any, tokens: litert.Tokens, model: str, notices: list[str]) -> None:
    import litert_lm_builder as lm

    proto = target.with_suffix(".pb")
    proto.write_bytes(metadata.SerializeToString())
    builder = lm.LitertLmFileBuilder()
    builder.add_system_metadata(lm.Metadata(key="Authors", value="edge", dtype=lm.DType.STRING))
    if notices:
        builder.add_system_metadata(lm.Metadata(key="License", value="\n".join(notices), dtype=lm.DType.STRING))
    builder.add_llm_metadata(str(proto))
    add = builder.add_sentencepiece_tokenizer if tokens.sentencepiece else builder.add_hf_tokenizer
    add(str(tokens.file))
    builder.add_tflite_model(model, lm.TfLiteModelType.PREFILL_DECODE, prefer_activation_type=ACTIVATION)
    builder.validate_metadata()
    with target.open("wb") as f:
        builder.build(f)
    proto.unlink()


def _read_back(file: Path, metadata: Any, tokens: litert.Tokens, model_sha256: str) -> dict[str, Any]:
    """Look at the sections of a finished file. Raises GateError if one is not what was put in."""
    from litert_lm_builder import litertlm_core, litertlm_peek

    sections = litertlm_peek.read_litertlm_header(str(file), io.StringIO()).SectionMetadata()
    found: dict[str, str] = {}
    items: dict[str, dict[str, Any]] = {}
    for n in range(sections.ObjectsLength()):
        section = sections.Objects(n)
        kind = litertlm_core.any_section_data_type_to_string(section.DataType())
        told = [litertlm_peek.kvp_to_dict(section.Items(i)) for i in range(section.ItemsLength())]
        items[kind] = {t["key"]: t["value"] for t in told}
        with file.open("rb") as f:
            f.seek(section.BeginOffset())
            length = section.EndOffset() - section.BeginOffset()
            # Hugging Face's is compressed, behind eight bytes that tell its length.
            found[kind] = _unpacked(f.read(length)) if kind == _HF else litert.digest(f, length)
    expected = {
        "LlmMetadataProto": hashlib.sha256(metadata.SerializeToString()).hexdigest(),
        "SP_Tokenizer" if tokens.sentencepiece else _HF: hashlib.sha256(tokens.file.read_bytes()).hexdigest(),
        "TFLiteModel": model_sha256,
    }
    for kind, digest in expected.items():
        if found.get(kind) != digest:
            raise GateError(
                f"{file.name}: its section {kind} is not what was put in", "the TFLite changed: export again"
            )
    activation = items["TFLiteModel"].get("prefer_activation_type")
    if activation != ACTIVATION:
        raise GateError(f"{file.name}: its model prefers activations of type {activation}, not {ACTIVATION}")
    kind = str(metadata.llm_model_type.WhichOneof("model_type"))
    return {"sections": list(found), "model_type": kind, "prefer_activation_type": ACTIVATION}


def _unpacked(data: bytes) -> str:
    """sha256 of what was compressed; of nothing if it can't be unpacked."""
    try:
        return hashlib.sha256(zlib.decompress(data[8:])).hexdigest()
    except zlib.error:
        return ""


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("litert-lm-builder", "protobuf", "sentencepiece")
    return {"python": sys.version.split()[0], **{n: version(n) for n in names}}


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
