"""`edge train` without a worker: presets, refusals, the order of rows, the estimate, metrics; and (slow) whole runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge import environments, project, starter
from edge.cli import main
from edge.commands.train import train
from edge.console import Console
from edge.errors import EdgeError
from edge.export import job
from edge.records import Checkpoint
from edge.train import batches, launch, memory, metrics, presets, tiny, tune
from edge.train.encode import Encoded

QUIET = Console(quiet=True)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_what_is_given_goes_before_the_preset_and_that_before_the_defaults() -> None:
    plain = tune.settings()
    assert (plain["method"], plain["learning_rate"], plain["epochs"]) == ("lora", 2e-4, 3)
    assert tune.settings(method="full")["learning_rate"] == 1e-5  # the method's own default
    mobile = tune.settings(preset="mobile-actions")
    told = ("method", "epochs", "batch_size", "accumulate", "learning_rate", "schedule", "max_tokens", "warmup")
    assert [mobile[k] for k in told] == ["full", 2, 4, 8, 1e-5, "cosine", 997, 0.0]
    assert mobile["rank"] == plain["rank"]
    changed = tune.settings(preset="mobile-actions", epochs=1, method="lora")
    assert (changed["epochs"], changed["method"], changed["max_tokens"]) == (1, "lora", 997)
    flutter, korean, turing = (tune.settings(preset=p) for p in ("flutter", "korean-lora", "turing-6gb"))
    assert (flutter["epochs"], flutter["max_tokens"], flutter["warmup"]) == (3, 1024, 0.1)
    assert (korean["method"], korean["learning_rate"], korean["batch_size"], korean["accumulate"]) == (
        "lora",
        1e-4,
        2,
        8,
    )
    assert (turing["method"], turing["precision"]) == ("qlora", "float32")


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_value_of_a_preset_is_one_that_its_key_takes_and_has_a_reason(name: str) -> None:
    for key, value in presets.PRESETS[name].values.items():
        assert project.checked("train", key, value.value, key) == value.value and value.why
    text = presets.explain()
    assert name in text and all(v.why in text for v in presets.PRESETS[name].values.values())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"precision": "float16"}, "precision can't be float16: Gemma 3's activations pass its largest number"),
        ({"precision": "fp16"}, "can't be fp16"),
        ({"preset": "mobile"}, "must be mobile-actions or"),
        ({"method": "dora"}, "must be lora, qlora or full, not 'dora'"),
        ({"schedule": "step"}, "must be cosine, linear or constant"),
        ({"dropout": 1.0}, "a share, below 1"),
        ({"rank": 0}, "at least 1"),
        ({"spike": -1.0}, "at least 0"),
        ({"lr": 1.0}, "no setting named 'lr'"),
        ({"epochs": "3"}, "must be an integer"),
    ],
)
def test_wrong_settings(given: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeError, match=message):
        tune.settings(**given)


def test_a_preset_in_edge_toml(tmp_path: Path) -> None:
    starter.write(tmp_path / "app")
    toml = tmp_path / "app" / "edge.toml"
    before, _, after = toml.read_text().partition("[train]\n")
    rest = "[export]" + after.partition("[export]")[2]
    toml.write_text(before + '[train]\npreset = "korean-lora"\nepochs = 1\n\n' + rest)
    found = project.load(tmp_path / "app")
    assert (found.training["epochs"], found.training["learning_rate"], found.training["accumulate"]) == (1, 1e-4, 8)
    assert found.tuning == {"preset": "korean-lora", "epochs": 1}
    toml.write_text(before + '[train]\nprecision = "float16"\n' + rest)
    with pytest.raises(EdgeError, match=r"edge\.toml, line \d+: precision in \[train\] can't be float16"):
        project.load(tmp_path / "app")


def test_a_preset_of_the_command_line_goes_before_edge_toml_and_flags_before_both() -> None:
    said = {"preset": "korean-lora", "epochs": 1, "learning_rate": 3e-3, "batch_size": 4, "seed": 7}

    def settled(flags: dict[str, Any]) -> list[Any]:
        found = project.check_training(flags, said)
        return [found[k] for k in ("preset", "method", "epochs", "learning_rate", "batch_size", "seed")]

    assert settled({}) == ["korean-lora", "lora", 1, 3e-3, 4, 7]
    assert settled({"preset": "flutter"}) == ["flutter", "full", 3, 1e-5, 4, 7]
    assert settled({"preset": "flutter", "epochs": 9, "method": "lora"}) == ["flutter", "lora", 9, 1e-5, 4, 7]
    assert settled({"epochs": 9}) == ["korean-lora", "lora", 9, 3e-3, 4, 7]


def test_where_edge_toml_and_a_preset_differ_is_said() -> None:
    said = {"preset": "mobile-actions", "epochs": 2, "learning_rate": 3e-3, "batch_size": 8}
    assert presets.differing(said) == [
        "edge.toml's batch_size 8 goes before the preset's 4",
        "edge.toml's learning_rate 0.003 goes before the preset's 1e-05",
    ]
    assert presets.differing(said, {"preset": "flutter", "batch_size": 1}) == [
        "the preset's epochs 3 goes before edge.toml's 2",
        "the preset's learning_rate 1e-05 goes before edge.toml's 0.003",
    ]
    assert presets.differing({"epochs": 2}) == presets.differing({"epochs": 2}, {"rank": 4}) == []


def test_the_commands_say_what_differs_first(tmp_path: Path) -> None:
    """In a project as `edge init` writes it, whose keys were made for the embedded model."""
    app = tmp_path / "app"
    starter.write(app)
    (app / "tools.py").unlink()  # so that neither gets any further
    result = edge_train(app, "--preset", "flutter")
    assert result.exit_code == 1 and "the preset's learning_rate 1e-05 goes before edge.toml's" in result.stderr
    toml = app / "edge.toml"
    toml.write_text(toml.read_text().replace("# preset =", "preset ="))
    result = CliRunner().invoke(main, ["run", str(app)])
    assert result.exit_code == 2 and "goes before the preset's 0.0001" in result.stderr


# --- what is refused before anything is built -------------------------------------------------------------------------


def a_run(monkeypatch: pytest.MonkeyPatch, base: Path = tiny.SHIPPED, **given: Any) -> None:
    """A tuning that may get no further than its environment."""

    def never(_: object) -> Any:
        raise AssertionError("an environment was asked for")

    rows = tune.Rows(Path("rows.jsonl"), None, {})
    checkpoint = job.read_checkpoint(base, "functiongemma", "base")
    tune.tune(checkpoint, rows, tune.settings(**given), Path("out"), "x", QUIET, never)


@pytest.mark.parametrize(("value", "refused"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_the_korean_guides_switch_for_float16(value: str, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FG_USE_FP16", value)
    with pytest.raises((EdgeError, OSError)) as caught:  # else it gets as far as the rows, which aren't there
        a_run(monkeypatch)
    assert ("FG_USE_FP16" in str(caught.value) and "float16 is refused" in str(caught.value)) is refused


def test_qlora_without_a_cuda_gpu_is_refused_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EdgeError, match="qlora needs a CUDA GPU"):
        a_run(monkeypatch, method="qlora")


def test_qlora_has_an_environment_of_its_own_and_else_the_same_needs() -> None:
    ours, theirs = (environments.spec(environments.script(n)) for n in ("tune", "qlora"))
    assert set(theirs.dependencies) - set(ours.dependencies) == {"bitsandbytes==0.50.2"}
    assert set(theirs.pins) - set(ours.pins) == {"bitsandbytes==0.50.2"} and theirs.key != ours.key


def test_a_base_whose_template_writes_other_prompts(tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny.SHIPPED, base)

    def found() -> list[str]:
        return tune.template_findings(job.read_checkpoint(base, "functiongemma"), "training")

    assert found() == []
    template = base / "chat_template.jinja"
    text = template.read_text()
    assert "declaration:" in text
    template.write_text(text.replace("declaration:", "function:"))
    assert "writes other prompts than training" in found()[0] and "function:" in found()[0]
    template.write_text("{{ raise_exception('no') }}")
    assert "the chat template refuses" in found()[0]


# --- rows and batches -------------------------------------------------------------------------------------------------

LENGTHS = [10 + (n * 37) % 200 for n in range(203)]


def test_every_row_is_dealt_out_once_and_like_lengths_together() -> None:
    order = batches.order(LENGTHS, 8, 1, 0, 0)
    assert sorted(order) == list(range(len(LENGTHS)))
    assert order == batches.order(LENGTHS, 8, 1, 0, 0)
    assert order != batches.order(LENGTHS, 8, 1, 0, 1) and order != batches.order(LENGTHS, 8, 1, 1, 0)
    rows = [Encoded(str(n), [0] * length, 5) for n, length in enumerate(LENGTHS)]

    def padded(dealt: list[int]) -> int:
        return sum(tokens for tokens, _, _ in batches.shapes(rows, dealt, 8))

    assert padded(order) < 1.15 * sum(LENGTHS) < 1.5 * sum(LENGTHS) < padded(list(range(len(LENGTHS))))
    first = [LENGTHS[order[i]] for i in range(0, 160, 8)]
    assert first != sorted(first) and first != sorted(first, reverse=True)  # lengths tell nothing of the order


def test_processes_share_an_update_that_one_makes_alone() -> None:
    one = batches.order(LENGTHS, 8, 1, 0, 0)
    two = batches.order(LENGTHS, 8, 4, 0, 0)  # a batch of 2, two processes, two batches an update
    assert two[: len(one)] == one and len(two) % 4 == 0 and set(two[len(one) :]) == {batches.FILLER}


def test_the_estimate_grows_with_what_takes_memory() -> None:
    shape = memory.Shape(640, 2048, 18, 4, 1, 256, 262144, 268_000_000, 168_000_000)
    plan = {"method": "lora", "trainable": 4_000_000, "rank": 16, "bfloat16": False, "attention": "eager",
            "checkpointing": False, "tokens": 2048, "longest": 512, "completion": 160}  # fmt: skip

    def total(**other: Any) -> int:
        return int(memory.estimate(shape, {**plan, **other}, 400_000_000)["total"])

    assert total(checkpointing=True) < total(bfloat16=True) < total() < total(tokens=4096)
    assert total(attention="sdpa") < total() and total(completion=320) > total()
    assert total(method="full", trainable=268_000_000) > total() + 12 * 250_000_000
    # Measured: batch 4 of 512 tokens in bfloat16, 6.19 GB with eager and 5.58 with sdpa.
    assert total(bfloat16=True) == pytest.approx(6.19e9, rel=0.25)
    assert total(bfloat16=True, attention="sdpa") == pytest.approx(5.58e9, rel=0.25)


def test_metrics_of_a_stopped_run_are_taken_up_where_its_checkpoint_is(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    log = metrics.Metrics(file)
    assert log.resume(0) == 0.0
    for step in range(1, 6):
        log.add({"step": step, "loss": 6.0 - step, "learning_rate": 1e-4, "seconds": float(step)})
    with file.open("a") as f:
        f.write('{"step": 6, "lo')  # the line that a kill cut off
    assert log.resume(3) == 3.0 and [line["step"] for line in metrics.read(file)] == [1, 2, 3]
    log.add({"step": 3, "eval_loss": 2.5, "seconds": 3.5})
    drawing = ET.fromstring(metrics.plot(metrics.read(file), "a < b"))
    texts = [e.text for e in drawing.iter() if e.text]
    assert "a < b" in texts and {"loss", "learning rate", "training", "held out"} <= set(texts)
    assert metrics.plot([], "nothing").startswith("<svg")


def test_rows_without_tools_are_trained_as_given_and_counted(tmp_path: Path) -> None:
    """The Korean guide's shape: a short developer message, calls as text, no tools."""
    call = "<start_function_call>call:adjust{delta:2}<end_function_call>"
    messages = [{"role": "developer", "content": "short"}, {"role": "user", "content": "온도 2도 올려줘"},
                {"role": "assistant", "content": call}]  # fmt: skip
    (tmp_path / "ko.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
    from edge import rows

    made = tune._write([tmp_path / "ko.jsonl"], [], [], rows.Manner("functiongemma"), 0, tmp_path / "w", QUIET)
    row = json.loads(made.training.read_text())
    assert "declaration" not in row["prompt"] and row["completion"].startswith(call)
    assert made.facts["tools"] == {"own": 0, "declared": 0, "none": 1} and made.watched is None
    tool = {"type": "function", "function": {"name": "adjust", "description": "Changes it.", "parameters": {
        "type": "object", "properties": {"delta": {"type": "integer", "description": "By."}}}}}  # fmt: skip
    made = tune._write([tmp_path / "ko.jsonl"], [], [tool], rows.Manner("functiongemma"), 0, tmp_path / "w", QUIET)
    assert "declaration:adjust" in json.loads(made.training.read_text())["prompt"]
    assert made.facts["tools"] == {"own": 0, "declared": 1, "none": 0}


def test_the_state_of_git_is_that_of_the_rows_repository(tmp_path: Path) -> None:
    assert tune.git_state(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@y"]
    (tmp_path / "rows").write_text("a")
    for words in (["init", "-q"], ["add", "rows"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    clean = tune.git_state(tmp_path)
    assert clean and len(clean["commit"]) == 40 and clean["changed"] is False
    (tmp_path / "rows").write_text("b")
    assert (tune.git_state(tmp_path) or {})["changed"] is True


def test_a_rank_says_nothing_but_its_last_word(capfd: pytest.CaptureFixture[str]) -> None:
    voice = launch.Silent()
    voice.progress(1, 2, "x")
    voice.log("x")
    assert capfd.readouterr().out == ""


# --- the command ------------------------------------------------------------------------------------------------------


def edge_train(*words: object) -> Any:
    return CliRunner().invoke(train, [str(w) for w in words])


def test_presets_are_listed() -> None:
    assert "turing-6gb" in edge_train("--presets").output
    told = json.loads(edge_train("--presets", "--json").output)
    assert told["mobile-actions"]["values"]["max_tokens"]["value"] == 997


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["app", "--base", "edge-tiny"], "give a project, or --base"),
        (["--base", "edge-tiny"], "--base, --data and --out are needed"),
        (["--epochs", "0"], "Invalid value"),
        (["--method", "prefix"], "Invalid value"),
    ],
)
def test_options_that_do_not_go_together(words: list[str], message: str) -> None:
    result = edge_train(*words)
    assert result.exit_code == 2 and message in result.output


def small(folder: Path) -> Path:
    starter.write(folder)
    for name, count in (("train.jsonl", 24), ("eval.jsonl", 6)):
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(lines[:count]))
    return folder


@pytest.mark.slow
def test_files_and_flags_make_what_a_project_makes(tmp_path: Path) -> None:
    app, out = small(tmp_path / "app"), tmp_path / "out"
    flags = ["--epochs", 1, "--learning-rate", 1e-3, "--threads", 1]
    words = ["--base", "edge-tiny", "--data", app / "train.jsonl", "--eval", app / "eval.jsonl", "--tools", app / "tools.py",
             "--out", out, *flags]  # fmt: skip
    result = edge_train(*words, "--json")
    assert result.exit_code == 0, result.output
    made = Checkpoint(**{k: v for k, v in json.loads(result.stdout.splitlines()[-1]).items() if k != "run"})
    run = json.loads((out / "training" / "run.json").read_text())
    assert run["base"]["digest"] == made.base and run["seed"] == 0 and run["rows"]["count"] == 24
    assert run["data"]["files"].keys() == {str(app / "train.jsonl"), str(app / "eval.jsonl")}
    assert run["environment"]["packages"] and run["edge"]["version"] and run["machine"]["cores"]
    assert made.training and made.training["data"] == run["rows"]["digest"] and made.training["watched"] == 6
    again = edge_train(*words)
    assert again.exit_code == 0 and "trained already" in again.stderr and f"{out}: 24 rows" in again.stdout
    # The same rows by a project: the same weights.
    result = edge_train(app, *flags, "--json")
    assert result.exit_code == 0, result.output
    other = json.loads(result.stdout.splitlines()[-1])
    assert other["digest"] == made.digest and other["path"] == str(app / "build" / "tuned")


@pytest.mark.slow
def test_a_run_that_is_stopped_by_its_loss_leaves_the_last_good_adapter(tmp_path: Path) -> None:
    app = small(tmp_path / "app")
    words = [
        "--base",
        "edge-tiny",
        "--data",
        app / "train.jsonl",
        "--tools",
        app / "tools.py",
        "--out",
        tmp_path / "out",
    ]
    result = edge_train(*words, "--epochs", 20, "--learning-rate", 1e30, "--warmup", 0, "--threads", 1)
    error = result.exception
    assert isinstance(error, EdgeError) and "train.jsonl:" in error.message and "kept in" in (error.hint or "")
    assert (tmp_path / "out.last-good" / "adapter_model.safetensors").exists() and not (tmp_path / "out").exists()
