"""`edge bench` as it is typed: what it refuses before anything runs, and what it prints."""

from __future__ import annotations

import dataclasses
import json
import socket
from pathlib import Path
from typing import Any

import artifacts
import click
import pytest
from benchresults import Folder
from click.testing import CliRunner, Result

from edge import environments, records
from edge import project as projects
from edge.bench import matrix as benching
from edge.bench import plan
from edge.bench.plan import Wish
from edge.bench.report import folder, matrix, matrix_text
from edge.cli import Group
from edge.commands.bench import _cells, bench, counts, seconds, show
from edge.console import Console
from edge.devices import ssh
from edge.devices.local import Local
from edge.errors import EdgeError
from edge.export import job
from edge.records import write_text

TOOL = {"type": "function", "function": {"name": "light", "description": "Turns the light on.",
        "parameters": {"type": "object", "properties": {"room": {"type": "string", "description": "Which."}}}}}  # fmt: skip
CALL = {
    "role": "assistant",
    "tool_calls": [{"type": "function", "function": {"name": "light", "arguments": {"room": "hall"}}}],
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with rows, and no devices but this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_CONFIG", str(tmp_path / "config"))
    rows(tmp_path / "rows.jsonl", [CALL, {"role": "assistant", "content": "No."}])
    return tmp_path


def rows(file: Path, answers: list[dict[str, Any]]) -> Path:
    found = [{"messages": [{"role": "user", "content": "the hall, please"}, a], "tools": [TOOL]} for a in answers]
    write_text(file, "".join(json.dumps(row) + "\n" for row in found))
    return file


def edge(*arguments: object) -> Result:
    group = click.group(cls=Group)(lambda: None)
    group.add_command(bench)
    return CliRunner().invoke(group, ["bench", *map(str, arguments)])


def refused(*arguments: object) -> str:
    done = edge(*arguments)
    assert done.exit_code == 2 and "Traceback" not in done.output, done.output
    assert not Path("results").exists()
    return done.output


def planned(*files: Path, **more: Any) -> plan.Plan:
    given = {"data": ["rows.jsonl"], "threads": (1,), **more}
    return plan.make(Wish(files=files, **given), Console(quiet=True))


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_files_that_no_runtime_reads(here: Path) -> None:
    assert "no such file" in refused("missing.gguf", "--data", "rows.jsonl")
    assert "of no format that edge reads" in refused("rows.jsonl", "--data", "rows.jsonl")
    lone = artifacts.onnx(here / "folder") / "model.onnx"
    said = refused(lone, "--data", "rows.jsonl")
    assert "a lone .onnx file" in said and "artifacts are measured: gguf" in said
    checkpoint = artifacts.checkpoint(here / "checkpoint")
    assert "no runtime reads it" in refused(checkpoint, "--data", "rows.jsonl")
    cut = artifacts.gguf(here / "cut.gguf")
    cut.write_bytes(cut.read_bytes()[:-100])
    assert "cut.gguf" in refused(cut, "--data", "rows.jsonl")
    assert "nothing to measure" in refused("--data", "rows.jsonl")
    assert "check the path" in refused("missing.gguf", "--data", "rows.jsonl")
    (here / "adapter").mkdir()
    (here / "adapter" / "adapter_config.json").write_text("{}")
    assert "adapter" in refused(here / "adapter", "--data", "rows.jsonl")


def test_a_folder_s_star_holds_manifests(here: Path) -> None:
    (here / "artifacts").mkdir()
    file = artifacts.manifest(artifacts.gguf(here / "artifacts" / "app-q8_0.gguf"))
    given = sorted((here / "artifacts").iterdir())
    assert len(given) == 2
    assert [Path(a.path) for a in planned(*given, baseline=False).artifacts.values()] == [file]
    said = refused(job.manifest_of(file), "--data", "rows.jsonl")
    assert "a manifest, not an artifact" in said and f"edge bench {file}" in said


def test_a_project_is_no_artifact(here: Path) -> None:
    write_text(here / "app" / "edge.toml", '[project]\nname = "app"\n')
    for given in ("app", "app/edge.toml"):
        said = refused(given)
        assert f"{given}: a project" in said and "edge bench -p app\n" in said


def test_a_file_that_is_not_the_one_its_manifest_describes(here: Path) -> None:
    file = artifacts.manifest(artifacts.gguf(here / "m.gguf"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert "altered" in refused(file, "--data", "rows.jsonl")


def test_a_vocabulary_of_no_dialect(here: Path) -> None:
    pieces = [("<unk>", 0.0, 2), ("<bos>", 0.0, 3), ("<eos>", 0.0, 3), ("<end_of_turn>", 0.0, 3), ("a", -1.0, 1)]
    pieces += [("<start_function_response>", 0.0, 3)]
    file = artifacts.gguf(here / "m.gguf", pieces=pieces, rows=len(pieces))
    assert "no dialect that edge knows" in refused(file, "--data", "rows.jsonl")
    other = records.load(records.Artifact, job.manifest_of(artifacts.manifest(artifacts.gguf(here / "o.gguf"))))
    records.save({**vars(other), "dialect": "hermes"}, here / "o.gguf.json")
    ours = artifacts.manifest(artifacts.gguf(here / "p.gguf"))
    assert "different dialects" in refused(here / "o.gguf", ours, "--data", "rows.jsonl")


def test_a_runtime_that_can_not_load_it(here: Path) -> None:
    file = artifacts.manifest(artifacts.litertlm(here / "m.litertlm"))
    said = refused(file, "--data", "rows.jsonl", "--runtime", "llama_cpp")
    assert (
        "llama_cpp can't load a .litertlm" in said and "litertlm is read by litert_lm, litert_lm_chat, litert" in said
    )
    both = artifacts.manifest(artifacts.gguf(here / "m.gguf"))
    assert "can't load a .litertlm" in refused(both, file, "--data", "rows.jsonl", "--runtime", "llama_cpp")
    assert "llama_server: is for other devices" in refused(both, "--data", "rows.jsonl", "--runtime", "llama_server")


def test_a_device_that_is_not_there() -> None:
    said = refused("missing.gguf", "--device", "phone", "--data", "rows.jsonl")
    assert "no device 'phone'" in said and "there are: local" in said


def dead(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device `pi5` of which nothing answers, soon."""
    write_text(here / "config" / "devices.toml", f'[pi5]\naddress = "ssh:pi@127.0.0.1:{closed_port()}"\n')
    monkeypatch.setattr(ssh, "_pause", lambda seconds: None)


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_device_that_does_not_answer_keeps_nothing_back(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dead(here, monkeypatch)
    file = artifacts.manifest(artifacts.gguf(here / "m.gguf"))
    wish = Wish(files=[file], devices=("pi5", "local"), data=["rows.jsonl"], baseline=False, threads=(1,))
    made = plan.make(wish, Console())
    said = capsys.readouterr().err
    assert said.index("… asking pi5") < said.index("✗ asking pi5") < said.index("nothing is measured on pi5")
    assert "asking local" not in said and list(made.unreached) == ["pi5"]
    assert [(c.device, c.name, str(c)) for c in made.cells] == [
        ("local", "q8_0.llama_cpp.t1", "local: q8_0 (llama_cpp, 1 thread)"),
        ("pi5", "q8_0.unknown.t0", "pi5: q8_0"),
    ]
    alone = edge(file, "--data", "rows.jsonl", "--device", "pi5", "--no-base")
    assert alone.exit_code == 5 and "nothing answers on that port" in alone.output and not Path("results").exists()
    assert "no device 'nope'" in refused(file, "--data", "rows.jsonl", "--device", "pi5", "--device", "nope")
    bundle = artifacts.manifest(artifacts.litertlm(here / "m.litertlm"))
    monkeypatch.setattr(Local, "lacks", lambda self, runtime: "no LSE atomics" if "litert" in runtime else None)
    found = planned(file, bundle, devices=("pi5", "local"), baseline=False)
    assert [one["device"] for one in found.left_out] == ["local"], "who knows what the other one can"


def test_what_a_device_that_does_not_answer_leaves(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its error as a record, unless something was measured there before."""
    dead(here, monkeypatch)
    file = artifacts.manifest(artifacts.gguf(here / "m.gguf"))
    out = here / "bench"
    made = planned(file, devices=("pi5", "local"), baseline=False, out=out)
    made = dataclasses.replace(made, cells=[c for c in made.cells if c.device == "pi5"])
    run = lambda: benching._Matrix(made, Console(quiet=True), lambda states: None).run()  # noqa: E731
    outcome = run()
    (state,) = outcome.failed
    assert state.error and state.error["kind"] == "device"
    show(outcome, benching.reports(outcome))
    said = capsys.readouterr().out
    assert "failed: pi5 (pi@127.0.0.1): it is there, but" in said and "right %" not in said
    report = matrix.build(folder.read(out))
    (cell,) = report.cells
    assert (cell["key"], cell["threads"], cell["error"]) == ("pi5/q8_0/unknown", None, state.error)
    assert state.error["message"] in matrix_text.markdown(report)
    (record,) = (out / "pi5").iterdir()
    known = dataclasses.replace(records.load(records.Measurement, record), runtime="llama_cpp", error=None)
    record.unlink()
    records.save(known, out / "pi5" / "q8_0.llama_cpp.t4.model-card.json")
    assert run().failed and record.exists(), "rates alone are no answers"
    record.unlink()
    records.save(known, out / "pi5" / "q8_0.llama_cpp.t4.json")
    assert run().failed and not record.exists()


def test_a_device_that_can_run_nothing_of_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one device lacks and another has is left out there; what none has is refused, with the reason."""
    monkeypatch.setattr(Local, "lacks", lambda self, runtime: "no LSE atomics" if "litert" in runtime else None)
    bundle = artifacts.manifest(artifacts.litertlm(here / "m.litertlm"))
    said = refused(bundle, "--data", "rows.jsonl", "--no-base")
    assert "can't be measured on local: litert_lm: no LSE atomics" in said
    (here / "config").mkdir()
    (here / "config" / "devices.toml").write_text('[able]\naddress = "local"\n')
    lacking = lambda self, runtime: "no LSE atomics" if "litert" in runtime and self.name == "local" else None  # noqa: E731
    monkeypatch.setattr(Local, "lacks", lacking)
    gguf = artifacts.manifest(artifacts.gguf(here / "m.gguf"))
    found = planned(bundle, gguf, devices=("able", "local"), baseline=False)
    assert [(c.device, c.subject.format) for c in found.cells] == [
        ("able", "litertlm"),
        ("able", "gguf"),
        ("local", "gguf"),
    ]
    assert [(one["device"], one["why"]) for one in found.left_out] == [("local", "litert_lm: no LSE atomics")]
    with pytest.raises(EdgeError, match="can't be measured on local") as error:
        planned(bundle, devices=("able", "local"), baseline=False)
    assert error.value.hint == "which can: able (litert_lm)"


def test_rows_that_can_not_be_scored(here: Path) -> None:
    file = artifacts.manifest(artifacts.gguf(here / "m.gguf"))
    assert "no rows to answer" in refused(file)
    none = rows(here / "none.jsonl", [{"role": "assistant", "content": "No."}])
    assert "none of the 1 rows expects a call" in refused(file, "--data", none)
    write_text(here / "bad.jsonl", '{"messages": 3}\n')
    assert "no usable rows" in refused(file, "--data", "bad.jsonl")
    assert "no usable rows" not in edge(file, "--data", "rows.jsonl", "--profile", "other").output
    assert "no profile 'other'" in refused(file, "--data", "rows.jsonl", "--profile", "other")


def test_a_tflite_needs_its_checkpoint(here: Path) -> None:
    file = here / "m.tflite"
    file.write_bytes(artifacts.tflite())
    said = refused(file, "--data", "rows.jsonl")
    assert "no tokenizer in it" in said and "--base" in said


def test_a_base_that_it_was_not_made_from(here: Path) -> None:
    file = artifacts.manifest(artifacts.gguf(here / "m.gguf"))
    told = records.read_json(job.manifest_of(file))
    records.save({**told, "checkpoint": "0" * 64}, job.manifest_of(file))
    base = artifacts.checkpoint(here / "base")
    assert "made from another checkpoint (000000000000)" in refused(file, "--data", "rows.jsonl", "--base", base)


@pytest.mark.parametrize("name", [plan.BENCH, "local/q8_0.llama_cpp.t1.json"])
def test_results_of_a_newer_version(here: Path, name: str) -> None:
    file = artifacts.manifest(artifacts.gguf(here / "m.gguf"))
    write_text(here / "out" / name, json.dumps({"schema": 99}))
    said = refused(file, "--data", "rows.jsonl", "--out", "out")
    assert "written by a newer edge (schema 99" in said and [f.name for f in (here / "out").rglob("*.json")] == [
        Path(name).name
    ]


def test_of_an_emulated_device_no_word_of_times_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Folder(tmp_path, 20)
    made.add("q8_0", samples=made.samples(range(2), 0.1), load_average_before=99.0)
    for emulated in (False, True):
        _cells(matrix.build(folder.read(made.path)), emulated)
        said = capsys.readouterr().out
        assert "q8_0" in said and all((word in said) is not emulated for word in ("~", "times", "call ms"))


def test_options_that_are_no_numbers() -> None:
    assert "numbers of threads" in refused("m.gguf", "--threads", "two")
    assert "is no time" in refused("m.gguf", "--budget", "soon")
    at = click.Context(bench), bench.params[0]
    assert [seconds(*at, text) for text in ("90", "90s", "1.5m", "2h", None)] == [90, 90, 90, 7200, None]
    assert counts(*at, "1, 2,4") == (1, 2, 4) and counts(*at, None) == ()


# --- what is planned --------------------------------------------------------------------------------------------------


def test_names_stay_those_of_their_files(here: Path) -> None:
    """Two of a quantisation are called as their files, and a file keeps the name that it had in this folder."""
    first, second = (
        artifacts.manifest(artifacts.gguf(here / name, context=n)) for n, name in ((512, "a.gguf"), (1024, "b.gguf"))
    )
    assert set(planned(first).artifacts) == {"q8_0"}
    assert set(planned(first, second).artifacts) == {"a.gguf", "b.gguf"}
    alone = planned(first, out=here / "out").artifacts
    told = {name: {"path": a.path} for name, a in alone.items()}
    write_text(here / "out" / plan.BENCH, json.dumps({"schema": 1, "subjects": told}))
    assert {n: Path(a.path).name for n, a in planned(second, first, out=here / "out").artifacts.items()} == {
        "b.gguf": "b.gguf", "q8_0": "a.gguf"}  # fmt: skip
    assert set(planned(second, out=here / "out").artifacts) == {"b.gguf"}


def test_a_matrix_of_files_threads_and_runtimes(here: Path) -> None:
    bundle = artifacts.manifest(artifacts.litertlm(here / "m.litertlm"))
    gguf = artifacts.manifest(artifacts.gguf(here / "m.gguf"))
    if Local().lacks("llama_cpp") or Local().lacks("litert_lm"):
        pytest.skip("this machine has not both runtimes")
    made = planned(bundle, gguf, threads=(1, 2), devices=("laptop", "local"))
    assert [c.name for c in made.cells] == [
        f"{name}.t{n}" for name in ("litertlm-q8_0.litert_lm", "q8_0.llama_cpp") for n in (1, 2)]  # fmt: skip
    named = planned(bundle, runtimes=("litert_lm", "litert"))
    assert [c.settings.runtime for c in named.cells] == ["litert_lm", "litert"]
    assert made.digest == planned(gguf).digest != planned(gguf, rows=1).digest and len(made.rows) == 2
    assert made.baseline is None  # its checkpoint is not known


def test_without_files_the_project_is_measured(here: Path) -> None:
    (here / "tools.json").write_text(json.dumps([TOOL]))
    (here / "edge.toml").write_text('[project]\nname = "app"\n[tools]\nfile = "tools.json"\n[data]\ntrain = ["rows.jsonl"]\n'
                                    'eval = ["rows.jsonl"]\n[bench]\nthreads = 1\ncontext = 512\nmax_tokens = 64\n')  # fmt: skip
    said = refused()
    assert "nothing exported yet" in said and "edge run," in said and "edge.toml" not in said
    folder = here / "build" / "artifacts"
    folder.mkdir(parents=True)
    file = artifacts.manifest(artifacts.gguf(folder / "app-q8_0.gguf"))
    artifacts.gguf(folder / "half.gguf")  # without a manifest: not finished
    made = planned(data=())
    assert [Path(a.path) for a in made.artifacts.values()] == [file] and made.project == "app"
    assert (made.cells[0].settings.context, made.cells[0].settings.max_tokens, made.cells[0].settings.threads) == (
        512,
        64,
        1,
    )
    assert made.out == here / "results" / "bench" and len(made.rows) == 2


def test_what_only_a_bundle_carries_is_not_measured(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a project, unless it was asked for: then it was proven, or edge.toml names it."""
    settings = '[project]\nname = "app"\n[data]\ntrain = ["rows.jsonl"]\neval = ["rows.jsonl"]\n[export]\ntflite = {}\n'
    write_text(here / "edge.toml", settings.format([]))
    folder = here / "build" / "artifacts"
    folder.mkdir(parents=True)
    bundle = artifacts.manifest(artifacts.litertlm(folder / "app_q8_ekv1024.litertlm"))
    lone, carried = folder / "app_q4_ekv1024.tflite", folder / "app_q8_ekv1024.tflite"
    told = records.load(records.Artifact, job.manifest_of(bundle))
    for file, quantisation in ((carried, told.quantisation), (lone, "int4")):
        file.write_bytes(artifacts.tflite())
        of = dataclasses.replace(told, path=str(file), format="tflite", quantisation=quantisation, proof=None)
        records.save(of, job.manifest_of(file))

    def taken() -> set[str]:
        return {path.name for path in plan._files(Wish(), projects.load(here), Console())}

    assert taken() == {bundle.name, lone.name}
    assert f"left out: {carried.name}, which {bundle.name} carries" in capsys.readouterr().err
    write_text(here / "edge.toml", settings.format('["int8"]'))
    assert taken() == {bundle.name, lone.name, carried.name}
    write_text(here / "edge.toml", settings.format([]))
    of = records.load(records.Artifact, job.manifest_of(carried))
    records.save(dataclasses.replace(of, proof={"verdict": "good"}), job.manifest_of(carried))
    assert taken() == {bundle.name, lone.name, carried.name}


# --- what is printed --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_runtime_that_refuses_a_file_is_told(here: Path) -> None:
    """A GGUF that is whole and still no model: a record with an error, exit 1, and where it lies."""
    if Local().lacks("llama_cpp"):
        pytest.skip("no llama.cpp here")
    environments.ensure(environments.spec(environments.script("llama_cpp")), Console(quiet=True))
    file = artifacts.manifest(artifacts.gguf(here / "m.gguf"))
    done = edge(file, "--data", "rows.jsonl", "--no-base", "--threads", "1")
    assert done.exit_code == 1, done.output
    assert "failed: local: q8_0 (llama_cpp, 1 thread):" in done.output
    assert "records: results/bench" in done.output
    m = records.load(records.Measurement, here / "results" / "bench" / "local" / "q8_0.llama_cpp.t1.json")
    assert m.error and not m.samples
    told = edge(file, "--data", "rows.jsonl", "--no-base", "--threads", "1", "--json")
    assert told.exit_code == 1 and json.loads(told.stdout)["failed"][0]["cell"] == "q8_0.llama_cpp.t1"
