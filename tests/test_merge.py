"""`edge merge`: what is refused, and (slow) real adapters of several kinds, sound and broken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import checkpoints
import pytest
from click.testing import CliRunner

from edge import environments, worker
from edge.cli import main
from edge.console import Console
from edge.errors import EdgeError
from edge.export import checkpoint, gate
from edge.export.job import read_checkpoint
from edge.records import digest_folder, write_text
from edge.train import tiny
from edge.train.carry import belongs
from edge.train.merge import merge

QUIET = Console(quiet=True)
WORKERS = Path(__file__).parent / "workers"
LORA = {"peft_type": "LORA", "base_model_name_or_path": "edge-tiny"}


def adapter(folder: Path, **config: Any) -> Path:
    """Its configuration, and no weights worth the name."""
    write_text(folder / "adapter_config.json", json.dumps({**LORA, **config}))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def test_what_is_no_adapter_or_has_no_base(tmp_path: Path) -> None:
    def refused(folder: Path, message: str, base: Path | None = None, out: Path | None = None) -> None:
        with pytest.raises(EdgeError, match=message):
            merge(folder, base, out or tmp_path / "out", "functiongemma", QUIET)

    refused(tiny.SHIPPED, "a checkpoint, no adapter")
    refused(tmp_path, "no adapter_config.json")
    refused(adapter(tmp_path / "ia3", peft_type="IA3"), "of type 'IA3'")
    refused(
        adapter(tmp_path / "far", base_model_name_or_path="google/some-model"), "names its base 'google/some-model'"
    )
    refused(adapter(tmp_path / "lora"), "no such folder", base=tmp_path / "nowhere")
    refused(tmp_path / "lora", "a folder that is read", out=tmp_path / "lora")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    refused(tmp_path / "lora", "is no model, and would be replaced", out=tmp_path / "full")
    named = CliRunner().invoke(
        main, ["merge", str(tmp_path / "lora"), "--base", "edge-tiny", "--out", str(tmp_path / "full")]
    )
    assert named.exit_code == 2 and "is no model, and would be replaced" in named.stderr  # its base was found
    (tmp_path / "lora" / "adapter_model.safetensors").unlink()
    refused(tmp_path / "lora", "no adapter_model.safetensors")
    assert not (tmp_path / "out").exists()


def test_what_goes_along_with_new_weights() -> None:
    kept = [
        n for n in ("tokenizer.model", "config.json", "chat_template.jinja", "generation_config.json") if belongs(n)
    ]
    assert len(kept) == 4
    left = (
        "model.safetensors",
        "CARD.md",
        "checkpoint.json",
        ".git",
        "pytorch_model.bin",
        "model.safetensors.index.json",
    )
    assert not any(belongs(n) for n in left)


def made(folder: Path, base: Path = tiny.SHIPPED, size: float = 0.02, **request: Any) -> dict[str, Any]:
    """A random adapter in `folder`, and what it expects after each token of a prompt."""
    environment = environments.ensure(environments.spec(environments.script("merge")), QUIET)
    text = gate.own_rows("functiongemma", 1)[0]["prompt"]
    asked = {"base": str(base), "size": size, "text": text, **request}
    return worker.run(WORKERS / "adapter.py", asked, folder, python=environment.python)


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"use_dora": True}, {"use_rslora": True}])
def test_a_merged_checkpoint_expects_what_base_and_adapter_did(tmp_path: Path, more: dict[str, Any]) -> None:
    told = made(tmp_path / "adapter", more=more)
    before = digest_folder(tmp_path / "adapter")
    assert told["together"] != told["alone"]
    merged = merge(tmp_path / "adapter", tiny.SHIPPED, tmp_path / "out", "functiongemma", QUIET)
    facts = (merged.training or {})["merged"]
    assert facts["changed"] == 42 and facts["prompts"] == 16 and facts["largest"] < 1e-3
    assert read_checkpoint(tmp_path / "out", "functiongemma") == merged  # a record of these very files
    assert merged.base == read_checkpoint(tiny.SHIPPED, "functiongemma").digest and not merged.notices
    assert {t.dtype for t in checkpoint.inspect(tmp_path / "out").tensors.values()} == {"F32"}
    for name in ("tokenizer.model", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tiny.SHIPPED / name).read_bytes(), name
    assert digest_folder(tmp_path / "adapter") == digest_folder(tmp_path / "out" / "adapter") == before


@pytest.mark.slow
def test_adapters_that_can_not_be_merged(tmp_path: Path) -> None:
    def refused(name: str, message: str, base: Path = tiny.SHIPPED) -> None:
        with pytest.raises(EdgeError, match=message):
            merge(tmp_path / name, base, tmp_path / "out", "functiongemma", QUIET)
        assert not (tmp_path / "out").exists()

    made(tmp_path / "zero", size=0.0)
    refused("zero", "changes nothing")
    made(tmp_path / "nan", bad=True)
    refused("nan", "no numbers")
    made(tmp_path / "good", targets=["q_proj"])
    other = checkpoints.make(tmp_path / "other")
    shutil.copy(tiny.SHIPPED / "tokenizer.json", other)
    shutil.copy(tiny.SHIPPED / "tokenizer_config.json", other)
    refused("good", "not an adapter of", other)
    shutil.copytree(tmp_path / "good", tmp_path / "cut")
    data = (tmp_path / "cut" / "adapter_model.safetensors").read_bytes()
    (tmp_path / "cut" / "adapter_model.safetensors").write_bytes(data[: len(data) // 2])
    refused("cut", "cut off")
