"""llama.cpp's server as a runtime: (slow) the same answers as llama_cpp, told while they are written; a server that dies.

The server is met twice: at this machine's speed through a port, as the one that the package xllamacpp brings in a process of its
own, for the many rows; and as the program that `edge runners build` makes for a Raspberry Pi, under qemu, for a start as a child.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from edge import environments, records
from edge.bench import measure
from edge.bench.runtimes import llama_server
from edge.console import Console
from edge.devices import runners
from edge.devices.local import AGENT, Local
from edge.dialects import functiongemma
from edge.errors import EdgeError, WorkerCrash
from edge.export import gate, gguf, job
from edge.train import tiny
from edge.worker import Channel, python_channel

QUIET = Console(quiet=True)
ROWS, MAX_TOKENS, CONTEXT = 32, 64, 1024
OPTIONS: dict[str, Any] = {"threads": 1, "context": CONTEXT, "stop": list(functiongemma.STOP), "tokenizer": None}


def test_arguments_say_all_that_moves_the_figures() -> None:
    words = llama_server.arguments("m.gguf", {**OPTIONS, "threads": 3}, 4711)
    given = dict(zip(words[::2], words[1::2], strict=False))
    assert (given["--model"], given["--threads"], given["--threads-batch"], given["--ctx-size"]) == (
        "m.gguf",
        "3",
        "3",
        "1024",
    )
    assert words[-4:] == ["--host", "127.0.0.1", "--port", "4711"]
    assert llama_server.arguments("m.gguf", OPTIONS, "/x/s.sock")[-2:] == ["--host", "/x/s.sock"]
    assert {"--special", "--no-cache-prompt", "--offline"} <= set(words)


def test_a_url_that_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_server, "_START_S", 0.3)
    with pytest.raises(EdgeError, match=r"is not ready after 0\.3 s"):
        llama_server.load("m.gguf", {**OPTIONS, "url": f"http://127.0.0.1:{free_port()}"})


def test_a_program_that_ends_at_once_is_said(tmp_path: Path) -> None:
    bad = tmp_path / "llama-server"
    bad.write_text("#!/bin/sh\necho the model is broken\nexit 3\n")
    bad.chmod(0o755)
    with pytest.raises(WorkerCrash, match=r"(?s)ended with status 3.*the model is broken"):
        llama_server.load("m.gguf", {**OPTIONS, "server": str(bad)})


def test_a_release_finds_the_libraries_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/theirs")
    program = tmp_path / "llama-server"
    program.write_text('#!/bin/sh\necho "libraries: $LD_LIBRARY_PATH"\nexit 3\n')
    program.chmod(0o755)
    with pytest.raises(WorkerCrash, match=f"libraries: {tmp_path}:/theirs"):
        llama_server.load("m.gguf", {**OPTIONS, "server": str(program)})


# --- on the real thing ------------------------------------------------------------------------------------------------

slow = pytest.mark.slow


SERVE = """
import sys, time, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.n_batch, p.n_ubatch = sys.argv[1], int(sys.argv[2]), 1, 512, 512
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
p.special, p.warmup, p.verbosity = True, False, -1
p.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = xllamacpp.Server(p)
print(server.listening_address, flush=True)
sys.stdin.read()
"""
STOPPED = {"id": "stopped", "prompt": "<bos><start_function_call>call:"}  # with a stop token at once
SHORT = {"id": "short", "prompt": "<bos><start_of_turn>model\n"}  # answered with a function token


@contextlib.contextmanager
def behind_a_port(model: Path, context: int = CONTEXT) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    python = environments.ensure(environments.spec(environments.script("xllamacpp")), QUIET).python
    command = [str(python), "-I", "-c", SERVE, str(model), str(context)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip(), process
        process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> str:
    """llama-server as a program that this machine can start."""
    program = runners.build("armv8.2", QUIET) / "llama-server"
    if platform.machine() == "aarch64":
        return str(program)
    sys.path.insert(0, str(Path(__file__).parent))
    from standins import build

    script = tmp_path_factory.mktemp("server") / "llama-server"
    script.write_text(f'#!/bin/sh\nexec {build.ensure(QUIET) / "qemu-aarch64"} -cpu cortex-a76 {program} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = job.read_checkpoint(tiny.SHIPPED, "functiongemma")
    out = tmp_path_factory.mktemp("gguf")
    return Path(
        gguf.export(source, ["q8_0"], out, "m", QUIET, lambda s: environments.ensure(s, QUIET)).artifacts[0].path
    )


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [{"id": r["id"], "prompt": r["prompt"]} for r in gate.own_rows("functiongemma", ROWS)]


@pytest.fixture(scope="module")
def loaded(model: Path) -> Iterator[Any]:
    with behind_a_port(model) as (url, _):
        yield llama_server.load("/there/m.gguf", {**OPTIONS, "url": url})


def by_llama_cpp(folder: Path, model: Path, rows: list[dict[str, Any]], **changed: Any) -> dict[str, records.Sample]:
    given = {"context": CONTEXT, "max_tokens": MAX_TOKENS, **changed}
    settings = measure.Settings("llama_cpp", 1, given["context"], given["max_tokens"], functiongemma.STOP)
    subject = measure.Subject("m", model, "", "artifact", "gguf")
    local = Local()
    session = measure.Session(subject, settings, local, local.environment("llama_cpp", QUIET), folder / "log")
    partial = measure.Partial(folder / "samples", "")
    session.run(rows, partial, lambda *_: None)
    return partial.samples


@slow
def test_the_same_answers_as_in_process(loaded: Any, model: Path, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    wanted = by_llama_cpp(tmp_path, model, rows)
    got = {s["row"]: records.Sample(**s) for s in loaded.generate(rows, MAX_TOKENS)}
    assert list(got) == [r["id"] for r in rows]
    for name, it in got.items():
        expected = wanted[name]
        assert it.text == expected.text, name
        assert (it.prompt_tokens, it.completion_tokens, it.stop) == (
            expected.prompt_tokens, expected.completion_tokens, expected.stop,
        ), name  # fmt: skip
        assert it.prefill_s and it.first_token_s and it.call_s and it.decode_s is not None
        assert 0 < it.prefill_s <= it.first_token_s <= it.call_s and it.decode_s < it.call_s
    assert {it.stop for it in got.values()} >= {"<start_function_response>"}
    assert sum("<start_function_call>" in str(it.text) for it in got.values()) > ROWS / 2  # function tokens are text


@slow
def test_limits_are_as_in_process(model: Path, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """Prompts that leave room for an answer, for a part of one, for none, and one that is far too long."""
    context, room = 768, (12, 4, 3, 2, 1, 0, -200)
    with behind_a_port(model, context) as (url, _):
        it = llama_server.load("/there/m.gguf", {**OPTIONS, "context": context, "url": url})
        size = len(it.ids(rows[0]["prompt"]))
        some = [{"id": str(n), "prompt": rows[0]["prompt"] + "1" * (context - size - n)} for n in room]
        got = {s["row"]: records.Sample(**s) for s in it.generate(some, 8)}
    wanted = by_llama_cpp(tmp_path, model, some, context=context, max_tokens=8)
    assert {k: s.prompt_tokens for k, s in got.items()} == {str(n): context - n for n in room}
    for k, s in got.items():
        seen, due = ((x.text, x.prompt_tokens, x.completion_tokens, x.stop, x.error) for x in (s, wanted[k]))
        assert seen == due, k
    assert [k for k, s in got.items() if s.error] == ["1", "0", "-200"]
    assert got["-200"].error == f"prompt of {context + 200} tokens, context {context}"


@slow
def test_a_prompt_without_a_start_token_gets_none(loaded: Any, rows: list[dict[str, Any]]) -> None:
    prompt = rows[0]["prompt"]
    bare = prompt.removeprefix("<bos>")
    whole, without = (loaded.answer({"id": "1", "prompt": p}, 2, lambda *_: True) for p in (prompt, bare))
    assert (
        whole["prompt_tokens"] == without["prompt_tokens"] + 1 == len(loaded.ids(prompt)) == len(loaded.ids(bare)) + 1
    )


@slow
def test_an_answer_is_told_while_it_is_written(loaded: Any, rows: list[dict[str, Any]]) -> None:
    heard: list[tuple[str, list[int]]] = []

    def listen(text: str, ids: Any) -> bool:
        heard.append((text, list(ids)))
        return len(heard) < 5

    cut = loaded.answer(rows[0], MAX_TOKENS, listen)
    assert len(heard) == 5 and [len(ids) for _, ids in heard] == [1, 2, 3, 4, 5] and cut["text"] == heard[-1][0]
    whole = loaded.answer(rows[0], MAX_TOKENS, lambda *_: True)  # the server is free again, and nothing is left of it
    assert whole["text"].startswith(cut["text"]) and len(whole["text"]) > len(cut["text"])


@slow
def test_rates_are_of_the_lengths_asked_for(loaded: Any) -> None:
    told = loaded.rates(128, 16)
    assert (
        (told["prefill_tokens"], told["decode_tokens"]) == (128, 16) and told["prefill_s"] > 0 and told["decode_s"] > 0
    )
    assert loaded.rates(16, 32)["decode_s"] > told["decode_s"] / 4
    for lengths in ((CONTEXT + 1, 4), (4, CONTEXT + 1)):
        with pytest.raises(EdgeError) as told_too:
            loaded.rates(*lengths)
        assert f"its context is {CONTEXT}" in str(told_too.value.hint)


@slow
def test_a_device_that_goes_away(model: Path, rows: list[Any]) -> None:
    with behind_a_port(model) as (url, process):
        it = llama_server.load("/there/m.gguf", {**OPTIONS, "url": url})
        assert it.load_s is None and it.peak_rss_bytes() is None
        assert it.answer(rows[0], 4, lambda *_: True)["text"]

        def listen(text: str, ids: Any) -> bool:
            process.kill()
            process.wait()
            return True

        for heard in (listen, lambda *_: True):  # in an answer, and before one
            with pytest.raises(WorkerCrash, match=r"answers no more|broke off"):
                it.answer(rows[0], 64, heard)


@slow
def test_the_agent_starts_it_and_tells_its_memory_and_time(
    server: str, model: Path, loaded: Any, tmp_path: Path
) -> None:
    options = {**OPTIONS, "server": server}
    with (tmp_path / "log").open("wb") as log, python_channel(AGENT, python=sys.executable, log=log, env={}) as channel:
        facts = told(channel, {"do": "load", "runtime": "llama_server", "path": str(model), "options": options})
        assert facts["runtime_version"] == "llama-server llama-cpp-python-0.3.36"
        assert facts["file_bytes"] == model.stat().st_size and 0 < facts["load_s"] < 120
        answer = told(channel, {"do": "answer", "row": SHORT, "max_tokens": 8})["sample"]
        assert answer["text"] == loaded.answer(SHORT, 8, lambda *_: True)["text"]
        stopped = told(channel, {"do": "answer", "row": STOPPED, "max_tokens": 8})["sample"]
        assert (stopped["text"], stopped["stop"]) == ("", loaded.answer(STOPPED, 8, lambda *_: True)["stop"])
        assert stopped["stop"] in functiongemma.STOP
        rate = told(channel, {"do": "rates", "prefill": 16, "decode": 4})
        mine = psutil.Process(channel.pid)
        children = mine.children(recursive=True)
        assert len(children) == 1 and rate["peak_rss_bytes"] >= children[0].memory_info().rss > model.stat().st_size
        before, own = sum(children[0].cpu_times()[:2]), sum(mine.cpu_times()[:2])
        channel.send({"id": 1, "do": "run", "rows": [SHORT], "max_tokens": 64})
        spent = channel.receive(300)["cpu_s"]  # without the warm-up's
        grown, own = sum(children[0].cpu_times()[:2]) - before, sum(mine.cpu_times()[:2]) - own
        assert 0.2 * grown < spent <= grown + 0.05 and spent > 3 * own, (spent, grown, own)
        mine.send_signal(signal.SIGKILL)  # the agent alone: the server must not outlive it
        assert not psutil.wait_procs(children, timeout=10)[1]


@slow
def test_a_server_that_dies_is_an_error_with_its_last_words(server: str, model: Path) -> None:
    it = llama_server.load(str(model), {**OPTIONS, "server": server})
    assert it.answer(SHORT, 4, lambda *_: True)["text"] is not None
    os.kill(it._child._process.pid, signal.SIGKILL)
    with pytest.raises(WorkerCrash, match=r"(?s)llama-server was ended by signal 9 \(SIGKILL\); it said last:\n.*\w"):
        it.answer(SHORT, 4, lambda *_: True)
    folder = it._child._folder
    assert folder.exists()
    it.close()
    assert not folder.exists()


@slow
def test_no_model_is_the_servers_word(server: str, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(WorkerCrash, match=r"(?s)it said last:.*m\.gguf"):
        llama_server.load(str(tmp_path / "m.gguf"), {**OPTIONS, "server": server})


def told(channel: Channel, request: dict[str, Any]) -> dict[str, Any]:
    channel.send({"id": 1, **request})
    while "piece" in (message := channel.receive(120)):
        pass
    assert "ok" in message, message
    return dict(message["ok"])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as it:
        return int(it.getsockname()[1])
