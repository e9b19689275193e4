"""`edge push`: what may be handed on, the card, and the way up, against a server that answers as the hub does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import artifacts
import hub as hubs
import pytest
from click.testing import CliRunner

from edge import environments, records
from edge.bench import report as reports
from edge.bench import stats
from edge.cli import Group
from edge.commands.hub import push as command
from edge.console import Console
from edge.errors import EdgeError, GateError, MissingError, WorkerError
from edge.export.job import GEMMA_NOTICE, manifest_of
from edge.records import Artifact, Checkpoint, Json, Measurement, Sample
from edge.train import fetching, push, tiny

PROVEN = {"verdict": "proven", "why": [], "class": "8 bits",
          "tokens": {"positions": 9, "kl_mean": 0.0012, "sure": 80, "sure_same": 79},
          "calls": {"rows": 50, "right_before": 40, "right": 39, "difference": -0.02, "low": -0.07, "high": 0.03}}  # fmt: skip
DEGRADED = {**PROVEN, "verdict": "degraded", "why": ["6 of 40 right rows lost"]}
REFUSED = {**PROVEN, "verdict": "refused", "why": ["3 nats a token from the checkpoint"]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[hubs.Server]:
    with hubs.at_hand(monkeypatch, tmp_path / "hf-home") as found:
        yield found


def client() -> fetching.Client:
    console = Console(quiet=True)
    return fetching.Client(console, lambda spec: environments.ensure(spec, console))


def dry(path: Path, name: str = "me/model", **options: Any) -> Json:
    return push.push(path, name, client(), push.Options(**options), dry_run=True)


def artifact(file: Path, proof: Json | None, **more: Any) -> Path:
    """A small GGUF with its manifest."""
    file.parent.mkdir(parents=True, exist_ok=True)
    artifacts.gguf(file)
    artifacts.manifest(file, proof=proof, notices=[GEMMA_NOTICE], stop_tokens=["<end_of_turn>"])
    records.save(replace(records.load(Artifact, manifest_of(file)), **more), manifest_of(file))
    return file


def project(folder: Path, right: int = 8) -> Path:
    """What `edge run` leaves of a tiny project: a base of the hub, a tuned checkpoint, a GGUF measured on 10 rows."""
    base = artifacts.checkpoint(folder / "build" / "base")
    tuned = artifacts.checkpoint(folder / "build" / "tuned")
    (tuned / "config.json").write_text(
        (tuned / "config.json").read_text().replace("{", '{"_name_or_path": "/home/me/x", ', 1)
    )
    origin = Checkpoint(records.digest_folder(base), str(base), "functiongemma", source="google/functiongemma-270m-it@abc",
                        notices=[GEMMA_NOTICE])  # fmt: skip
    records.save(origin, base / "checkpoint.json")
    training = {
        "options": {"rank": 16, "learning_rate": 2e-4, "dora": False},
        "rows": 900,
        "loss": [[1, 2.0]],
        "precision": {"used": "bfloat16", "why": "it has it"},
        "data": "ab" * 32,
        "files": {"/home/me/rows.jsonl": "cd" * 32},
        "datasets": [{"dataset": "google/mobile-actions"}],
    }
    made = Checkpoint(records.digest_folder(tuned), str(tuned), "functiongemma", base=origin.digest, source="app",
                      training=training, notices=[GEMMA_NOTICE])  # fmt: skip
    records.save(made, tuned / "checkpoint.json")
    file = artifact(folder / "build" / "artifacts" / "app-q8_0.gguf", None, checkpoint=made.digest)
    found = records.load(Artifact, manifest_of(file))
    rows = [{"id": str(n), "prompt": "p", "expected": [{"name": "f", "arguments": {"x": n}}]} for n in range(10)]

    def measured(subject: str, name: str, kind: str, count: int) -> Measurement:
        said = [f"<start_function_call>call:f{{x:{n if n < count else 99}}}<end_function_call>" for n in range(10)]
        samples = [Sample(str(n), text, call_s=0.02) for n, text in enumerate(said)]
        return Measurement(subject, name, kind, "llama_cpp", "1.0", {"cpu": "a <fast> one"}, "ww", 2, samples=samples)

    done = [measured(made.digest, "tuned", "checkpoint", 9), measured(found.digest, "q8_0", "artifact", right)]
    reports.save(
        reports.build("app", "ww", rows, done, [found], dialect="functiongemma"), folder / "results" / "report.json"
    )
    return folder


def adapter(folder: Path, base: str = "google/functiongemma-270m-it") -> Path:
    artifacts.adapter(folder)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": base}))
    return folder


# --- what may be handed on --------------------------------------------------------------------------------------------


def test_a_verdict_decides(tmp_path: Path) -> None:
    for name, proof, reason in (("proven", PROVEN, None), ("degraded", DEGRADED, "small"), ("unknown", None, "new")):
        file = artifact(tmp_path / name / f"{name}.gguf", proof)
        if reason:
            with pytest.raises(GateError, match=r"degraded: 6 of 40|neither proven nor measured") as caught:
                dry(file)
            assert caught.value.hint and "--accept" in caught.value.hint
        told = dry(file, accept=reason)
        assert set(told["files"]) == {f"{name}.gguf", f"{name}.gguf.json", "README.md", "NOTICE"}
        assert (reason is None) or f"pushed all the same: {reason}" in told["card"]
    for name in ("refused.gguf", "kept.gguf.refused"):
        file = artifact(tmp_path / name / name, REFUSED)
        with pytest.raises(GateError, match="refused, so it is not handed on: 3 nats"):
            dry(file, accept="never mind")


def test_an_altered_or_unknown_file(tmp_path: Path) -> None:
    file = artifact(tmp_path / "m.gguf", PROVEN)
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(GateError, match="altered since"):
        dry(file, accept="never mind")
    manifest_of(file).unlink()
    with pytest.raises(EdgeError, match="no manifest beside it") as caught:
        dry(file)
    assert caught.value.hint and "edge import" in caught.value.hint
    with pytest.raises(EdgeError, match="no such file"):
        dry(tmp_path / "nothing.gguf")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EdgeError, match="no checkpoint, no adapter and no artifact"):
        dry(tmp_path / "empty")
    with pytest.raises(EdgeError, match="no hub id"):
        dry(file, "just-a-name")


def test_of_a_folder_what_may_go_goes(tmp_path: Path) -> None:
    artifact(tmp_path / "a.gguf", PROVEN)
    artifact(tmp_path / "b.gguf", DEGRADED)
    artifact(tmp_path / "c.gguf.refused", REFUSED)
    artifacts.gguf(tmp_path / "d.gguf")
    told = dry(tmp_path)
    assert "a.gguf" in told["files"] and set(told["left_out"]) == {"b.gguf", "c.gguf.refused", "d.gguf"}
    assert "refused" in told["left_out"]["c.gguf.refused"] and "no manifest" in told["left_out"]["d.gguf"]
    told = dry(tmp_path, accept="a trial")
    assert {"a.gguf", "b.gguf"} < set(told["files"]) and told["accepted"] == {"b.gguf": "a trial"}
    (tmp_path / "a.gguf").unlink()
    with pytest.raises(GateError, match="nothing in it may be pushed"):
        dry(tmp_path)


def test_a_measurement_counts_as_a_proof_unless_something_was_lost(tmp_path: Path) -> None:
    assert "app-q8_0.gguf" in dry(project(tmp_path / "good") / "build" / "artifacts")["files"]
    with pytest.raises(GateError, match="measured, with a loss"):
        dry(project(tmp_path / "bad", right=0) / "build" / "artifacts" / "app-q8_0.gguf")


# --- the card ---------------------------------------------------------------------------------------------------------


def head(card: str) -> str:
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert found
    return found[1]


def test_the_card_of_a_tuned_checkpoint(tmp_path: Path) -> None:
    told = dry(project(tmp_path) / "build" / "tuned", "me/app")
    card = told["card"]
    for line in ('base_model: "google/functiongemma-270m-it"', 'base_model_relation: "finetune"', 'license: "gemma"',
                 'library_name: "transformers"', '  - "google/mobile-actions"', '  - "function-calling"'):  # fmt: skip
        assert line in head(card), line
    assert "| learning rate | 0.0002 |" in card and "| dora | no |" in card and "| precision | bfloat16 |" in card
    assert f"| rows.jsonl | `{'cd' * 32}` |" in card and "/home/me" not in card
    assert f"`{'ab' * 32}`" in card and GEMMA_NOTICE in card
    assert "| tuned | – | 90.0 [" in card and "the digest `ww`" in card
    assert "a &lt;fast> one" in card and str(tmp_path) not in card
    assert set(told["files"]) == {"config.json", "model.safetensors", "tokenizer.model", "chat_template.jinja", "LICENSE",
                                  "README.md", "NOTICE"}  # fmt: skip
    digest = records.digest_file(tmp_path / "build" / "tuned" / "model.safetensors")
    assert f"`{digest}`" in card and "README.md" not in card


def test_the_card_of_artifacts(tmp_path: Path) -> None:
    card = dry(project(tmp_path) / "build" / "artifacts")["card"]
    assert 'base_model_relation: "quantized"' in card and '  - "gguf"' in head(card)
    assert "| `app-q8_0.gguf` | gguf | q8_0 |" in card and "no difference seen" in card
    assert re.search(r"\| q8_0 \| 0\.\d+ \| 80\.0 \[49\.0, 94\.3\] \| 10 \| −10\.0 \[", card)
    assert "<end_of_turn>" in card
    file = artifact(tmp_path / "other" / "p.gguf", PROVEN)
    card = dry(file)["card"]
    assert "| `p.gguf` | 0.0012 | 79 of 80 | 40 → 39 of 50 | −2.0 [−7.0, +3.0] |" in card


def test_the_card_shows_an_evaluation(tmp_path: Path) -> None:
    """As `edge eval` writes it: 10 rows, of which the base gets none and the tuned one 9."""
    tuned = project(tmp_path) / "build" / "tuned"
    record = records.load(Checkpoint, tuned / "checkpoint.json")
    share = {name: {"exact": asdict(stats.proportion(right, 10))} for name, right in (("base", 0), ("tuned", 9))}
    change = {"exact": asdict(stats.paired_difference([False] * 10, [True] * 9 + [False]))}
    subjects = [
        {"name": name, "kind": kind, "digest": digest, "metrics": share[name], "difference": difference}
        for name, kind, digest, difference in (
            ("base", "base", record.base, None),
            ("tuned", "checkpoint", record.digest, change),
        )
    ]
    told = {"subjects": subjects, "rows": 10, "workload": "vv", "schema": 1}
    records.save(told, tmp_path / "results" / "eval" / "evaluation.json")
    line = "| exact | 0.0 [0.0, 27.8] | 90.0 [59.6, 98.2] | 10 | +90.0 ["
    card = dry(tuned)["card"]
    assert line in card and "## Evaluation\n" in card and "10 rows (digest `vv`)" in card
    assert "## Evaluation of the checkpoint" in dry(tmp_path / "build" / "artifacts")["card"]
    (tmp_path / "results" / "eval" / "evaluation.json").rename(tmp_path / "e.json")
    assert line not in dry(tuned)["card"] and line in dry(tuned, results=tmp_path / "e.json")["card"]
    with pytest.raises(EdgeError, match="no report"):
        dry(tuned, results=tuned / "config.json")


def test_words_from_elsewhere_stay_in_their_place(tmp_path: Path) -> None:
    file = artifact(tmp_path / "m.gguf", {**DEGRADED, "why": ["a | b\n# heading <script>"]}, quantisation="q8|0\n---")
    card = dry(file, accept="x | <b>\n# y")["card"]
    assert "a \\| b # heading &lt;script>" in card and "\n# heading" not in card and "q8\\|0 ---" in card
    assert "all the same: x \\| &lt;b> # y" in card and card.count("\n---\n") == 1


def test_the_embedded_model_holds_nothing_of_gemma(tmp_path: Path) -> None:
    told = dry(tiny.SHIPPED)
    assert 'license: "apache-2.0"' in told["card"] and "Gemma" not in told["card"] and "NOTICE" not in told["files"]
    assert "base_model" not in head(told["card"]) and "CARD.md" not in told["files"]
    shutil.copytree(tiny.SHIPPED, tmp_path / "m")
    (tmp_path / "m" / "checkpoint.json").unlink()  # who can tell now that it isn't Gemma's
    assert "NOTICE" in dry(tmp_path / "m")["files"]


def test_an_adapter_names_a_base_that_others_have(tmp_path: Path) -> None:
    told = dry(adapter(tmp_path / "a"))
    assert 'base_model: "google/functiongemma-270m-it"' in told["card"] and 'library_name: "peft"' in told["card"]
    assert GEMMA_NOTICE in told["card"]
    with pytest.raises(EdgeError, match="no model of the hub") as caught:
        dry(adapter(tmp_path / "b", base=str(tmp_path)))
    assert caught.value.hint == "name it: --base owner/name"
    assert 'base_model: "me/base"' in dry(tmp_path / "b", base="me/base")["card"]


# --- the way up -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_checkpoint_goes_up_once(server: hubs.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hubs.WRITE)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    tuned = project(tmp_path / "p") / "build" / "tuned"
    with hubs.watch(tmp_path, hubs.WRITE) as leaks:
        told = push.push(tuned, "me/app", client(), push.Options(private=True))
    repo = server.repo("me/app")
    files = repo.files()
    assert told["created"] and repo.private and told["commit"] == repo.branches["main"] and not leaks
    assert set(told["files"]) == set(files) - {".gitattributes"}
    assert files["model.safetensors"] == (tuned / "model.safetensors").read_bytes()
    assert files["README.md"].decode() == told["card"] and files["NOTICE"].decode().strip() == GEMMA_NOTICE
    assert b"/home/me" not in files["config.json"] and json.loads(files["config.json"])["model_type"] == "gemma3_text"
    assert len(repo.messages) == 1
    assert {s.token for s in server.seen if s.method != "PUT"} == {hubs.WRITE}
    assert {s.token for s in server.asked("PUT", "lfs")} == {None}  # the storage is another party
    python = environments.ensure(environments.spec(environments.script("push")), Console(quiet=True)).python
    check = "import sys, yaml, json; print(json.dumps(yaml.safe_load(sys.stdin)))"
    found = subprocess.run([python, "-c", check], input=head(told["card"]), capture_output=True, text=True, check=True)
    assert json.loads(found.stdout)["base_model"] == "google/functiongemma-270m-it"
    server.seen.clear()
    again = push.push(tuned, "me/app", client())
    assert (
        again["sent"] == [] and again["sent_bytes"] == 0 and again["commit"] == told["commit"] and not again["created"]
    )
    assert not server.asked("PUT", "lfs") and not server.asked("POST", "commit") and len(repo.messages) == 1
    (tuned / "LICENSE").write_text("other terms")
    changed = push.push(tuned, "me/app", client())
    # The folder is no longer that of its record, so the card tells less; the weights stay where they are.
    assert set(changed["sent"]) == {"LICENSE", "README.md"} and not server.asked("PUT", "lfs")
    assert repo.files()["LICENSE"] == b"other terms"


@pytest.mark.slow
def test_a_push_that_was_cut_off_goes_on(server: hubs.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole files that had arrived are not sent again; within a file the protocol knows parts, and tries each again."""
    monkeypatch.setenv("HF_TOKEN", hubs.WRITE)
    server.commits_refused = 1
    with pytest.raises(WorkerError, match="the hub answered 501") as caught:
        push.push(tiny.SHIPPED, "me/tiny", client())
    assert caught.value.hint and "not sent again" in caught.value.hint
    large = [(tiny.SHIPPED / name).stat().st_size for name in ("model.safetensors", "tokenizer.model")]
    assert [s.bytes for s in server.asked("PUT", "lfs")] == large
    server.seen.clear()
    told = push.push(tiny.SHIPPED, "me/tiny", client())
    assert not server.asked("PUT", "lfs") and told["sent_bytes"] < 1e6
    assert server.repo("me/tiny").files()["model.safetensors"] == (tiny.SHIPPED / "model.safetensors").read_bytes()
    server.lfs.clear()
    server.part_bytes, server.uploads_cut = 3_000_000, 1
    push.push(tiny.SHIPPED, "me/parts", client())
    assert len(server.asked("PUT", r"lfs/\w+/\d+")) == 4  # three parts, the first of them twice
    assert server.repo("me/parts").files()["model.safetensors"] == (tiny.SHIPPED / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_branch_and_a_folder_of_artifacts(
    server: hubs.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hubs.WRITE)
    file = artifact(tmp_path / "out" / "m.gguf", PROVEN)
    onnx = artifacts.manifest(artifacts.onnx(tmp_path / "out" / "m-onnx"), proof=PROVEN)
    told = push.push(tmp_path / "out", "me/app@trial", client())
    repo = server.repo("me/app")
    files = repo.files("trial")
    assert told["repository"] == "me/app@trial" and set(repo.files("main")) == {".gitattributes"}
    assert files["m.gguf"] == file.read_bytes() and files["m-onnx/model.onnx"] == (onnx / "model.onnx").read_bytes()
    manifest = json.loads(files["m.gguf.json"])
    assert manifest["path"] == "m.gguf" and manifest["digest"] == records.digest_file(file)
    assert str(tmp_path) not in b"".join(files.values()).decode("utf-8", "replace")
    push.push(tmp_path / "out", "me/app", client(), push.Options(revision="trial"))
    assert len(repo.messages) == 1  # nothing was new


@pytest.mark.slow
def test_who_may_not_is_told_why(server: hubs.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add("me/open", {"a": b"1"})
    file = artifact(tmp_path / "m.gguf", PROVEN)

    def refused(
        message: str, hint: str, name: str = "me/open", kind: type[EdgeError] = MissingError, **options: Any
    ) -> None:
        with pytest.raises(kind, match=message) as caught:
            push.push(file, name, client(), push.Options(**options))
        assert caught.value.hint and hint in caught.value.hint
        assert not server.asked("PUT", "lfs")

    refused("nobody is", "write access")
    monkeypatch.setenv("HF_TOKEN", hubs.READ)
    refused(r"\(HF_TOKEN\) may read and not write: 403", "settings/tokens")
    refused(r"\(HF_TOKEN\) may read and not write: 403", "settings/tokens", "me/new")
    monkeypatch.setenv("HF_TOKEN", hubs.STRANGER)
    refused(r"you \(HF_TOKEN\) may not write there: 403", "your own name")
    refused(r"you \(HF_TOKEN\) may not write there: 403", "your own name", "me/new")
    monkeypatch.setenv("HF_TOKEN", "hf_RevokedLongAgo")
    refused(r"doesn't take this token \(HF_TOKEN\): 401", "revoked")
    monkeypatch.setenv("HF_TOKEN", hubs.WRITE)
    refused("it is there already, and public", "make it private", kind=EdgeError, private=True)
    server.failures["me/broken"] = (501, {})
    refused("the hub answered 501", "not sent again", "me/broken", WorkerError)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    refused("can't be reached", "HF_ENDPOINT")


def test_the_command(server: hubs.Server, tmp_path: Path) -> None:
    """A dry run asks the hub nothing; refusals have their exit codes."""
    file = artifact(tmp_path / "m.gguf", PROVEN)
    group = Group(commands={"push": command})
    done = CliRunner().invoke(group, ["push", str(file), "me/m", "--dry-run", "-q"])
    assert done.exit_code == 0 and "+ m.gguf " in done.output and "## Licence" in done.output, done.output
    done = CliRunner().invoke(group, ["push", str(file), "me/m", "--dry-run", "--json", "-q"])
    assert set(json.loads(done.output)) == {"repository", "kind", "files", "left_out", "accepted", "card"}
    records.save(replace(records.load(Artifact, manifest_of(file)), proof=REFUSED), manifest_of(file))
    assert CliRunner().invoke(group, ["push", str(file), "me/m", "--dry-run", "-q"]).exit_code == GateError.exit_code
    assert not server.seen
