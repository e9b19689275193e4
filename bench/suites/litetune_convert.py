# /// script
# requires-python = ">=3.10,<3.13"
# dependencies = ["litetune==0.6.0"]
#
# [tool.edge]
# megabytes = 50
# environment = "litetune"
# platforms = ["Linux x86_64", "Darwin arm64"]
# ///
"""The peer that `formats_270m` stands beside: litetune's `convert`, checkpoint -> one `.litertlm` a recipe.

Its command is run as its users run it, in a process of its own, from an environment with nothing but litetune in it; it
builds the environment that it converts in itself (pinned; on Linux 6.7 GB with its CUDA libraries), below
LITETUNE_ENV_DIR or in the user's cache. That is done apart, since it is no part of a conversion.

Request:
    do              "provision": build that environment, and nothing else; or "convert"
    checkpoint      the folder: config.json, safetensors, tokenizer files
    base_model      whose rules litetune follows, such as "google/functiongemma-270m-it"; nothing is fetched
    recipes         the quantizer's names
    prefill, cache  lengths in tokens
    out             the folder to fill

Answer, of "convert":
    seconds         from the command's start to its end
    recipes         one each: recipe, seconds, bytes, outcome ("passed" or what litetune calls it)
    versions        litetune; litert-torch, torch, transformers as litetune found them

Fails with "worker" and litetune's own words if it made none.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])

import importlib
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from edge.errors import WorkerError

_MAIN = "import sys; from litetune.cli import main; sys.exit(main())"
_NAMES = ("litert-torch-nightly", "ai-edge-quantizer-nightly", "litert-lm-builder", "torch", "transformers")


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    if request["do"] == "provision":
        reply.progress(None, None, "litetune's own environment")
        importlib.import_module("litetune.envs").EXPORT.provision()
        return {}
    source = _copy(Path(request["checkpoint"]), Path(request["out"]) / "checkpoint")
    command = [sys.executable, "-c", _MAIN, *_arguments(request, source)]
    reply.progress(None, None, f"{len(request['recipes'])} recipes")
    started = time.monotonic()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.monotonic() - started
    (Path(request["out"]) / "report.json").write_text(done.stdout, encoding="utf-8")
    try:
        report = json.loads(done.stdout)
        recipes = [_recipe(told) for told in report["exports"]]
    except (ValueError, KeyError) as error:
        raise WorkerError(f"litetune ended with status {done.returncode} and no report: {error!r}") from None
    if not recipes:
        raise WorkerError(f"litetune made nothing: {report.get('outcome')}", "the log has its reason")
    return {"seconds": seconds, "recipes": recipes, "versions": _versions(report)}


def _copy(source: Path, target: Path) -> Path:
    """litetune writes into the checkpoint's folder (tokenizer_config.json), so it gets one of its own."""
    target.mkdir()
    for file in source.iterdir():
        if file.suffix == ".safetensors":
            (target / file.name).symlink_to(file.absolute())
        elif file.is_file():
            shutil.copyfile(file, target / file.name)
    return target


def _arguments(request: dict[str, Any], checkpoint: Path) -> list[str]:
    """The shape that ours have: one file with the embedding in it, the same prefill and cache."""
    recipes = [word for recipe in request["recipes"] for word in ("--recipe", recipe)]
    lengths = ",".join(map(str, request["prefill"]))
    flags = [f"--flag=--prefill_lengths=[{lengths}]", f"--flag=--cache_length={request['cache']}"]
    return ["convert", "--model", str(checkpoint), "--base-model", request["base_model"], *recipes, *flags,
            "--no-externalize-embedder", "--no-provision", "--output-dir", request["out"], "--json"]  # fmt: skip


def _recipe(told: dict[str, Any]) -> dict[str, Any]:
    return {
        "recipe": told["recipe"],
        "seconds": told["seconds"],
        "bytes": told["artifact_bytes"],
        "outcome": told["outcome"],
    }


def _versions(report: dict[str, Any]) -> dict[str, str]:
    from importlib.metadata import version

    found = report.get("toolchain", {}).get("resolved") or {}
    return {"litetune": version("litetune"), **{n: found[n] for n in _NAMES if n in found}}


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
