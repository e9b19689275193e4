"""The gate: what is asked, what is judged how, names of refused files; and (slow) real artifacts, sound and broken."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge import dialects, environments, starter
from edge.bench.parity import places
from edge.cli import main
from edge.console import Console
from edge.dialects import functiongemma
from edge.errors import EdgeError, GateError
from edge.export import gate, gguf, gguf_file, job
from edge.export.job import manifest_of, read_checkpoint, refused_of
from edge.records import Artifact, Checkpoint, Measurement, Sample, digest_file, load, save
from edge.train import tiny

QUIET = Console(quiet=True)
LIMITS = gate.LIMITS["8 bits"]
TOKENS = {"positions": 128, "same": 128, "sure": 120, "sure_same": 120, "kl_mean": 0.001}
CALLS = {"right_before": 40, "right": 40, "lost": 0, "gained": 0, "difference": 0.0, "low": -0.03, "high": 0.03}


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("f32", "float"), ("bf16", "float"), ("q8_0", "8 bits"), ("int8-weight-only", "8 bits"), ("q6_k", "5 to 6 bits"),
        ("q5_k_m", "5 to 6 bits"), ("q4_k_m-emb-q8_0", "4 bits"), ("iq4_xs", "4 bits"), ("int4-block32", "4 bits"),
        ("q8_0-emb-q4_0", "4 bits"), ("iq3_xxs", "under 4 bits"), ("q2_k", "under 4 bits"),
    ],
)  # fmt: skip
def test_a_quantisation_is_judged_by_its_fewest_bits(name: str, group: str) -> None:
    assert gate.class_of(name) == group


def test_limits_are_set_by_name() -> None:
    found = gate.set_limits(["4 bits.kl=0.5", "float.calls=0"])
    assert found["4 bits"] == replace(gate.LIMITS["4 bits"], kl=0.5) and found["float"].calls == 0.0
    assert found["8 bits"] == gate.LIMITS["8 bits"] and gate.LIMITS["4 bits"].kl != 0.5
    for bad in ("kl=1", "9 bits.kl=1", "4 bits.kk=1", "4 bits.kl=x", ""):
        with pytest.raises(EdgeError, match="no limit") as told:
            gate.set_limits([bad])
        assert "4 bits" in str(told.value.hint)


@pytest.mark.parametrize(
    ("tokens", "calls", "verdict", "word"),
    [
        ({}, {}, "proven", None),
        ({"kl_mean": 0.1}, {}, "degraded", "nats"),
        ({"kl_mean": 0.6}, {}, "refused", "nats"),
        ({"kl_mean": float("nan")}, {}, "refused", "nats"),
        ({"sure_same": 115}, {}, "degraded", "5 of 120 places"),
        ({"sure_same": 90}, {}, "refused", "30 of 120 places"),
        ({"positions": 0}, {}, "refused", "fits"),
        ({"missing": "x needs y"}, {}, "proven", "not compared"),
        ({}, {"difference": -0.02, "low": -0.06, "high": 0.02, "lost": 2}, "proven", None),
        ({}, {"difference": -0.1, "low": -0.18, "high": -0.02, "lost": 5}, "degraded", "-10.0 points"),
        ({}, {"difference": -0.4, "low": -0.5, "high": -0.3, "lost": 20}, "refused", "20 of 40 right rows lost"),
        ({}, {"right_before": 0}, "proven", "no calls to compare"),
        ({}, {"error": "it died"}, "refused", "it died"),
        ({"kl_mean": 0.1}, {"difference": -0.4, "low": -0.5, "high": -0.3, "lost": 20}, "refused", "nats"),
    ],
)
def test_judgement(tokens: dict, calls: dict, verdict: str, word: str | None) -> None:
    found, why = gate.judge({"tokens": {**TOKENS, **tokens}, "calls": {**CALLS, **calls}}, LIMITS)
    assert found == verdict
    assert (word is None) == (not why) and (word is None or word in " ".join(why))


def test_places_go_from_the_first_token_of_the_answer_to_its_last() -> None:
    assert places(10, 30, 8) == [9, 11, 14, 17, 19, 22, 25, 28]
    assert places(10, 12, 8) == [9, 10] and places(10, 10, 8) == [9] and places(10, 30, 1) == [9]


@pytest.mark.parametrize("dialect", dialects.names())
def test_own_questions_have_right_answers_that_the_dialect_reads(dialect: str) -> None:
    rows = gate.own_rows(dialect, 20)
    assert rows == gate.own_rows(dialect, 20) and len({r["id"] for r in rows}) == 20
    assert {len(r["expected"]) for r in rows} >= {1, 2}
    assert all(call["name"] in r["prompt"] for r in rows for call in r["expected"])


def test_rows_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    function = {"name": "ping", "description": "Pings.", "parameters": {"type": "object", "properties": {}}}
    tool = {"type": "function", "function": function}
    call = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "ping", "arguments": {}}}]}
    row = {"tools": [tool], "messages": [{"role": "user", "content": "ping it"}, call]}
    file.write_text("".join(json.dumps(r) + "\n" for r in [row, {"no": "row"}, row]))
    found = gate.read_rows(file, "functiongemma", 10)
    assert [r["expected"] for r in found] == [[{"name": "ping", "arguments": {}}]] * 2
    assert len(gate.read_rows(file, "functiongemma", 1)) == 1
    file.write_text('{"no": "row"}\n')
    with pytest.raises(EdgeError, match="no usable rows"):
        gate.read_rows(file, "functiongemma")


def test_rows_without_tools_of_their_own_take_those_of_a_file(tmp_path: Path) -> None:
    """Prompts as the tuning wrote them: the usual developer message and the tools in front."""
    rows, declared = tmp_path / "rows.jsonl", tmp_path / "tools.py"
    rows.write_text(json.dumps({"user_content": "ping it", "tool_name": "ping", "tool_arguments": "{}"}) + "\n")
    declared.write_text('def ping():\n    """Pings."""\n')
    with pytest.raises(EdgeError, match="rows without tools") as refused:
        gate.questions(rows, "functiongemma")
    assert "--tools FILE" in str(refused.value.hint)
    (bare,) = gate.questions(rows, "functiongemma", bare=True)  # as a checkpoint was tuned
    assert "declaration:" not in bare["prompt"]
    (asked,) = gate.questions(rows, "functiongemma", tools_file=declared)
    assert asked["expected"] == [{"name": "ping", "arguments": {}}]
    assert "You are a model that can do function calling" in asked["prompt"] and "declaration:ping{" in asked["prompt"]


def test_rows_without_tools_of_their_own_take_those_of_their_project(tmp_path: Path) -> None:
    app = tmp_path / "app"
    starter.write(app)
    (app / "rows").mkdir()
    rows = (app / "eval.jsonl").replace(app / "rows" / "eval.jsonl")
    with pytest.raises(EdgeError, match=r"their project can't be read: .*no file 'eval\.jsonl'"):
        gate.questions(rows, "functiongemma")
    (app / "eval.jsonl").write_bytes(rows.read_bytes())
    asked = gate.questions(rows, "functiongemma", 5)
    assert len(asked) == 5 and all(row["tools"] and "declaration:" in row["prompt"] for row in asked)


def test_rows_that_call_nothing_need_no_tools_and_none_are_imported(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello."}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": talk}) + "\n")
    (asked,) = gate.questions(tmp_path / "rows.jsonl", "functiongemma")
    assert asked["expected"] == [] and "declaration:" not in asked["prompt"]


def test_a_checkpoint_is_asked_as_its_record_says_that_it_was_tuned(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"user_content": "ping it", "tool_name": "ping", "tool_arguments": "{}"}) + "\n")
    bare = Checkpoint("0" * 64, "tuned", "functiongemma", training={"tools": {"own": 0, "declared": 0, "none": 1}})
    (asked,) = gate.questions_for(bare, rows, 5, None, Console(quiet=True))
    assert "declaration:" not in asked["prompt"]
    with pytest.raises(EdgeError, match="rows without tools"):
        gate.questions_for(replace(bare, training={"tools": 3}), rows, 5, None, Console(quiet=True))


def test_export_takes_the_embedded_model_by_its_name(tmp_path: Path) -> None:
    """And refuses rows before it makes anything."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"user_content": "ping it", "tool_name": "ping", "tool_arguments": "{}"}) + "\n")
    out = tmp_path / "build" / "artifacts"
    result = CliRunner().invoke(main, ["export", "gguf", "edge-tiny", "--rows", str(rows), "--out", str(out)])
    assert result.exit_code == 2 and "rows without tools" in result.stderr and not out.exists()
    result = CliRunner().invoke(main, ["export", "gguf", str(tmp_path / "nope"), "--out", str(out)])
    assert result.exit_code == 2 and "no such folder" in result.stderr


CALL = functiongemma.completion(
    {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "ping", "arguments": {}}}]}
)


@pytest.mark.parametrize(
    ("text", "stop", "cause"),
    [
        ("<pad><pad><pad>", "length", "float16"),
        ("", "<eos>", "stop at once"),
        ("これはなんですかわかりません", "<eos>", "tokenizer"),
        ("la la la la", "length", "random weights"),
        ("I can help you with that.", "<eos>", "not tuned for function calls"),
    ],
)
def test_a_checkpoint_that_calls_nothing_is_refused_with_its_cause(text: str, stop: str, cause: str) -> None:
    rows = [{"id": str(n), "prompt": "?", "expected": [{"name": "ping", "arguments": {}}]} for n in range(20)]
    checkpoint = Checkpoint("0" * 64, "/models/x", "functiongemma")

    def said(texts: list[str]) -> Measurement:
        samples = [Sample(str(n), t, stop=stop) for n, t in enumerate(texts)]
        return Measurement("d", "x", "checkpoint", "transformers", None, {}, "w", 2, samples=samples)

    with pytest.raises(GateError, match="/models/x") as told:
        gate.refuse_nonsense(said([text] * 18 + [CALL] * 2), rows, checkpoint)
    assert cause in str(told.value.hint)
    gate.refuse_nonsense(said([text] * 17 + [CALL] * 3), rows, checkpoint)  # a weak model is not a broken one
    none = [{**r, "expected": []} for r in rows]
    gate.refuse_nonsense(said([text] * 20), none, checkpoint)  # nobody asked for a call


def test_a_refused_file_says_so_by_its_name_and_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "m-q8_0.gguf"
    file.write_bytes(b"weights")
    artifact = Artifact(
        digest_file(file), str(file), "gguf", "q8_0", 7, "c", "functiongemma", "gguf", options={"key": "k"}
    )
    save(artifact, manifest_of(file))
    refused = gate.keep(replace(artifact, proof={"verdict": "refused"}))
    assert Path(refused.path) == refused_of(file) and refused_of(file).read_bytes() == b"weights"
    assert load(Artifact, manifest_of(refused_of(file))).path == refused.path
    assert not file.exists() and not manifest_of(file).exists()
    source = Checkpoint("c", str(tmp_path / "checkpoint"), "functiongemma")
    kept = job.Job(source, "gguf", tmp_path, "m", QUIET, lambda spec: None).kept(file, "k")
    assert kept and Path(kept.path) == file and kept.proof == {"verdict": "refused"} and file.exists()
    proven = gate.keep(replace(kept, proof={"verdict": "proven"}))
    assert Path(proven.path) == file and not refused_of(file).exists() and not manifest_of(refused_of(file)).exists()


def test_artifacts_do_not_go_into_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="checkpoint's own folder"):
        job.Job(Checkpoint("c", str(tmp_path), "functiongemma"), "gguf", tmp_path, "m", QUIET, lambda spec: None)


# --- the real thing ---------------------------------------------------------------------------------------------------

ROWS = 12


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory):
    """A gate for the embedded model, and artifacts of it that nobody has proven yet."""
    out = tmp_path_factory.mktemp("gate")
    source = read_checkpoint(tiny.SHIPPED, "functiongemma")

    def build(spec):
        return environments.ensure(spec, QUIET)

    made = gguf.export(source, ["f16", "q8_0"], out, "m", QUIET, build)
    asked = gate.own_rows("functiongemma", ROWS)
    with gate.Gate(source, asked, out / ".gate", QUIET, build) as the_gate:
        yield the_gate, {a.quantisation: a for a in made.artifacts}, out


@pytest.mark.slow
def test_sound_artifacts_are_proven(opened) -> None:
    the_gate, artifacts, _ = opened
    proven = the_gate.prove(artifacts["f16"])
    tokens, calls = proven.proof["tokens"], proven.proof["calls"]
    assert proven.proof["verdict"] == "proven" and not proven.proof["why"]
    assert tokens["positions"] == ROWS * gate.PLACES and tokens["sure_same"] == tokens["sure"] > 80
    assert tokens["kl_mean"] < 1e-5 and tokens["too_long"] == 0
    assert calls["rows"] == ROWS and calls["same"] == ROWS and calls["right_before"] == calls["right"]
    assert load(Artifact, manifest_of(Path(proven.path))) == proven
    served = proven.proof["prompts"]  # Ollama adds a sentence of its own, llama.cpp runs the checkpoint's template
    assert served["llama_cpp"]["differ"] == 0 and served["ollama"]["differ"] == served["ollama"]["rows"] == ROWS
    assert 0 < the_gate.prove(artifacts["q8_0"]).proof["tokens"]["kl_mean"] < 0.01


@pytest.mark.slow
def test_a_broken_artifact_is_refused_though_its_size_is_right(opened) -> None:
    """What attention writes, with its sign turned: it loads, it runs, it writes, and it is not the model any more."""
    the_gate, artifacts, out = opened
    file = out / "broken-q8_0.gguf"
    data = bytearray(Path(artifacts["q8_0"].path).read_bytes())
    header = gguf_file.verify(Path(artifacts["q8_0"].path))
    for name in (n for n in header.tensors if n.endswith("attn_output.weight")):
        start = header.data_start + header.tensors[name].offset
        for at in range(start, start + header.tensors[name].nbytes, 34):  # a block of q8_0: a scale and 32 bytes
            data[at + 1] ^= 0x80
    file.write_bytes(data)
    assert file.stat().st_size == Path(artifacts["q8_0"].path).stat().st_size
    broken = replace(artifacts["q8_0"], path=str(file), digest=digest_file(file), proof=None)
    found = the_gate.prove(broken)
    assert found.proof["verdict"] == "refused" and found.proof["tokens"]["kl_mean"] > 0.5
    assert Path(found.path).name == "broken-q8_0.gguf.refused" and not file.exists()


@pytest.mark.slow
def test_the_command_says_what_it_found_and_gathers_it_once(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def edge(*more: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "edge",
            "export",
            "gguf",
            str(tiny.SHIPPED),
            "--quant",
            "f16",
            "--out",
            str(out),
        ]
        return subprocess.run([*command, "--count", "4", *more], capture_output=True, text=True, check=False)

    first = edge()
    assert first.returncode == 0 and first.stdout.strip().endswith("MB  proven"), first.stderr
    assert not list((out / ".gate").rglob("*.npy"))  # a hundred megabytes for a model of Gemma's size
    strict = edge("--limit", "float.kl=0", "--limit", "float.refused_kl=0")
    assert strict.returncode == 6 and "refused" in strict.stdout and "limit 0" in strict.stderr
    assert (out / "edge-tiny-f16.gguf.refused").exists() and not (out / "edge-tiny-f16.gguf").exists()
    assert "next tokens" not in strict.stderr  # judged again, not measured again
    again = edge("--json")
    proof = json.loads(again.stdout)["artifacts"][0]["proof"]
    assert again.returncode == 0 and proof["verdict"] == "proven" and proof["calls"]["rows"] == 4
    assert (out / "edge-tiny-f16.gguf").exists() and not (out / "edge-tiny-f16.gguf.refused").exists()


@pytest.mark.slow
def test_two_exports_of_the_same_thing_at_once(tmp_path: Path) -> None:
    """The second waits, then finds what the first made and how it was proven; neither disturbs the other."""
    command = [sys.executable, "-P", "-m", "edge", "export", "gguf", str(tiny.SHIPPED), "--quant", "q8_0", "--json"]
    command += ["--count", "4", "--out", str(tmp_path / "out")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=500) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    first, second = (json.loads(out)["artifacts"][0] for out, _ in told)
    assert first == second and first["proof"]["verdict"] == "proven"
    assert sum("another export is at work" in said for _, said in told) == 1
