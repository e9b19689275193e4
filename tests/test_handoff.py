"""The contract, what is refused, whether a folder is still what it says, and the page for the app team."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import artifacts
import jsonschema
import pytest
from handoff_scene import (
    CHECKPOINT,
    DEGRADED,
    HEAT,
    LEARNED,
    LIGHT,
    LOCAL,
    PROVEN,
    QUIET,
    REFUSED,
    Scene,
    edge,
    lines,
    read,
    rewrite,
    scene,
    tool,
)

from edge import environments, project, records, tools
from edge.commands.handoff import handoff as command
from edge.console import Console
from edge.errors import EdgeError, GateError, MissingError
from edge.export import gate, gguf, job
from edge.export.handoff import after_run, contract, write
from edge.export.job import GEMMA_NOTICE, manifest_of, refused_of
from edge.records import Json
from edge.train import tiny


@pytest.fixture
def app(tmp_path: Path) -> Scene:
    return scene(tmp_path)


# --- the contract -------------------------------------------------------------------------------------------------------


def test_everything_that_a_contract_promises_is_in_it(app: Scene) -> None:
    told = app.hand_over().contract
    jsonschema.Draft202012Validator(contract.schema()).validate(told)
    model = told["model"]
    assert (model["sha256"], model["bytes"]) == (records.digest_file(app.file), app.file.stat().st_size)
    assert model["verdict"] == "proven" and model["context_tokens"] == 1024 and told["stop"]["ids"] == artifacts.STOPS
    assert (
        told["tools"] == LEARNED
        and told["prompt"]["renderer"] == "ollama"
        and told["prompt"]["served"][0]["differ"] == 0
    )
    assert told["tools_from"] == {
        "source": "rows that it was measured on",
        "as_trained": True,
        "rows": 4,
        "same_order": 4,
    }
    assert told["sampling"]["temperature"] == 0 and told["runtime"]["minimum"] == "0.13.5"
    assert told["notices"] == ["terms"] and told["accepted"] == []
    assert told["provenance"]["checkpoint_sha256"] == CHECKPOINT
    assert told["provenance"]["data"] == {"train.jsonl": "d" * 64, "eval.jsonl": "e" * 64,
                                          "as the model saw them": records.digest_file(app.data / "train.jsonl")}  # fmt: skip
    assert set(told["files"]) == {p.name for p in (app.top / "handed").iterdir()} - {"contract.json"}


def test_nothing_tells_of_the_machine_that_wrote_it(app: Scene) -> None:
    folder = app.hand_over().folder
    for file in folder.iterdir():
        if file.suffix != ".gguf":
            assert str(app.top) not in file.read_text(), file.name


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(contract.schema())


def test_figures_come_from_the_newest_measurement_of_each_device_and_never_from_an_emulated_one(app: Scene) -> None:
    app.measured(wrong=3, at="2026-11-01T10:00:00+00:00")
    app.measured(wrong=0, device={"name": "pi5", "model": "Raspberry Pi 5", "emulated": True})
    app.measured(wrong=2, device={"name": "phone", "model": "a phone", "emulated": False})
    (app.top / "results" / "other.json").write_text('{"subject": 1}')
    (app.top / "results" / "broken.json").write_text("{")
    told = app.hand_over(accept="x").contract
    assert {m["device"]["name"]: m["right"] for m in told["measured"]} == {"local": 3, "phone": 2}
    local = next(m for m in told["measured"] if m["device"]["name"] == "local")
    assert local["measured_at"] == "2026-11-20T10:00:00+00:00" and local["accuracy"]["value"] == 0.75
    assert local["call_ms"]["value"] == pytest.approx(115) and local["peak_rss_bytes"] == 10**8
    assert any("emulated" in w for w in told["warnings"])


def test_without_its_rows_a_measurement_has_no_accuracy(app: Scene) -> None:
    file = app.measured()
    shutil.rmtree(app.top / "results")
    app.measured(device={**LOCAL, "name": "else"}, at="2026-11-20T10:00:00+00:00")
    value = json.loads((next((app.top / "results").iterdir())).read_text())
    records.save({**value, "workload": "f" * 64}, file)
    entry = next(m for m in app.hand_over().contract["measured"] if m["workload_sha256"] == "f" * 64)
    assert entry["accuracy"] is None and entry["right"] is None and entry["call_ms"]["value"] > 0


# --- the tools ----------------------------------------------------------------------------------------------------------


def test_tools_stand_in_the_order_in_which_they_were_learned(app: Scene, tmp_path: Path) -> None:
    file = tmp_path / "tools.json"
    file.write_text(json.dumps([HEAT, LIGHT]))
    told = app.hand_over(tools=file).contract
    assert [t["function"]["name"] for t in told["tools"]] == ["set_light", "set_heat"]
    assert told["tools_from"]["as_trained"] and told["tools_from"]["source"] == "tools.json"


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ([LIGHT], "tuned with set_heat beside"),
        ([LIGHT, HEAT, tool("sing", [])], "never told of sing"),
        ([LIGHT, tool("set_heat", [], room={"type": "string", "description": "Another."})], "other descriptions"),
    ],
)
def test_other_tools_than_those_of_the_training_need_a_reason(
    app: Scene, given: list[Json], word: str, tmp_path: Path
) -> None:
    file = tmp_path / "tools.json"
    file.write_text(json.dumps(given))
    with pytest.raises(GateError, match=word):
        app.hand_over(tools=file)
    told = app.hand_over(tools=file, accept="tried").contract
    assert (
        told["tools"] == tools.load(file).tools
        and word in told["accepted"][0]["what"]
        and not told["tools_from"]["as_trained"]
    )


def test_another_developer_message_needs_a_reason(app: Scene) -> None:
    with pytest.raises(GateError, match="developer message"):
        app.hand_over(system="Be nice.")


def test_a_developer_message_that_changes_is_said_and_not_held_against_it(tmp_path: Path) -> None:
    made = Scene(tmp_path, list(LEARNED))
    prompts = []
    for day in ("Monday", "Tuesday"):
        made.system = f"It is {day}."
        prompts += [r["prompt"] for r in made.rows()]
    made.write(training=prompts)
    rows = [json.loads(line) for line in (made.data / "eval.jsonl").read_text().splitlines()]
    rows[0]["messages"][0]["content"] = "It is Monday."
    lines(made.data / "eval.jsonl", rows)
    made.artifact()
    told = made.hand_over().contract
    assert told["prompt"]["system_varies"] and told["tools_from"]["as_trained"]
    assert any("developer message" in w for w in told["warnings"])


def test_different_sets_of_tools_in_training_ask_for_the_apps(tmp_path: Path) -> None:
    made = Scene(tmp_path, [LIGHT])
    other = Scene(tmp_path, [HEAT])
    made.write(training=[r["prompt"] for s in (made, other) for r in s.rows()])
    made.artifact()
    with pytest.raises(EdgeError, match="2 different sets") as told:
        made.hand_over()
    assert "--tools" in str(told.value.hint) and told.value.exit_code == 2


def test_without_rows_the_tools_must_be_given_and_the_contract_says_that_nobody_compared(tmp_path: Path) -> None:
    made = Scene(tmp_path, LEARNED)
    file = made.artifact()
    with pytest.raises(EdgeError, match="no tool declarations") as told:
        made.hand_over()
    assert "--tools" in str(told.value.hint)
    declared = tmp_path / "tools.json"
    declared.write_text(json.dumps(LEARNED))
    told_now = made.hand_over(file=file, tools=declared, accept="own rendering").contract
    assert told_now["tools_from"]["as_trained"] is None and any("not known" in w for w in told_now["warnings"])


def test_training_rows_that_were_changed_since_prove_nothing(app: Scene) -> None:
    (app.data / "train.jsonl").write_text('{"id": "1", "prompt": "x", "completion": "y"}\n')
    assert app.hand_over().contract["tools_from"]["as_trained"] is None


def test_another_checkpoint_is_no_provenance(app: Scene, tmp_path: Path) -> None:
    other = Scene(tmp_path / "other", LEARNED).write()
    record = json.loads((other.top / "build/tuned/checkpoint.json").read_text())
    records.save({**record, "digest": "9" * 64}, other.top / "build/tuned/checkpoint.json")
    with pytest.raises(EdgeError, match="not the checkpoint"):
        app.hand_over(checkpoint=other.top / "build/tuned")


# --- what is refused ----------------------------------------------------------------------------------------------------


def test_a_refused_artifact_is_never_handed_over(app: Scene) -> None:
    app.change(app.file, proof=REFUSED)
    with pytest.raises(GateError, match="3 nats"):
        app.hand_over(accept="please")
    refused = refused_of(app.file)
    app.file.rename(refused)
    manifest_of(app.file).rename(manifest_of(refused))
    for file in (app.file, refused):
        with pytest.raises(GateError, match="refused"):
            app.hand_over(file=file, accept="please")
    assert not (app.top / "handed").exists()


def test_an_altered_file_is_never_handed_over(app: Scene) -> None:
    with app.file.open("ab") as f:
        f.write(b"x")
    with pytest.raises(GateError, match="not the file of its manifest"):
        app.hand_over(accept="please")


def test_an_artifact_without_a_manifest_names_the_way_to_one(app: Scene) -> None:
    manifest_of(app.file).unlink()
    with pytest.raises(EdgeError, match="no manifest") as told:
        app.hand_over(accept="please")
    assert "edge import" in str(told.value.hint) and told.value.exit_code == 2


NO_CALLS = {**PROVEN, "calls": {"rows": 50, "right_before": 0, "right": 0, "lost": 0, "gained": 0}}


def test_a_manifest_or_a_folder_of_artifacts_is_told_from_an_artifact(app: Scene) -> None:
    for file in (manifest_of(app.file), app.file.parent):
        with pytest.raises(EdgeError, match=r"a manifest|a folder of artifacts") as told:
            app.hand_over(file=file)
        assert app.file.name in str(told.value.hint)


@pytest.mark.parametrize(("proof", "word"), [(DEGRADED, "6 of 40"), (None, "not proven"), (NO_CALLS, "on no calls")])
def test_a_degraded_or_unproven_one_needs_a_reason_that_the_contract_keeps(app: Scene, proof: Any, word: str) -> None:
    app.change(app.file, proof=proof)
    for reason in (None, "", "  "):
        with pytest.raises(GateError, match=word):
            app.hand_over(accept=reason)
    told = app.hand_over(accept=" for phones of 2 GB ").contract
    assert [(word in a["what"], a["reason"]) for a in told["accepted"]] == [(True, "for phones of 2 GB")]
    assert told["model"]["verdict"] == (proof["verdict"] if proof else "unproven")


def test_an_error_of_lint_needs_a_reason(app: Scene) -> None:
    artifacts.gguf(app.file, stops={"eos": "<eos>"})
    app.change(app.file, digest=records.digest_file(app.file), bytes=app.file.stat().st_size)
    with pytest.raises(GateError, match="stop-missing"):
        app.hand_over()
    assert "stop-missing" in app.hand_over(accept="our runtime stops").contract["accepted"][0]["what"]


def test_prompts_that_the_target_writes_otherwise_need_a_reason(tmp_path: Path) -> None:
    other = scene(tmp_path, renderer="training")
    with pytest.raises(GateError, match="4 of 4 prompts otherwise") as told:
        other.hand_over()
    assert 'renderer = "ollama"' in str(told.value.hint) and "--accept" in str(told.value.hint)
    done = other.hand_over(accept="raw.py alone is used")
    assert done.contract["prompt"]["served"][0]["differ"] == 4 and "sentence" in done.contract["accepted"][0]["what"]
    assert "4 of 4 prompts otherwise" in (done.folder / "README.md").read_text()


def test_a_litertlm_is_compared_by_the_template_that_it_carries(tmp_path: Path) -> None:
    made = Scene(tmp_path, list(LEARNED), renderer="training").write()
    file = made.artifact(tmp_path / "build/artifacts/app.litertlm")
    with pytest.raises(GateError, match="litert_lm writes 4 of 4"):
        made.hand_over("android", file)
    artifacts.litertlm(file, template="", max_tokens=1024, cache=1024)
    made.change(file, digest=records.digest_file(file), bytes=file.stat().st_size)
    with pytest.raises(GateError, match="litert_lm_builtin writes 4 of 4"):
        made.hand_over("android", file)


def test_a_task_that_was_exported_for_another_renderer_needs_a_reason(tmp_path: Path) -> None:
    made = Scene(tmp_path, list(LEARNED), renderer="flutter_gemma").write()
    file = made.artifact(tmp_path / "build/artifacts/app.task")
    assert made.hand_over("flutter", file).contract["accepted"] == []
    artifacts.task(file, cache=1024, prefix="<start_of_turn>user\n")
    made.change(file, digest=records.digest_file(file), bytes=file.stat().st_size)
    with pytest.raises(GateError, match="prompt-affixes"):
        made.hand_over("flutter", file)


def test_an_artifact_from_elsewhere_goes_with_a_reason_and_says_what_is_not_known(app: Scene, tmp_path: Path) -> None:
    app.change(
        app.file, checkpoint="unknown", proof=None, stop_tokens=[], stop_ids=[], quantisation="", environment=None
    )
    declared = tmp_path / "tools.json"
    declared.write_text(json.dumps(LEARNED))
    with pytest.raises(GateError, match="not proven"):
        app.hand_over(tools=declared)
    told = app.hand_over(tools=declared, accept="the only one there is").contract
    assert told["provenance"]["checkpoint_sha256"] is None and told["model"]["verdict"] == "unproven"
    assert told["stop"]["tokens"] == ["<end_of_turn>", "<start_function_response>", "<eos>"]


def test_a_format_that_the_target_does_not_load_names_who_does(app: Scene, tmp_path: Path) -> None:
    file = app.artifact(tmp_path / "build/artifacts/app.task")
    with pytest.raises(EdgeError, match="ollama loads gguf, not task; a task goes to: flutter") as told:
        app.hand_over(file=file, accept="please")
    assert told.value.exit_code == 2 and "edge export gguf" in str(told.value.hint)


def test_another_dialect_is_refused_before_anything_is_written(app: Scene) -> None:
    app.change(app.file, dialect="hermes")
    with pytest.raises(EdgeError, match="speaks hermes"):
        app.hand_over(accept="please")


@pytest.mark.parametrize("name", ["a:b.gguf", 'a"b.gguf', "a\nb.gguf"])
def test_a_name_that_not_every_system_holds_is_refused(app: Scene, name: str) -> None:
    file = app.artifact(app.file.with_name(name))
    with pytest.raises(EdgeError, match="its name holds") as told:
        app.hand_over(file=file, accept="please")
    assert "rename" in str(told.value.hint)


def test_what_no_target_takes_is_said_before_it_is_proven(app: Scene) -> None:
    app.change(app.file, proof=None)
    done = edge("flutter", app.file)
    assert done.exit_code == 2 and "flutter loads task or litertlm" in done.output
    assert not (app.file.parent / ".gate").exists()


def test_where_it_can_not_be_proven_a_reason_hands_it_over_unproven(
    app: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: Any) -> Any:
        raise MissingError("needs a C++ compiler")

    monkeypatch.setattr(gate, "Gate", lacking)
    app.change(app.file, proof=None)
    done = edge("ollama", app.file, "--out", app.top / "x")
    assert done.exit_code == 3 and "compiler" in done.output and not (app.top / "x").exists()
    done = edge("ollama", app.file, "--out", app.top / "x", "--accept", "for a look")
    assert done.exit_code == 0 and "not proven: needs a C++ compiler" in done.output
    assert read(app.top / "x")["model"]["verdict"] == "unproven"


def test_rows_as_people_write_them_are_not_what_it_was_measured_on(app: Scene) -> None:
    app.change(app.file, proof=None)
    (app.data / "eval.jsonl").write_text('{"user": "Light on", "calls": []}\n\n[1]\n')
    write.prove("ollama", app.file, write.Wish(), QUIET)  # there is nothing to prove it on
    assert not (app.file.parent / ".gate").exists()
    with (app.data / "eval.jsonl").open("a") as f:
        f.write("{\n")
    for ask in (lambda: write.prove("ollama", app.file, write.Wish(), QUIET), lambda: app.hand_over(accept="x")):
        with pytest.raises(EdgeError, match=r"eval\.jsonl, line 4: not JSON") as told:
            ask()
        assert told.value.exit_code == 2


@pytest.mark.parametrize(("target", "form"), [("flutter", "task"), ("android", "litertlm"), ("ollama", "gguf")])
def test_a_notice_that_is_given_stands_in_every_readme(tmp_path: Path, target: str, form: str) -> None:
    made = Scene(tmp_path, list(LEARNED)).write()
    file = made.artifact(tmp_path / f"build/artifacts/app.{form}")
    folder = made.hand_over(target, file, accept="x", notices=["Ours too."]).folder
    for name in ("README.md", "NOTICE.txt"):
        assert "Ours too." in (folder / name).read_text() and "terms" in (folder / name).read_text()


def test_gemmas_weights_never_go_without_gemmas_notice(app: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge.export.handoff import refuse

    monkeypatch.setattr(refuse, "GEMMA_PIECES", range(artifacts.ROWS, artifacts.ROWS + 1))
    for notices in ([], ["MIT"]):
        app.change(app.file, notices=notices)
        with pytest.raises(GateError, match="no notice of Gemma's terms") as told:
            app.hand_over(accept="please")
        assert GEMMA_NOTICE in str(told.value.hint)
    done = app.hand_over(notices=[GEMMA_NOTICE])
    assert done.contract["notices"] == ["MIT", GEMMA_NOTICE]
    assert (
        GEMMA_NOTICE in (done.folder / "NOTICE.txt").read_text()
        and GEMMA_NOTICE in (done.folder / "report.html").read_text()
    )


def test_gemmas_vocabulary_is_what_lint_takes_for_it() -> None:
    from edge.export import lint
    from edge.export.handoff import refuse

    assert refuse.GEMMA_PIECES == lint._GEMMA_PIECES


def test_a_folder_that_would_not_work_is_not_written(app: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge.export.handoff import ollama

    monkeypatch.setattr(ollama, "NAME", "other")
    real = ollama.modelfile
    monkeypatch.setattr(ollama, "modelfile", lambda job: real(job).replace("PARSER other\n", ""))
    with pytest.raises(GateError, match="parser is None"):
        app.hand_over()
    assert not (app.top / "handed").exists() and not list(app.top.glob(".handed*"))


# --- the place ----------------------------------------------------------------------------------------------------------


def test_the_same_again_is_kept_and_an_untouched_older_one_replaced(app: Scene) -> None:
    first = app.hand_over()
    before = {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in first.folder.iterdir()}
    assert first.state == "written" and app.hand_over().state == "kept"
    assert {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in first.folder.iterdir()} == before
    app.measured(device={"name": "phone"}, at="2026-11-21T10:00:00+00:00")
    again = app.hand_over()
    assert again.state == "replaced" and len(again.contract["measured"]) == 2
    assert sorted(p.name for p in app.top.iterdir()) == ["build", "handed", "results"]


def test_somebodys_changes_are_never_overwritten(app: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    folder = app.hand_over().folder
    (folder / "chat.py").write_text("mine")
    (folder / "report.html").write_text("mine too")
    (folder / "notes.txt").write_text("remember")
    app.measured(
        device={"name": "phone"}, at="2026-11-21T10:00:00+00:00"
    )  # so that report.html and contract change here
    with pytest.raises(EdgeError) as told:
        write.hand_over("ollama", app.file, write.Wish(out=folder), Console())
    shown = capsys.readouterr().err
    assert "✗ handing" in shown and "✓" not in shown, "what is refused was not done"
    said = str(told.value)
    assert "changed there: chat.py;" in said and "changed there and by this handoff: report.html;" in said
    assert (
        "added there: notes.txt" in said and f"--out {folder}-new" in str(told.value.hint) and told.value.exit_code == 2
    )
    assert (folder / "chat.py").read_text() == "mine" and (folder / "notes.txt").read_text() == "remember"
    assert app.hand_over(out=app.top / "new").state == "written"
    assert not list(app.top.glob(".handed*"))


def test_an_edited_contract_is_somebodys_change(app: Scene) -> None:
    folder = app.hand_over().folder
    told = read(folder)
    told["notices"] = []
    rewrite(folder, told)
    with pytest.raises(EdgeError, match=r"changed there: contract\.json"):
        app.hand_over()


@pytest.mark.parametrize("what", ["file", "folder", "unreadable"])
def test_a_place_where_something_else_lies_is_left_alone(app: Scene, what: str) -> None:
    place = app.top / "handed"
    if what == "file":
        place.write_text("x")
    else:
        place.mkdir()
        (place / ("contract.json" if what == "unreadable" else "x.txt")).write_text("x")
    with pytest.raises(EdgeError) as told:
        app.hand_over()
    assert told.value.exit_code == 2 and place.exists()


def test_an_empty_folder_is_filled(app: Scene) -> None:
    (app.top / "handed").mkdir()
    assert app.hand_over().state == "written"


def test_a_link_stays_and_what_it_leads_to_is_filled(app: Scene) -> None:
    place, link = app.top / "there", app.top / "link"
    link.symlink_to("there")
    for state in ("written", "replaced"):
        assert app.hand_over(out=link).state == state and link.is_symlink() and (place / "contract.json").is_file()
        app.measured(device={"name": "phone"}, at="2026-11-21T10:00:00+00:00")
    assert sorted(p.name for p in app.top.iterdir()) == ["build", "link", "results", "there"]


def test_two_formats_of_one_name_are_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Scene(tmp_path, list(LEARNED), renderer="flutter_gemma").write()
    monkeypatch.chdir(tmp_path)
    for form in ("task", "litertlm"):
        made.hand_over("flutter", made.artifact(tmp_path / f"build/artifacts/app.{form}"), out=None, accept="both")
    assert sorted(p.name for p in Path("build/handoff").iterdir()) == ["app-litertlm-flutter", "app-task-flutter"]


# --- the command --------------------------------------------------------------------------------------------------------


def test_the_command_prints_the_folder_and_three_steps(app: Scene) -> None:
    out = app.top / "there"
    done = edge("ollama", app.file, "--out", out)
    assert done.exit_code == 0, done.output
    assert str(out) in done.stdout and re.findall(r"^  ([123])\. ", done.stdout, re.M) == ["1", "2", "3"]
    told = json.loads(edge("ollama", app.file, "--out", out, "--json", "-q").stdout)
    assert told["state"] == "kept" and told["digest"] == read(out)["digest"] and len(told["steps"]) == 3


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (["--notice", 'a """ b'], 2, "can't hold this notice"),
        (["--tools", "nowhere.json"], 2, "nowhere.json"),
        (["--sign", "nowhere.key"], 2, "nowhere.key"),
        (["--results", "nowhere"], 2, "nowhere: no such folder"),
    ],
)
def test_bad_options_exit_with_2_and_a_remedy(app: Scene, options: list[str], code: int, word: str) -> None:
    done = edge("ollama", app.file, "--out", app.top / "x", *options)
    assert done.exit_code == code and word in done.output
    assert not (app.top / "x").exists()


def test_a_gate_exits_with_6(app: Scene) -> None:
    app.change(app.file, proof=DEGRADED)
    done = edge("ollama", app.file, "--out", app.top / "x")
    assert done.exit_code == 6 and "--accept REASON" in done.output and not (app.top / "x").exists()


@pytest.mark.parametrize("url", ["x", "ftp://a/b", "https://example.com", "https://example.com/a b"])
def test_an_address_that_is_none_is_refused(app: Scene, url: str) -> None:
    with pytest.raises(EdgeError, match="not the address of a file"):
        app.hand_over(url=url)


# --- [handoff] ----------------------------------------------------------------------------------------------------------


def written(tmp_path: Path, table: str, export: str = 'gguf = ["q8_0"]') -> Path:
    for name in ("train.jsonl", "eval.jsonl"):
        (tmp_path / name).write_text("{}\n")
    (tmp_path / "edge.toml").write_text(f'[project]\nname = "app"\n[export]\n{export}\n[handoff]\n{table}\n')
    return tmp_path


def test_the_table_is_read_with_its_defaults(tmp_path: Path) -> None:
    found = project.load(written(tmp_path, 'targets = ["ollama"]')).handoff
    assert found["targets"] == ["ollama"] and found["artifact"] == "auto" and found["accept"] == ""


@pytest.mark.parametrize(
    ("table", "export", "word"),
    [
        ('targets = ["olama"]', 'gguf = ["q8_0"]', "must be of flutter, android, ollama, not 'olama'"),
        ('targets = "ollama"', 'gguf = ["q8_0"]', "a list of strings"),
        ('package = "flutter"', 'gguf = ["q8_0"]', "must be flutter_edge_ai or flutter_gemma"),
        ('acept = "x"', 'gguf = ["q8_0"]', "did you mean 'accept'"),
        ('targets = ["ollama"]', 'gguf = []\ntask = ["int8"]', "asks for nothing that it loads"),
    ],
)
def test_a_wrong_table_is_said_before_anything_is_tuned(tmp_path: Path, table: str, export: str, word: str) -> None:
    with pytest.raises(EdgeError) as told:
        project.load(written(tmp_path, table, export))
    assert word in f"{told.value} {told.value.hint}"


# --- with the real thing ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_artifact_is_proven_by_what_ends_a_run_and_handed_over(tmp_path: Path) -> None:
    """The embedded model as GGUF: proven by llama.cpp, the smallest proven one chosen, the folder verified by itself."""
    folder = written(tmp_path, 'targets = ["ollama"]\naccept = "raw.py alone"', 'gguf = ["f16", "q8_0"]')
    found = project.load(folder)
    tuned = job.read_checkpoint(tiny.SHIPPED, "functiongemma", "edge-tiny")
    shutil.copytree(tiny.SHIPPED, folder / "build" / "tuned")
    records.save(tuned, folder / "build" / "tuned" / "checkpoint.json")
    builder = environments.Builder(QUIET)
    made = gguf.export(tuned, ["f16", "q8_0"], folder / "build/artifacts", "app", QUIET, builder.get)
    rows = gate.own_rows("functiongemma", 10)
    lines(folder / "build/data/eval.jsonl", rows)
    done, failed = after_run.hand_over(found, tuned, made.artifacts, rows, [], QUIET, builder.get)
    builder.close()
    assert (
        not failed
        and done[0].contract["model"]["quantisation"] == "q8_0"
        and done[0].contract["proof"]["verdict"] == "proven"
    )
    assert (
        subprocess.run([sys.executable, "-I", str(done[0].folder / "verify.py")], capture_output=True).returncode == 0
    )
    assert (found.results / after_run.PAGE).is_file()
    again, _ = after_run.hand_over(found, tuned, made.artifacts, rows, [], QUIET, builder.get)
    assert again[0].state == "kept"
    # The command proves what nothing has judged yet.
    other = next(Path(a.path) for a in made.artifacts if a.quantisation == "f16")
    assert records.load(records.Artifact, job.manifest_of(other)).proof is None
    assert edge("ollama", other, "--accept", "raw.py alone", "--out", tmp_path / "f16").exit_code == 0
    assert records.read_json(tmp_path / "f16" / "contract.json")["proof"]["verdict"] == "proven"


def test_wish_and_command_have_the_same_words() -> None:
    names = {p.name for sub in ("flutter", "android", "ollama") for p in command.commands[sub].params}
    assert names - {"artifact", "sign", "as_json", "quiet"} <= set(write.Wish.__dataclass_fields__)
