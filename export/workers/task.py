# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["mediapipe==0.10.35", "numpy==2.4.6", "sentencepiece==0.2.3"]
#
# [tool.edge]
# megabytes = 200
# environment = "task"
# platforms = ["Linux x86_64", "Darwin arm64"]
# without = ["jax", "jaxlib", "matplotlib", "opencv-contrib-python", "sounddevice", "torch"]
# ///
"""TFLite -> `.task`: with the tokenizer and the stop tokens, by MediaPipe's bundler.

Request:
    checkpoint      the folder that the TFLite was converted from: for its tokenizer
    dialect         whose stop tokens go in
    cache           tokens that the TFLite's cache holds
    profile         "flutter_gemma": nothing around a prompt; "turns": a user turn before it, a model turn opened after it
    files           [{"quantisation", "model", "sha256", "file"}]: TFLites, their digests, the names of the bundles
    out             the folder to fill

Answer:
    artifacts       one each: file, quantisation, bytes, export_s, checks (carried_sha256: of the TFLite inside)
    stop_ids, stop_tokens
    context_tokens  the cache's length
    checks          members (of the zip), start_token, prompt_strings (how many the metadata holds around a prompt), as read back
    versions        of the packages that the result depends on

Fails with "input" for a tokenizer that can't be used, "missing" for want of disk, "gate" if what is read back is not what
was put in.

The bundler comes with imports of jax, torch, OpenCV and others, and uses none of them; they are not in the environment and
stood in for, which changes no byte of the file.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])

import hashlib
import importlib.abc
import importlib.machinery
import types
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge import dialects
from edge.errors import GateError
from edge.export import checkpoint, litert
from edge.export.inspect.wire import Message

UNUSED = ("jax", "jaxlib", "torch", "cv2", "matplotlib", "sounddevice")
MEMBERS = ("TF_LITE_PREFILL_DECODE", "TOKENIZER_MODEL", "METADATA")
_STOP, _START, _PROMPT, _ROLES = 5, 6, 8, 17  # fields of the metadata, an LlmParameters message
_USER, _MODEL = ("<start_of_turn>user\n", "<end_of_turn>\n"), ("<start_of_turn>model\n", "<end_of_turn>\n")


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    folder = checkpoint.inspect(request["checkpoint"])
    litert.check_disk(Path(request["out"]), request["files"])
    tokens = litert.read_tokens(folder, dialects.get(request["dialect"]), folder.config["vocab_size"])
    tokenizer, profile = folder.path / "tokenizer.model", request["profile"]
    sys.meta_path.insert(0, _StandIns())
    made = litert.bundles(
        request,
        reply,
        lambda target, f: _bundle(target, f["model"], tokenizer, tokens, profile),
        lambda target, f: _read_back(target, tokenizer, tokens, profile, f["sha256"]),
    )
    return {
        **made,
        "stop_ids": tokens.stop_ids,
        "stop_tokens": list(tokens.stop),
        "context_tokens": request["cache"],
        "versions": _versions(),
    }


class _Anything:
    """Takes any attribute and any call: enough for module-level code that is never run in earnest."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything()

    def __call__(self, *_: Any, **__: Any) -> Any:
        return _Anything()


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules for packages that are imported and not used."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in UNUSED:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda _name: _Anything()  # type: ignore[method-assign]  # PEP 562, which mypy takes for a method
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _bundle(target: Path, model: str, tokenizer: Path, tokens: litert.Tokens, profile: str) -> None:
    from mediapipe.tasks.python.genai import bundler

    config = bundler.BundleConfig(
        tflite_model=model,
        tokenizer_model=str(tokenizer),
        start_token=tokens.start,
        stop_tokens=list(tokens.stop),
        output_filename=str(target),
        enable_bytes_to_unicode_mapping=False,
        **(_turns(bundler.BundleConfig) if profile == "turns" else {}),
    )
    bundler.create_bundle(config)


def _turns(config: Any) -> dict[str, str]:
    """The turn markers, under the names that this release of MediaPipe has for them."""
    if "prompt_prefix" in config.__dataclass_fields__:  # 0.10.21
        return {"prompt_prefix": _USER[0], "prompt_suffix": _USER[1] + _MODEL[0]}
    return {
        "prompt_prefix_user": _USER[0], "prompt_suffix_user": _USER[1],
        "prompt_prefix_model": _MODEL[0], "prompt_suffix_model": _MODEL[1],
        "prompt_prefix_system": "<start_of_turn>developer\n", "prompt_suffix_system": _USER[1],
    }  # fmt: skip


def _read_back(file: Path, tokenizer: Path, tokens: litert.Tokens, profile: str, model_sha256: str) -> dict[str, Any]:
    """Look into a finished file. Raises GateError if a member is not what was put in."""
    with zipfile.ZipFile(file) as bundle:
        names = bundle.namelist()
        if sorted(names) != sorted(MEMBERS) or any(i.compress_type for i in bundle.infolist()):
            raise GateError(f"{file.name}: its members are {names}; {', '.join(MEMBERS)} were to be stored")
        for name, wanted in zip(
            MEMBERS, (model_sha256, hashlib.sha256(tokenizer.read_bytes()).hexdigest()), strict=False
        ):
            with bundle.open(name) as member:
                if litert.digest(member) != wanted:
                    raise GateError(
                        f"{file.name}: its {name} is not what was put in", "the TFLite changed: export again"
                    )
        metadata = Message(memoryview(bundle.read("METADATA")))
    stop, start = sorted(metadata.texts(_STOP)), metadata.texts(_START)
    around = len(metadata.texts(_PROMPT)) + len(metadata.texts(_ROLES))
    if stop != sorted(tokens.stop) or start != [tokens.start] or bool(around) != (profile == "turns"):
        raise GateError(f"{file.name}: read back were stop tokens {stop}, start {start}, {around} prompt templates")
    return {"members": names, "start_token": tokens.start, "prompt_strings": around}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("mediapipe", "numpy", "sentencepiece")
    return {"python": sys.version.split()[0], **{n: version(n) for n in names}}


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
