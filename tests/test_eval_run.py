"""`edge eval` on real models: answers as one row at a time gives them, adapters unmerged, stopped and gone on with."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edge import dialects, environments, records, worker
from edge import rows as rows_of
from edge import tools as tools_of
from edge.bench.evaluate import evaluate
from edge.bench.evaluation import Evaluation
from edge.console import Console
from edge.errors import EdgeError
from edge.export import gate
from edge.records import Measurement, write_text
from edge.train import demo, tiny
from edge.train.merge import merge

pytestmark = pytest.mark.slow
QUIET = Console(quiet=True)
WORKERS = Path(__file__).parent / "workers"
COMMAND = """
import click
from edge.cli import Group
from edge.commands.eval import eval_
app = click.group(cls=Group)(lambda: None)
app.add_command(eval_)
app()
"""


def torch() -> Path:
    return environments.ensure(environments.spec(environments.script("transformers")), QUIET).python


def edge(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", COMMAND, "eval", *map(str, arguments), "--threads", "1"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def project_rows(folder: Path, count: int) -> tuple[Path, Path]:
    """Rows of the starter project, in two scripts, and its tools."""
    write_text(folder / "tools.py", demo.tools_source())
    rows = list(demo.rows("eval", count))
    write_text(folder / "eval.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return folder / "eval.jsonl", folder / "tools.py"


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random adapter of the embedded model, and both merged."""
    folder = tmp_path_factory.mktemp("adapted")
    text = gate.own_rows("functiongemma", 1)[0]["prompt"]
    request = {"base": str(tiny.SHIPPED), "size": 0.02, "text": text}
    worker.run(WORKERS / "adapter.py", request, folder / "adapter", python=torch())
    merge(folder / "adapter", tiny.SHIPPED, folder / "merged", "functiongemma", QUIET)
    return folder


# ---- the runtime


def asked(folder: Path, count: int = 8) -> list[dict[str, Any]]:
    """Rows with the same tools, rows with others, and rows that are like no other: {"id", "prompt", "completion"}."""
    file, declared = project_rows(folder, count)
    manner = rows_of.Manner("functiongemma")
    toolbox = tools_of.load(declared).tools
    read, _ = rows_of.read([file], "eval", toolbox, manner, QUIET)
    rows = [rows_of.training_row(row, toolbox, manner) for row in read]
    speak = dialects.get("functiongemma")
    for row in gate.own_rows("functiongemma", 3):  # dates come first in these, so that they begin differently
        made = [{"type": "function", "function": call} for call in row["expected"]]
        answer = speak.completion({"role": "assistant", "tool_calls": made})
        rows.append({"id": row["id"], "prompt": row["prompt"], "completion": answer})
    tool = {"type": "function", "function": {"name": "now", "description": "Tells the time and the day of the week."}}
    for i, text in enumerate(("what time is it", "the clock, please", "now?")):
        prompt = speak.render([{"role": "user", "content": text}], [tool])
        rows.append({"id": f"now-{i}", "prompt": prompt, "completion": rows[0]["completion"]})
    # A short prompt whose answer is longer than those of longer prompts: it stays in its batch when they have left it.
    text = {"type": "string", "description": "What to write down."}
    note = {
        "name": "note",
        "description": "Writes a note.",
        "parameters": {"type": "object", "properties": {"text": text}},
    }
    asked_of = [{"role": "user", "content": "note: the seven green parrots sing before breakfast on Monday"}]
    prompt = speak.render(asked_of, [{"type": "function", "function": note}])
    return [*rows, {"id": "alone", "prompt": prompt, "completion": "Hello.<end_of_turn>"}]


def answered(folder: Path, checkpoint: Path, rows: list[dict[str, Any]], **request: Any) -> dict[str, Any]:
    told = {"checkpoint": str(checkpoint), "rows": rows, "stop": list(dialects.get("functiongemma").STOP), "context": 4096,
            "max_tokens": 40, **request}  # fmt: skip
    return worker.run(WORKERS / "answers.py", told, folder / "out", python=torch())


@pytest.mark.parametrize("window", [1024, 64])
def test_batches_answer_as_single_rows_do(tmp_path: Path, window: int) -> None:
    """With a window that holds whole rows beginnings are shared, with one that doesn't they are not."""
    model = tmp_path / "model"
    shutil.copytree(tiny.SHIPPED, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "sliding_window": window}))
    rows = asked(tmp_path)
    told = answered(tmp_path, model, rows)
    assert sum(n for _, n in told["shared"]) == len(rows)
    sharing = [common for common, n in told["shared"] if n > 1 and common]
    assert (len(sharing) == 1 and sharing[0] > 100) if window == 1024 else not sharing
    texts = {s["row"]: s["text"] for s in told["samples"]}
    assert texts == {row: text for row, (text, _, _) in told["plain"].items()}
    assert told["tokens"] == {row: counts for row, (_, *counts) in told["plain"].items()}
    assert len(set(texts.values())) > 5 and len({tuple(c) for c in told["tokens"].values()}) > 3
    assert {s["stop"] for s in told["samples"]} >= {"<start_function_response>"}


def test_a_prompt_that_is_too_long_is_an_error_and_the_others_go_on(tmp_path: Path) -> None:
    rows = asked(tmp_path, 2)
    speak = dialects.get("functiongemma")
    rows.insert(0, {**rows[0], "id": "long", "prompt": speak.render([{"role": "user", "content": "so " * 1000}], [])})
    told = answered(tmp_path, tiny.SHIPPED, rows, context=900, reference=False)
    by_row = {s["row"]: s for s in told["samples"]}
    assert "tokens, the context holds 900" in by_row["long"]["error"] and by_row["long"]["text"] is None
    assert len(by_row) == len(rows) and all(s["text"] for row, s in by_row.items() if row != "long")


# ---- the command


def test_an_adapter_answers_as_the_merged_checkpoint_does(adapted: Path, tmp_path: Path) -> None:
    rows, tools = project_rows(tmp_path, 40)
    made = evaluate([adapted / "adapter", adapted / "merged"], [rows], tools=tools, out=tmp_path / "out", threads=1)
    base, adapter, merged = made.subjects
    assert [s["kind"] for s in made.subjects] == ["base", "adapter", "checkpoint"] and base["path"] == str(tiny.SHIPPED)
    texts = [_texts(tmp_path / "out" / f"{s['name']}.json") for s in made.subjects]
    assert texts[1] == texts[2] and texts[1] != texts[0] and len(texts[1]) == 40
    assert adapter["metrics"] == merged["metrics"] and adapter["mistakes"] == merged["mistakes"]
    assert adapter["settings"]["adapter"] is True and "adapter" not in merged["settings"]
    assert base["metrics"]["tokens"]["value"] > 0.3
    assert isinstance(made, Evaluation) and len(made.mistakes) == sum(40 - s["rows"]["right"] for s in made.subjects)
    html = (tmp_path / "out" / "evaluation.html").read_text()
    assert html.count('<article class="wrong">') == len(made.mistakes)
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["subjects"] == json.loads(
        json.dumps(made.subjects)
    )


def _texts(file: Path) -> dict[str, str | None]:
    return {s.row: s.text for s in records.load(Measurement, file).samples}


def test_a_stopped_evaluation_goes_on(tmp_path: Path) -> None:
    """Ctrl-C after the first batch: 130, and the rows that were answered are not answered again."""
    rows, tools = project_rows(tmp_path, 400)
    given = ["edge-tiny", "--data", rows, "--tools", tools, "--out", tmp_path / "out", "--max-tokens", "700"]
    command = [sys.executable, "-c", COMMAND, "eval", *map(str, given), "--threads", "1", "-q"]
    samples = tmp_path / "out" / "edge-tiny.samples"
    host = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    end = time.monotonic() + 300
    while not (samples.exists() and samples.read_text().count("\n") > 5):
        assert host.poll() is None and time.monotonic() < end, host.stderr and host.stderr.read()
        time.sleep(0.02)
    host.send_signal(signal.SIGINT)
    _, told = host.communicate()
    assert host.returncode == 130, told
    kept = samples.read_text().splitlines()[1:]
    assert 5 < len(kept) < 400
    again = edge(*given, "--json", "-q")
    assert again.returncode == 0, again.stderr
    counts = [
        json.loads(line)["row"] for line in (tmp_path / "out" / "edge-tiny.tokens.jsonl").read_text().splitlines()[1:]
    ]
    done = {json.loads(line)["row"] for line in kept}
    assert set(counts) == {f"eval.jsonl:{n}" for n in range(1, 401)} and all(counts.count(row) == 1 for row in done)
    made = json.loads(again.stdout)
    assert made["subjects"][0]["rows"]["missing"] == 0 and made["subjects"][0]["difference"] is None
    third = edge(*given)
    assert "measured already" in third.stderr and third.returncode == 0
    assert "edge-tiny gets" in third.stdout and "for example" in third.stdout


def test_rows_that_failed_are_counted_and_the_command_says_so(tmp_path: Path) -> None:
    rows, tools = project_rows(tmp_path, 4)
    text = json.loads(rows.read_text().splitlines()[0])
    text["messages"][1]["content"] += " so" * 5000
    rows.write_text(rows.read_text() + json.dumps(text) + "\n")
    told = edge("edge-tiny", "--data", rows, "--tools", tools, "--out", tmp_path / "out", "--json", "-q")
    assert told.returncode == 1, told.stderr
    made = json.loads(told.stdout)
    assert made["subjects"][0]["rows"]["failed"] == 1 and made["subjects"][0]["mistakes"]["failed"] == 1
    assert "the context holds" in next(m["why"] for m in made["mistakes"] if m["kind"] == "failed")


def test_a_project_is_evaluated_by_its_name_alone(adapted: Path, tmp_path: Path) -> None:
    """Base, tuned, rows and tools from edge.toml; a tool that training never calls is warned of."""
    from edge import starter

    folder = tmp_path / "app"
    starter.write(folder)
    called = [json.dumps(row) + "\n" for row in demo.rows("train", 40) if "grind" not in json.dumps(row["messages"])]
    write_text(folder / "train.jsonl", "".join(called))
    shutil.copytree(adapted / "merged", folder / "build" / "tuned")
    told = edge(folder, "--rows", "12")
    assert told.returncode == 0, told.stderr
    assert "training never calls" in told.stderr and "grind" in told.stderr
    assert "base gets" in told.stdout and "tuned gets" in told.stdout
    made = json.loads((folder / "results" / "eval" / "evaluation.json").read_text())
    assert [s["name"] for s in made["subjects"]] == ["base", "tuned"] and made["rows"] == 12 and made["name"] == "app"


def test_other_families(tmp_path: Path) -> None:
    """A small Qwen with random weights evaluates in its own dialect, and is refused in another."""
    request = {"do": "make", "family": "qwen3", "folder": str(tmp_path / "qwen")}
    worker.run(WORKERS / "family.py", request, tmp_path / "out", python=torch())
    tool = {"name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}}
    answer = {"role": "assistant", "tool_calls": [{"function": {"name": "now", "arguments": {}}}]}
    said = [[{"role": "user", "content": text}, answer] for text in ("time?", "what time is it", "now")]
    rows = tmp_path / "rows.jsonl"
    write_text(rows, "".join(json.dumps({"messages": m, "tools": [{"function": tool}]}) + "\n" for m in said))
    options: dict[str, Any] = {"max_tokens": 8, "threads": 1}
    made = evaluate([tmp_path / "qwen"], [rows], dialect="hermes", out=tmp_path / "hermes", **options)
    states = made.subjects[0]["rows"]
    assert (states["failed"], states["missing"], made.dialect) == (0, 0, "hermes")
    assert made.subjects[0]["metrics"]["tokens"]["rows"] == 3 and made.subjects[0]["metrics"]["tokens"]["n"] > 30
    with pytest.raises(EdgeError, match="its tokenizer knows none of") as caught:
        evaluate([tmp_path / "qwen"], [rows], out=tmp_path / "gemma", **options)
    assert "--dialect" in (caught.value.hint or "")


def test_an_adapter_that_was_never_trained_is_refused(tmp_path: Path) -> None:
    request = {"base": str(tiny.SHIPPED), "size": 0.0, "text": "x"}
    worker.run(WORKERS / "adapter.py", request, tmp_path / "adapter", python=torch())
    rows, tools = project_rows(tmp_path, 2)
    with pytest.raises(EdgeError, match="changes nothing"):
        evaluate([tmp_path / "adapter"], [rows], tools=tools, out=tmp_path / "out", threads=1)
    assert (tmp_path / "out" / "base.json").exists()  # what was answered before stays
