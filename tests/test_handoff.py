"""The contract, what is refused, whether a folder is still what it says, and the page for the app team."""

from __future__ import annotations

import ast
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
from click.testing import CliRunner
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
    lines,
    scene,
    tool,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge import environments, project, records, tools
from edge.bench.report import handoff as page
from edge.cli import Group
from edge.commands.handoff import handoff as command
from edge.errors import EdgeError, GateError
from edge.export import gate, gguf, job
from edge.export.handoff import after_run, contract, signing, verify, write
from edge.export.job import GEMMA_NOTICE, manifest_of, refused_of
from edge.records import Json
from edge.train import tiny

SHIPPED = ("verify.py", "ollama_prove.py", "ollama_chat.py", "ollama_raw.py")


@pytest.fixture
def app(tmp_path: Path) -> Scene:
    return scene(tmp_path)


@pytest.fixture(scope="module")
def handed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is only read, or copied."""
    return scene(tmp_path_factory.mktemp("app")).hand_over().folder


def edge(*arguments: object) -> Any:
    """As `edge handoff …`."""
    main = Group("edge")
    main.add_command(command)
    return CliRunner().invoke(main, ["handoff", *map(str, arguments)])


def read(folder: Path) -> Json:
    return dict(json.loads((folder / "contract.json").read_text()))


def rewrite(folder: Path, told: Json, digest: bool = False) -> None:
    if digest:
        told["digest"] = verify.digest_of(told)
    (folder / "contract.json").write_text(json.dumps(told))


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


# --- is it still what it says? ------------------------------------------------------------------------------------------


def test_the_folder_verifies_itself_with_the_standard_library_alone(handed: Path) -> None:
    done = subprocess.run([sys.executable, "-I", "-S", str(handed / "verify.py")], capture_output=True, text=True)
    assert done.returncode == 0 and verify.digest_of(read(handed)) in done.stdout
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(handed / "verify.py"), "--json"], capture_output=True, text=True
    )
    assert json.loads(done.stdout)["ok"]


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_is_python_3_9_and_imports_the_standard_library_alone(name: str) -> None:
    tree = ast.parse((Path(verify.__file__).with_name(name)).read_text(), feature_version=(3, 9))
    modules = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    modules |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert {m.partition(".")[0] for m in modules} <= set(sys.stdlib_module_names)


def copied(handed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(handed, tmp_path / "copy"))


FAULTS = {
    "changed": lambda f: (f / "Modelfile").write_text((f / "Modelfile").read_text().replace("PARSER", "PARSEX")),
    "longer": lambda f: (f / "raw.py").write_text("#"),
    "missing": lambda f: (f / "chat.py").unlink(),
    "model": lambda f: (f / "app-q8_0.gguf").write_bytes(bytes((f / "app-q8_0.gguf").stat().st_size)),
    "link": lambda f: (
        (f / "tools.json").rename(f.parent / "t.json"),
        (f / "tools.json").symlink_to(f.parent / "t.json"),
    ),
    "schema": lambda f: (f / "contract.schema.json").write_text("{}"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_in_a_folder_is_noticed(handed: Path, tmp_path: Path, fault: str) -> None:
    folder = copied(handed, tmp_path)
    assert edge("verify", folder).exit_code == 0
    FAULTS[fault](folder)
    done = edge("verify", folder)
    assert done.exit_code == 6 and "wrong: " in done.output
    assert subprocess.run([sys.executable, str(folder / "verify.py")], capture_output=True).returncode == 1


def test_files_that_the_contract_does_not_name_are_told_and_change_nothing(handed: Path, tmp_path: Path) -> None:
    folder = copied(handed, tmp_path)
    (folder / "build").mkdir()
    (folder / "build" / "x.txt").write_text("x")
    done = edge("verify", folder, "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["unknown"] == ["build/x.txt"]


@pytest.mark.parametrize("path", ["../x", "/etc/hostname", "a/../../x", "a\\b", "", ".", "c:/x"])
def test_a_contract_can_not_point_out_of_its_folder(handed: Path, tmp_path: Path, path: str) -> None:
    folder, told = copied(handed, tmp_path), read(handed)
    told["files"][path] = {"sha256": "0" * 64, "bytes": 1}
    rewrite(folder, told, digest=True)
    assert any("out of the folder" in w for w in verify.problems(folder))


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(p for k, v in inner for p in places(v, (*at, k)))]


def changed(told: Json, at: tuple[Any, ...], value: Any, drop: bool) -> Json:
    copy = json.loads(json.dumps(told))
    here = copy
    for key in at[:-1]:
        here = here[key]
    if drop:
        del here[at[-1]]
    else:
        here[at[-1]] = value
    return dict(copy)


SCHEMA = contract.schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
VALUES = st.sampled_from([None, True, 0, -1, 1.5, "", "x", "a" * 64, [], {}, ["x"], {"a": 1}])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_edit_of_a_contract_is_noticed_and_the_form_is_judged_as_jsonschema_does(
    handed: Path, tmp_path: Path, data: st.DataObject
) -> None:
    told = read(handed)
    at = data.draw(st.sampled_from([p for p in places(told) if p]))
    edited = changed(told, at, data.draw(VALUES), data.draw(st.booleans()))
    assert bool(verify.invalid(edited, SCHEMA)) is not VALIDATOR.is_valid(edited)
    if edited == told and json.dumps(edited) == json.dumps(told):
        return
    folder = tmp_path / "edited"
    if not folder.exists():
        shutil.copytree(handed, folder)
    rewrite(folder, edited)
    try:
        assert verify.problems(folder, SCHEMA)
    except verify.Unreadable:
        assert at == ("version",)


def test_a_contract_that_was_edited_and_given_a_new_digest_shows_beside_the_announced_one(
    handed: Path, tmp_path: Path
) -> None:
    folder, told = copied(handed, tmp_path), read(handed)
    announced = told["digest"]
    told["measured"][0]["accuracy"]["value"] = 0.99
    rewrite(folder, told, digest=True)
    assert verify.problems(folder) == []  # nothing within can tell: that is what --digest and signatures are for
    assert edge("verify", folder, "--digest", announced).exit_code == 6
    assert edge("verify", handed, "--digest", announced.upper()).exit_code == 0


def test_key_order_and_spaces_are_no_edit(handed: Path, tmp_path: Path) -> None:
    folder = copied(handed, tmp_path)
    (folder / "contract.json").write_text(json.dumps(read(handed), indent=4, sort_keys=True, ensure_ascii=True))
    assert verify.problems(folder, contract.schema()) == []


@pytest.mark.parametrize(
    ("text", "word"),
    [("{", "not JSON"), ("[]", "no contract"), ('{"version": 99}', "take a newer"), ('{"version": 1, "version": 1}', "twice"),
     ("[" * 100_000, "not JSON"), (None, "No such file")],
)  # fmt: skip
def test_a_contract_that_can_not_be_read_is_bad_input(tmp_path: Path, text: str | None, word: str) -> None:
    if text is not None:
        (tmp_path / "contract.json").write_text(text)
    done = edge("verify", tmp_path)
    assert done.exit_code == 2 and word in done.output
    shutil.copy(verify.__file__, tmp_path / "verify.py")
    told = subprocess.run([sys.executable, str(tmp_path / "verify.py")], capture_output=True, text=True)
    assert told.returncode == 2 and word in told.stdout


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


def test_somebodys_changes_are_never_overwritten(app: Scene) -> None:
    folder = app.hand_over().folder
    (folder / "chat.py").write_text("mine")
    (folder / "report.html").write_text("mine too")
    (folder / "notes.txt").write_text("remember")
    app.measured(
        device={"name": "phone"}, at="2026-11-21T10:00:00+00:00"
    )  # so that report.html and contract change here
    with pytest.raises(EdgeError) as told:
        app.hand_over()
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
    ],
)
def test_bad_options_exit_with_2_and_a_remedy(app: Scene, options: list[str], code: int, word: str) -> None:
    done = edge("ollama", app.file, "--out", app.top / "x", *options)
    assert done.exit_code == code and word in done.output


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


# --- the page -----------------------------------------------------------------------------------------------------------


def test_the_page_shows_what_the_contract_says_and_nothing_from_outside(app: Scene) -> None:
    app.measured(device={"name": "phone", "model": "a phone"}, at="2026-11-21T10:00:00+00:00")
    done = app.hand_over()
    text = (done.folder / "report.html").read_text()
    for word in ("app-q8_0", "75.0", "a phone", "set_light", "set_heat", "115 ms", "terms", "2026-11-21", "proven"):
        assert word in text, word
    assert "<script" not in text and not re.search(r"(src|href)=|url\(|@import", text) and "$" not in text
    assert "prefers-color-scheme: dark" in text and "default-src 'none'" in text


def test_what_others_wrote_is_text_on_the_page(app: Scene) -> None:
    bad = '<img src=x onerror="alert(1)">'
    told = app.hand_over().contract
    told["tools"][0]["function"]["description"] = bad
    told["tools"][0]["function"]["parameters"]["properties"]["room"]["description"] = bad
    told["notices"] = told["warnings"] = [bad]
    told["accepted"] = [{"what": bad, "reason": bad}]
    told["measured"][0]["device"]["cpu"] = told["measured"][0]["marks"][:1] or bad
    text = page.render([told])
    assert "<img" not in text and "&lt;img" in text


def test_the_command_writes_one_page_of_several_folders(app: Scene) -> None:
    app.hand_over()
    other = app.hand_over(out=app.top / "other").folder
    done = edge("page", app.top / "handed", other, "--out", app.top / "page.html")
    assert done.exit_code == 0 and (app.top / "page.html").read_text().count('class="folder"') == 2
    assert edge("page", app.top, "--out", app.top / "x.html").exit_code == 2


def test_one_page_for_several_targets_and_one_without_a_figure(app: Scene) -> None:
    told = app.hand_over().contract
    bare = {**told, "target": "flutter", "measured": [], "proof": None, "tools": [], "notices": [],
            "model": {**told["model"], "sha256": "1" * 64, "verdict": "unproven"}}  # fmt: skip
    text = page.render([told, bare])
    assert "ollama and flutter" in text and "was not held against" in text
    alone = page.render([bare])
    assert "not measured on any device" in alone and "Nothing was measured" in alone


# --- with the real things -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs of minisign keys, made by the library: plain and with a password."""
    folder = tmp_path_factory.mktemp("keys")
    python = environments.ensure(environments.spec(environments.script("sign")), QUIET).python
    code = """
import sys, minisign
for name, password in (("plain", None), ("locked", "a word")):
    pair = minisign.KeyPair.generate()
    if password: pair.secret_key.encrypt(password, opslimit=32768, memlimit=16777216)
    open(f"{sys.argv[1]}/{name}.key", "wb").write(bytes(pair.secret_key) + b"\\n")
    open(f"{sys.argv[1]}/{name}.pub", "wb").write(bytes(pair.public_key) + b"\\n")
"""
    subprocess.run([str(python), "-I", "-c", code, str(folder)], check=True)
    return folder


@pytest.mark.slow
def test_a_signature_says_who_and_an_edit_undoes_it(app: Scene, keys: Path) -> None:
    out = app.top / "signed"
    done = edge("ollama", app.file, "--out", out, "--sign", keys / "plain.key")
    assert done.exit_code == 0 and "(signed)" in done.output
    shown = edge("verify", out, "--key", keys / "plain.pub")
    assert shown.exit_code == 0 and read(out)["digest"] in shown.output
    public = (keys / "plain.pub").read_text().splitlines()[1]
    assert edge("verify", out, "--key", public).exit_code == 0
    assert edge("ollama", app.file, "--out", out).stdout.startswith("=")  # a signature is nobody's change
    other = edge("verify", out, "--key", keys / "locked.pub")
    assert other.exit_code == 6 and "not made with this key" in other.output
    told = read(out)
    told["measured"][0]["right"] = 4
    rewrite(out, told, digest=True)
    assert edge("verify", out).exit_code == 0
    forged = edge("verify", out, "--key", keys / "plain.pub")
    assert forged.exit_code == 6 and "not made with this key over this contract" in forged.output
    (out / verify.SIGNATURE).write_text("x")
    assert "no signature" in edge("verify", out, "--key", keys / "plain.pub").output
    (out / verify.SIGNATURE).unlink()
    assert edge("verify", out, "--key", keys / "plain.pub").exit_code == 6
    assert edge("verify", out, "--key", "RWnonsense").exit_code in (2, 6)


@pytest.mark.slow
def test_a_signature_of_the_minisign_tool_itself_is_read(tmp_path: Path) -> None:
    """The example that its documentation publishes: the text "test"."""
    (tmp_path / "contract.json").write_bytes(b"test")
    (tmp_path / verify.SIGNATURE).write_text(
        "untrusted comment: signature from minisign secret key\n"
        "RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=\n"
        "trusted comment: timestamp:1555779966\tfile:test\n"
        "QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==\n"
    )
    key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
    assert signing.check(tmp_path, key, QUIET).comment == "timestamp:1555779966\tfile:test"
    (tmp_path / "contract.json").write_bytes(b"Test")
    assert signing.check(tmp_path, key, QUIET).problems


@pytest.mark.slow
def test_a_password_comes_from_the_environment_alone(app: Scene, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = app.hand_over().folder
    monkeypatch.delenv(signing.PASSWORD, raising=False)
    with pytest.raises(EdgeError, match="has a password"):
        signing.sign(folder, keys / "locked.key", QUIET)
    monkeypatch.setenv(signing.PASSWORD, "another")
    with pytest.raises(EdgeError, match="doesn't open it"):
        signing.sign(folder, keys / "locked.key", QUIET)
    monkeypatch.setenv(signing.PASSWORD, "a word")
    signing.sign(folder, keys / "locked.key", QUIET)
    assert edge("verify", folder, "--key", keys / "locked.pub").exit_code == 0
    (app.top / "bad.key").write_text("nothing")
    with pytest.raises(EdgeError, match="no minisign secret key"):
        signing.sign(folder, app.top / "bad.key", QUIET)


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
