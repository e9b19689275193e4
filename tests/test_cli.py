"""The commands that need no environment: what they print, and what they exit with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest


def edge(*arguments, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "edge", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, env={**os.environ, **env})


def lines(result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    "command",
    [[], ["init"], ["run"], ["demo"], ["tools"], ["calls"], ["calls", "render"], ["calls", "parse"], ["calls", "score"],
     ["export"], ["export", "gguf"], ["env"], ["env", "list"], ["env", "build"], ["env", "clean"], ["doctor"]],
)  # fmt: skip
def test_every_command_explains_itself(command):
    result = edge(*command, "--help")
    assert result.returncode == 0 and b"Usage:" in result.stdout and not result.stderr


def test_the_first_example_is_of_the_tools_that_init_writes(tmp_path):
    said = re.search(r'edge call "(.+?)"', edge("--help").stdout.decode())
    edge("init", tmp_path)
    words = (tmp_path / "train.jsonl").read_text()
    assert said and all(word.rstrip(",s") in words for word in said[1].split())


def test_calls_render():
    tool = {"function": {"name": "f", "description": "Does.", "parameters": {"type": "OBJECT", "properties": {}}}}
    row = {"messages": [{"role": "user", "content": " hi "}], "tools": [tool], "add_generation_prompt": True}
    result = edge("calls", "render", stdin=json.dumps(row).encode())
    assert result.returncode == 0
    assert lines(result)[0]["text"] == (
        "<bos><start_of_turn>developer\n<start_function_declaration>declaration:f{description:<escape>Does.<escape>,parameters:"
        "{type:<escape>OBJECT<escape>}}<end_function_declaration><end_of_turn>\n"
        "<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n"
    )


def test_calls_parse_goes_on_after_a_bad_line():
    good = b'{"text": "<start_function_call>call:f{x:1,y:<escape>a,b<escape>}<end_function_call>"}\n'
    result = edge("calls", "parse", stdin=good + b"not json\n\xff\n" + good)
    told = lines(result)
    assert result.returncode == 1
    assert told[0] == told[3] == {"calls": [{"name": "f", "arguments": {"x": 1, "y": "a,b"}}], "text": "", "errors": []}
    assert [t["error"]["line"] for t in told[1:3]] == [2, 3]


def test_calls_score():
    row = {"prediction": [{"name": "f", "arguments": {"a": 1}}], "ground_truth": [{"f": {"a": 1}}], "rule": "exact"}
    wrong = {**row, "prediction": "nonsense"}
    result = edge("calls", "score", stdin=f"{json.dumps(row)}\n{json.dumps(wrong)}\n".encode())
    assert result.returncode == 0 and [r["valid"] for r in lines(result)] == [True, False]


def test_calls_score_bfcl_needs_functions():
    row = {"prediction": [], "ground_truth": [], "rule": "bfcl", "category": "simple"}
    result = edge("calls", "score", stdin=json.dumps(row).encode())
    assert result.returncode == 1 and "functions" in lines(result)[0]["error"]["hint"]


def test_calls_name_the_file_that_they_read(tmp_path):
    (tmp_path / "rows.jsonl").write_text("not json\n")
    for command in ("render", "parse", "score"):
        (told,) = lines(edge("calls", command, tmp_path / "rows.jsonl"))
        assert told["error"]["message"].startswith(f"{tmp_path / 'rows.jsonl'}:1: ")
    assert lines(edge("calls", "parse", stdin=b"not json\n"))[0]["error"]["message"].startswith("<stdin>:1: ")


def test_unknown_dialect():
    result = edge("calls", "parse", "--dialect", "gemma")
    assert result.returncode == 2 and b"functiongemma, hermes" in result.stderr


def test_tools_shows_what_the_model_is_told(tmp_path):
    (tmp_path / "tools.py").write_text(
        'def light(on: bool):\n    """Switch it.\n\n    Args:\n        on: On or off.\n    """\n'
    )
    result = edge("tools", tmp_path / "tools.py")
    assert result.returncode == 0 and b"declaration:light{" in result.stdout
    assert b"importing" in result.stderr and b"it runs" in result.stderr


def test_tools_that_are_not_there_are_not_imported(tmp_path):
    result = edge("tools", tmp_path / "nope.py")
    assert result.returncode == 2 and b"no such file" in result.stderr and b"importing" not in result.stderr


def test_what_can_not_be_written_is_said_with_a_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    result = edge("init", tmp_path / "file" / "app")
    assert result.returncode == 2 and b"Traceback" not in result.stderr and len(result.stderr.splitlines()) == 2


def test_an_early_interrupt_leaves_no_traceback(tmp_path):
    """While the commands are still being imported: here click is interrupted."""
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    result = edge("doctor", PYTHONPATH=str(tmp_path))
    assert result.returncode == 130 and result.stderr == b"edge: interrupted\n"


def test_tools_that_can_not_be_expressed(tmp_path):
    tool = {"name": "f", "description": "a <escape> b", "parameters": {"type": "object", "properties": {}}}
    (tmp_path / "tools.json").write_text(json.dumps([tool]))
    result = edge("tools", tmp_path / "tools.json")
    assert result.returncode == 2 and b"error: f" in result.stderr


def test_same_tool_twice(tmp_path):
    (tmp_path / "tools.json").write_text(json.dumps([{"name": "f", "description": "d"}] * 2))
    result = edge("tools", tmp_path / "tools.json")
    assert result.returncode == 2 and b"2 tools are called 'f'" in result.stderr


def test_init_writes_a_project_and_says_what(tmp_path):
    result = edge("init", tmp_path / "app")
    assert result.returncode == 0 and result.stdout.count(b"\n") == 4
    again = edge("init", tmp_path / "app")
    assert again.returncode == 2 and b"already there" in again.stderr


def test_run_without_a_project(tmp_path):
    result = edge("run", tmp_path)
    assert result.returncode == 2 and b"no such file" in result.stderr and b"edge init" in result.stderr


def test_export_of_what_is_no_checkpoint(tmp_path):
    result = edge("export", "gguf", tmp_path, EDGE_CACHE=str(tmp_path / "cache"))
    assert result.returncode == 2 and b"config.json" in result.stderr
    assert not (tmp_path / "cache").exists()  # refused before an environment was built


def test_export_of_an_unknown_quantisation(tmp_path):
    result = edge("export", "gguf", tmp_path, "--quant", "q4_k_n")
    assert result.returncode == 2 and b"q4_k_m" in result.stderr


def test_a_name_that_is_no_file_name(tmp_path):
    for name in ("../x", "a/b", ""):
        result = edge("export", "gguf", tmp_path, "--name", name or ".")
        assert result.returncode == 2 and b"can't be a file's name" in result.stderr
    assert not (tmp_path / "build").exists()
    (tmp_path / "my model").mkdir()
    result = edge("export", "gguf", tmp_path / "my model")  # the name that it would have by itself
    assert result.returncode == 2 and b"give --name" in result.stderr


def test_a_reader_that_stops_is_no_error():
    rows = b'{"text": "x"}\n' * 20000
    command = f"'{sys.executable}' -m edge calls parse | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], input=rows, capture_output=True, check=False)
    assert b"Broken pipe" not in done.stderr and b"Traceback" not in done.stderr


def test_env_list_and_doctor_as_json():
    names = {e["name"] for e in json.loads(edge("env", "list", "--json").stdout)}
    assert {"torch", "gguf", "llama", "xllamacpp", "fetch"} <= names
    checks = {c["name"] for c in json.loads(edge("doctor", "--json").stdout)}
    assert "C++ compiler" in checks
