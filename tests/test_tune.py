"""The tuning worker on the embedded model: what it makes, what it refuses, and how it is stopped and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge import environments, project, worker
from edge.console import Console
from edge.dialects import functiongemma
from edge.errors import EdgeError, MissingError, WorkerError
from edge.train import batches, metrics, tiny

pytestmark = pytest.mark.slow
PROMPT = "<bos><start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n"
CALL = "<start_function_call>call:light{{room:<escape>{}<escape>}}<end_function_call><start_function_response>"
ROWS = [
    {"id": f"r{i}", "prompt": PROMPT.format(f"light in the {room}"), "completion": CALL.format(room)}
    for i, room in enumerate(["hall", "kitchen", "attic", "cellar"] * 4)
]


def request_of(folder: Path, rows=ROWS, base: Path = tiny.SHIPPED, watched=(), **options) -> dict:
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "watched.jsonl").write_text("".join(json.dumps(r) + "\n" for r in watched))
    settings = {
        "threads": 1,
        "learning_rate": 2e-3,
        "epochs": 2,
        "precision": "float32",
        "attention": "eager",
        **options,
    }
    return {
        "checkpoint": str(base),
        "rows": str(folder / "rows.jsonl"),
        "watched": str(folder / "watched.jsonl") if watched else None,
        "stop": list(functiongemma.STOP),
        "function_tokens": list(functiongemma.FUNCTION_TOKENS),
        "name": "test",
        "options": project.check_training(settings),
    }


def tune(folder: Path, *given, said: list[str] | None = None, **options):
    script = environments.script("tune")
    built = environments.ensure(environments.spec(script), Console(quiet=True))
    request = request_of(folder, *given, **options)

    def listen(done, total, what):
        if said is not None:
            said.append(what)

    return worker.run(script, request, folder / "out", python=built.python, progress=listen, keep_partial=True)


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in metrics.read(folder / "training" / "metrics.jsonl") if "loss" in line]


def test_the_merged_checkpoint_is_base_and_adapter(tmp_path):
    said: list[str] = []
    told = tune(tmp_path, watched=ROWS[:3], said=said, attention="auto", epochs=6)
    loss = [value for _, value in told["loss"]]
    assert told["rows"] == 16 and loss[-1] < loss[0] and told["trainable"] < told["parameters"] / 5
    assert told["attention"]["used"] == "sdpa" and told["attention"]["difference"] < 1e-3  # of Gemma 3 on a CPU
    assert told["device"]["kind"] == "cpu" or not told["device"]["verified"]
    estimate = told["preflight"]["bytes"] / told["peak_rss_bytes"]
    assert 0.75 < estimate < 1.25, estimate
    lines = metrics.read(tmp_path / "out" / "training" / "metrics.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 13))
    assert [line["step"] for line in lines if "eval_loss" in line] == [2, 4, 6, 8, 10, 12]
    assert all(line["grad_norm"] > 0 and line["tokens_per_s"] > 0 for line in lines if "loss" in line)
    assert any(s.startswith("say: time: ") and "left" in s for s in said)
    assert any("float32 (asked for)" in s for s in said) and any("none is cut" in s for s in said)
    assert (tmp_path / "out" / "training" / "plot.svg").read_text().startswith("<svg")
    made = {f.name for f in (tmp_path / "out").iterdir()}
    assert {"model.safetensors", "tokenizer.model", "tokenizer.json", "chat_template.jinja", "adapter"} <= made
    assert "CARD.md" not in made and "checkpoint.json" not in made  # they tell of the base
    script = Path(__file__).parent / "workers" / "merged.py"
    built = environments.ensure(environments.spec(script), Console(quiet=True))
    request = {"base": str(tiny.SHIPPED), "merged": str(tmp_path / "out"), "prompts": [r["prompt"] for r in ROWS[:4]]}
    found = worker.run(script, request, tmp_path / "compared", python=built.python)
    assert found["dtype"] == "torch.float32" and found["worst"] < 1e-3 < found["moved"]


def test_rows_that_are_too_long_are_refused_by_name(tmp_path):
    with pytest.raises(
        EdgeError, match=r"16 of 16 rows are longer than max_tokens = 10; the longest, r\d+, has"
    ) as caught:
        tune(tmp_path, max_tokens=10)
    assert "cut" in caught.value.hint


def test_a_completion_must_end_in_a_stop_token(tmp_path):
    with pytest.raises(EdgeError, match="r0: its completion doesn't end in a stop token"):
        tune(tmp_path, [{**ROWS[0], "completion": "<start_function_call>call:light{}<end_function_call>"}])


def test_an_empty_completion_is_refused(tmp_path):
    with pytest.raises(EdgeError, match="r3: its completion is empty"):
        tune(tmp_path, [*ROWS[:3], {**ROWS[3], "completion": "<end_of_turn>"}])


def test_a_loss_that_is_no_number_ends_it_before_the_weights_are_spoilt(tmp_path):
    with pytest.raises(
        WorkerError, match=r"(loss is (nan|inf)|gradient is not finite).* its rows, .*r\d+ \("
    ) as caught:
        tune(tmp_path, learning_rate=1e30, epochs=20, warmup=0.0, spike=0.0)
    assert "learning_rate" in caught.value.hint and not (tmp_path / "out").exists()
    kept = tmp_path / "out.worker" / "partial" / "last-good"
    assert (kept / "adapter_model.safetensors").exists()


def test_a_row_that_makes_the_loss_jump_is_named(tmp_path):
    """A row of noise, dealt out last, when the others are learned."""
    rows = [*ROWS, *ROWS]
    noise = {"id": "noise", "prompt": PROMPT.format("x"), "completion": "ㄱ§¶ŊßðΩ" * 4 + "<end_of_turn>"}
    for seed in range(100):
        order = batches.order([20] * len(rows) + [60], 1, 1, seed, 0)
        if order.index(len(rows)) > 25:
            break
    with pytest.raises(WorkerError, match=r"the loss jumps to .* its rows, by loss a token: noise \(\d"):
        tune(tmp_path, [*rows, noise], batch_size=1, epochs=1, seed=seed, warmup=0.0)


def test_rows_of_a_kind_that_comes_late_are_no_spike(tmp_path):
    """Unlearned is not broken: in the first epoch a loss far above the usual one is let through unless guessing were better."""
    rows = [*ROWS, *ROWS]
    late = {**ROWS[0], "id": "late", "completion": "Sorry, none of my functions can open the attic.<end_of_turn>"}
    for seed in range(100):
        if batches.order([20] * len(rows) + [30], 1, 1, seed, 0).index(len(rows)) > 25:
            break
    tune(tmp_path, [*rows, late], batch_size=1, epochs=1, seed=seed, warmup=0.0)
    found = losses(tmp_path / "out")
    assert max(found[11:]) > 3 * sorted(found[:25])[12] + 2  # what would have been refused later


def test_all_weights(tmp_path):
    told = tune(tmp_path, method="full", epochs=1, learning_rate=1e-4)
    assert told["trainable"] == told["parameters"] and not (tmp_path / "out" / "adapter").exists()
    assert (tmp_path / "out" / "model.safetensors").stat().st_size > 4 * told["parameters"]
    assert told["loss"][-1][1] < told["loss"][0][1]


def test_dora_and_rslora_and_named_targets(tmp_path):
    told = tune(tmp_path, epochs=1, dora=True, rslora=True, rank=4, dropout=0.1, targets="q_proj, v_proj")
    config = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    assert config["use_dora"] and config["use_rslora"] and sorted(config["target_modules"]) == ["q_proj", "v_proj"]
    assert told["trainable"] < 100_000
    with pytest.raises(EdgeError, match="targets = 'q_prj'") as caught:
        tune(tmp_path, targets="q_prj")
    assert "q_proj" in caught.value.hint


def test_killed_it_goes_on_to_the_same_weights(tmp_path):
    """kill -9 of the host after a checkpoint: what follows is what an uninterrupted run does, dropout included."""
    options = {"epochs": 10, "batch_size": 4, "dropout": 0.1, "watched": ROWS[:2]}
    tune(tmp_path / "whole", **options)
    request = request_of(tmp_path / "cut", **options)
    (tmp_path / "cut" / "request.json").write_text(json.dumps(request))
    built = environments.ensure(environments.spec(environments.script("tune")), Console(quiet=True))
    code = (
        "import json, sys; from edge import environments, worker; out = sys.argv[1];"
        "worker.run(environments.script('tune'), json.load(open(out + '/request.json')), out + '/out',"
        " python=sys.argv[2], keep_partial=True)"
    )
    host = subprocess.Popen([sys.executable, "-P", "-c", code, str(tmp_path / "cut"), str(built.python)])
    partial = tmp_path / "cut" / "out.worker" / "partial"
    _wait(lambda: (partial / "trainer" / "checkpoint-10" / "trainer_state.json").exists(), host)
    host.send_signal(signal.SIGKILL)
    host.wait()
    time.sleep(1)
    half = partial / "trainer" / "checkpoint-99"  # cut off while it was written: has no state
    half.mkdir()
    (half / "optimizer.pt").write_bytes(b"half")
    tune(tmp_path / "cut", **options)
    assert "continuing from checkpoint-" in (tmp_path / "cut" / "out.worker" / "worker.log").read_text()
    assert len(losses(tmp_path / "whole" / "out")) == 40
    assert losses(tmp_path / "cut" / "out") == losses(tmp_path / "whole" / "out")
    whole, cut = ((tmp_path / n / "out" / "model.safetensors").read_bytes() for n in ("whole", "cut"))
    assert whole == cut


def test_two_processes_train_as_one_does(tmp_path):
    """gloo on the CPU, the same rows an update; 18 rows leave a last update that can't be dealt out evenly."""
    rows = [*ROWS, {**ROWS[0], "id": "r16"}, {**ROWS[1], "id": "r17"}]
    watched = ROWS[:3]
    tune(tmp_path / "one", rows, watched=watched, batch_size=2, accumulate=2)
    told = tune(tmp_path / "two", rows, watched=watched, batch_size=2, processes=2, threads=2)
    assert told["processes"] == 2 and told["ranks_peak_rss_bytes"].keys() == {"0", "1"}
    one, two = (metrics.read(tmp_path / n / "out" / "training" / "metrics.jsonl") for n in ("one", "two"))
    assert len(one) == len(two) == 2 * 5 + 2
    for a, b in zip(one, two):
        for key in {"loss", "eval_loss", "grad_norm"} & a.keys():
            assert a[key] == pytest.approx(b[key], rel=2e-3), (a, b)


def test_an_error_in_one_of_two_processes_ends_both(tmp_path):
    with pytest.raises(EdgeError, match="longer than max_tokens = 10"):
        tune(tmp_path, processes=2, max_tokens=10)


def test_a_full_disk_and_then_room(tmp_path):
    """On a file system of its own: saving fails, is named, and with room the run goes on from its last checkpoint."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(small)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        with pytest.raises(MissingError, match="the disk is full") as caught:
            tune(small, epochs=10, batch_size=4)
        assert "it goes on from step" in caught.value.hint
        subprocess.run(["mount", "-o", "remount,size=100m", str(small)], check=True)
        told = tune(small, epochs=10, batch_size=4)
        assert (
            "continuing from checkpoint-" in (small / "out.worker" / "worker.log").read_text() and told["steps"] == 40
        )
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


@pytest.mark.parametrize("files", [("tokenizer.json",), ("tokenizer.json", "tokenizer_config.json")])
def test_a_tokenizer_without_the_function_tokens(tmp_path, files):
    """Left in tokenizer_config.json alone, the token gets an id past the embedding."""
    base = tmp_path / "plain"
    base.mkdir()
    for file in tiny.SHIPPED.iterdir():
        text = file.read_bytes()
        if file.name in files:
            text = text.replace(b"<start_function_call>", b"<some_other_mark>")
        (base / file.name).write_bytes(text)
    with pytest.raises(EdgeError, match="doesn't hold <start_function_call>"):
        tune(tmp_path, base=base)


def _wait(condition, host, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert host.poll() is None and time.monotonic() < end
        time.sleep(0.02)
