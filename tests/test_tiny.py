"""The shipped base model: whole, small, honest about its digests, and in the dialect that it says."""

from __future__ import annotations

import json
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import checkpoints
import filelock
import pytest
from click.testing import CliRunner

from edge import environments, worker
from edge.bench.stats import proportion
from edge.cli import main
from edge.console import Console
from edge.dialects import functiongemma
from edge.errors import EdgeError
from edge.records import Checkpoint, digest_file, digest_folder, load
from edge.train import tiny

FILES = {
    "CARD.md", "checkpoint.json", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
    "tokenizer.model", "tokenizer_config.json",
}  # fmt: skip


def read(name: str) -> Any:
    return json.loads((tiny.SHIPPED / name).read_text(encoding="utf-8"))


def added() -> dict[str, dict[str, Any]]:
    return {token["content"]: token for token in read("tokenizer.json")["added_tokens"]}


def test_it_is_whole_and_small() -> None:
    assert {f.name for f in tiny.SHIPPED.iterdir()} == FILES
    assert sum(f.stat().st_size for f in tiny.SHIPPED.iterdir()) <= 10_000_000


def test_the_card_has_the_digests_of_the_files() -> None:
    told = dict(re.findall(r"\| `([\w.]+)` \| [\d,]+ \| `([0-9a-f]{64})` \|", card()))
    assert set(told) == FILES - {"CARD.md", "checkpoint.json"}
    record = load(Checkpoint, tiny.SHIPPED / "checkpoint.json")
    assert record.digest == digest_folder(tiny.SHIPPED) and record.notices == []  # ours, so no notice of Gemma's
    assert {name: digest_file(tiny.SHIPPED / name) for name in told} == told


def test_the_card_is_the_one_that_a_training_writes() -> None:
    """But for what is measured, and said of this training alone."""
    shape = re.split(r"\{[^}]*\}", tiny._CARD.partition("## Recipe")[0])
    assert all(part in card() for part in shape)
    told = CliRunner().invoke(main, ["tiny", "train", "--help"]).output
    assert "30,300" in told and f"{tiny.STEPS:,}" in told and "281 CPU minutes" in " ".join(told.split())


def test_llama_cpp_reads_its_layers_as_it_means_them() -> None:
    config = read("config.json")
    assert config["model_type"] == "gemma3_text"
    assert config["layer_types"] == ["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(6)]
    assert config["query_pre_attn_scalar"] == config["head_dim"]
    assert config["tie_word_embeddings"]


def test_it_stops_on_the_three_tokens() -> None:
    ids = {added()[t]["id"] for t in functiongemma.STOP}
    assert set(read("generation_config.json")["eos_token_id"]) == ids
    assert len(ids) == 3


def test_function_tokens_are_single_pieces_of_the_right_kind() -> None:
    hidden = {"<start_of_turn>", "<end_of_turn>", "<start_function_response>", "<eos>", "<bos>", "<pad>", "<unk>"}
    tokens = added()
    assert set(functiongemma.FUNCTION_TOKENS) <= set(tokens)
    assert {t for t, how in tokens.items() if how["special"]} == hidden
    listed = read("tokenizer_config.json")["added_tokens_decoder"]
    assert {v["content"]: int(k) for k, v in listed.items()} == {t: how["id"] for t, how in tokens.items()}


def test_the_template_is_the_dialects() -> None:
    assert (tiny.SHIPPED / "chat_template.jinja").read_text(encoding="utf-8") == functiongemma.CHAT_TEMPLATE


def test_weights_are_finite_bfloat16() -> None:
    data = (tiny.SHIPPED / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    tensors = {k: v for k, v in json.loads(data[8 : 8 + size]).items() if k != "__metadata__"}
    assert {t["dtype"] for t in tensors.values()} == {"BF16"}
    weights = data[8 + size :]
    full = [i for i, high in enumerate(weights[1::2]) if high & 0x7F == 0x7F]  # infinite or not a number: all exponent
    assert not [i for i in full if weights[2 * i] & 0x80]  # bits set, and the last of them lies in the low byte


def python() -> Path:
    with Console(quiet=True) as console:
        return environments.ensure(environments.spec(environments.script("tiny")), console).python


@pytest.mark.slow
def test_training_computes_what_the_library_computes_and_starts_able_to_copy(tmp_path: Path) -> None:
    script, request = Path(__file__).parent / "workers" / "scratch.py", {"tokenizer": str(tiny.SHIPPED)}
    found = worker.run(script, request, tmp_path / "out", python=python())
    assert found["difference"] < 2e-5
    assert found["fused"] is None or found["fused"] < 2e-5  # None: no compiler here
    assert found["same_data"]
    assert found["copied"]["copying"] > 0.9 and found["copied"]["plain"] < 0.1


@pytest.mark.slow
def test_a_short_training_makes_a_whole_folder(tmp_path: Path) -> None:
    with Console(quiet=True) as console:
        made = tiny.make(tmp_path / "model", console, steps=4, rows=5, every=2)
    assert made["training"]["steps"] == 4 and len(made["training"]["curve"]) == 2
    assert {f.name for f in (tmp_path / "model").iterdir()} == FILES


@pytest.mark.slow
def test_a_training_goes_on_from_a_model(tmp_path: Path) -> None:
    """At 0.53 or so of the seen phrasings after a step, where a new model is at nothing."""
    with Console(quiet=True) as console:
        made = tiny.make(tmp_path / "model", console, steps=1, seed=2, rows=5, every=1, model=tiny.SHIPPED)
    assert made["training"]["curve"][0]["scores"]["seen phrasings"] > 0.3
    assert "going on from the model edge-tiny (sha256 " in (tmp_path / "model" / "CARD.md").read_text()
    assert (tmp_path / "model" / "tokenizer.json").read_bytes() == (tiny.SHIPPED / "tokenizer.json").read_bytes()


def interrupt(done: Any, total: Any, what: str) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    how: dict[str, Any] = {"python": python(), "keep_partial": True}
    request = {"steps": 4, "seed": 3, "threads": 1, "every": 2, "rows": 5}
    worker.run(environments.script("tiny"), request, tmp_path / "whole", **how)
    with pytest.raises(KeyboardInterrupt):
        worker.run(environments.script("tiny"), request, tmp_path / "parts", progress=interrupt, **how)
    going_on: list[Any] = []
    worker.run(
        environments.script("tiny"), request, tmp_path / "parts", progress=lambda *at: going_on.append(at), **how
    )
    assert going_on[0][0] == 4  # not from the start
    whole, parts = (tmp_path / name / "model.safetensors" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


@pytest.mark.slow
def test_the_card_says_what_an_examination_finds() -> None:
    """On fewer rows than the card's; so a generator that changed under the model is noticed too."""
    told = {m[1]: float(m[2]) for m in re.finditer(r"^\| ([\w ,]+) \| ([\d.]+) \| [\d.]+ to", card(), re.M)}
    with Console(quiet=True) as console:
        found = tiny.score(tiny.SHIPPED, console, rows=200)
    for name in ("seen phrasings", "unseen phrasings", "parallel calls"):
        # Five questions are about one prompt and stand or fall together: no more is known than of a fifth as many.
        got = proportion(found["sets"][name]["right"] // 5, found["sets"][name]["rows"] // 5)
        assert got.low - 0.03 <= told[name] <= got.high + 0.03, name


class Stopped(Exception):
    """As Ctrl-C does."""


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The requests of the trainings that `make` starts: one with a negative seed is stopped half-way, others end with a
    model. Examinations are stopped at once."""
    begun: list[Any] = []

    def run(name: str, request: Any, out: Path, *_: Any, **how: Any) -> Any:
        if name == "exam":
            raise Stopped
        begun.append(request)
        desk = out.absolute().with_name(f"{out.name}.worker")
        (desk / "partial").mkdir(parents=True, exist_ok=True)
        (desk / "request.json").write_text(json.dumps({**request, "out": "…"}))
        (desk / "reply.json").unlink(missing_ok=True)
        if request["seed"] < 0:
            (desk / "partial" / "checkpoint.pt").touch()
            raise Stopped
        (desk / "reply.json").write_text(json.dumps({"ok": {"steps": request["steps"]}}))
        checkpoints.make(out)
        return {"steps": request["steps"]}

    monkeypatch.setattr(tiny, "_run", run)
    return begun


def make(out: Path, **how: Any) -> None:
    tiny.make(out, Console(quiet=True), **how)


def test_a_training_replaces_no_folder_of_something_else(tmp_path: Path, trainings: list[Any]) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(EdgeError, match="no model, and would be replaced"):
        make(tmp_path)
    assert not trainings and (tmp_path / "thesis.txt").exists()


def test_a_stopped_training_is_not_gone_on_with_by_another(tmp_path: Path, trainings: list[Any]) -> None:
    with pytest.raises(Stopped):
        make(tmp_path / "m", seed=-1)
    for other in ({"seed": -2}, {"seed": -1, "steps": 5}, {"seed": -1, "heads": 3}):
        with pytest.raises(EdgeError, match="a training with other options was stopped there"):
            make(tmp_path / "m", **other)
    with pytest.raises(Stopped):
        make(tmp_path / "m", seed=-1)
    assert [request["seed"] for request in trainings] == [-1, -1]


def test_a_finished_training_is_not_repeated_for_its_card(tmp_path: Path, trainings: list[Any]) -> None:
    for _ in range(2):
        with pytest.raises(Stopped):  # while it is examined
            make(tmp_path / "m")
    assert len(trainings) == 1
    with pytest.raises(Stopped):
        shutil.rmtree(tmp_path / "m")
        make(tmp_path / "m")
    assert len(trainings) == 2


def test_two_trainings_at_once_into_one_folder(tmp_path: Path, trainings: list[Any]) -> None:
    desk = tmp_path / "m.worker"
    desk.mkdir()
    with filelock.FileLock(desk / ".lock"), pytest.raises(EdgeError, match="another training is at work there"):
        make(tmp_path / "m")
    assert not trainings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--fake", "int9"], "no rounding 'int9'"), (["--fake", ""], "no rounding ''"), (["{empty}"], "no config.json")],
)
def test_what_can_not_be_examined_is_bad_input(
    arguments: list[str], message: str, tmp_path: Path, trainings: Any
) -> None:
    result = CliRunner().invoke(main, ["tiny", "score", *(a.format(empty=tmp_path) for a in arguments)])
    assert result.exit_code == 2 and message in result.stderr


def card() -> str:
    return (tiny.SHIPPED / "CARD.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_rounding_to_fewer_bits_loses_more() -> None:
    with Console(quiet=True) as console:
        right = [tiny.score(tiny.SHIPPED, console, 60, fake)["sets"]["seen phrasings"]["right"]
                 for fake in (None, "int8", "int2-block32")]  # fmt: skip
    assert abs(right[0] - right[1]) <= 3 and right[2] < right[0] / 2
