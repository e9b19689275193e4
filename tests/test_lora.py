"""The LoRA worker on the embedded model: what it makes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge import environments, project, worker
from edge.console import Console
from edge.dialects import functiongemma
from edge.errors import EdgeError, WorkerError
from edge.train import tiny

pytestmark = pytest.mark.slow
PROMPT = "<bos><start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n"
CALL = "<start_function_call>call:light{{room:<escape>{}<escape>}}<end_function_call><start_function_response>"
ROWS = [
    {"id": f"r{i}", "prompt": PROMPT.format(f"light in the {room}"), "completion": CALL.format(room)}
    for i, room in enumerate(["hall", "kitchen", "attic", "cellar"] * 4)
]


def tune(folder: Path, rows=ROWS, base: Path = tiny.SHIPPED, **options):
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    defaults = {key: default for key, (_, default, _) in project.KEYS["train"].items()}
    script = environments.script("lora")
    built = environments.ensure(environments.spec(script), Console(quiet=True))
    request = {
        "checkpoint": str(base),
        "rows": str(folder / "rows.jsonl"),
        "stop": list(functiongemma.STOP),
        "function_tokens": list(functiongemma.FUNCTION_TOKENS),
        "options": {**defaults, "threads": 1, "learning_rate": 2e-3, "epochs": 2, **options},
    }
    return worker.run(script, request, folder / "out", python=built.python)


def test_the_merged_checkpoint_is_base_and_adapter(tmp_path):
    told = tune(tmp_path)
    losses = [loss for _, loss in told["loss"]]
    assert told["rows"] == 16 and losses[-1] < losses[0] and told["trainable"] < told["parameters"] / 5
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


def test_a_loss_that_is_no_number_ends_it(tmp_path):
    with pytest.raises(WorkerError, match=r"loss is (nan|inf)|not finite") as caught:
        tune(tmp_path, learning_rate=1e30, epochs=20, warmup=0.0)
    assert "learning_rate" in caught.value.hint and not (tmp_path / "out").exists()


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
