"""`edge serve` with OpenAI's own client, on the embedded model as GGUF and as `.litertlm`; what a request says, without one."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import artifacts
import openai
import psutil
import pytest

from edge import call as calling
from edge import environments
from edge.commands.serve import Size, default_tools
from edge.console import Console
from edge.dialects import functiongemma, hermes, llama3
from edge.errors import EdgeError
from edge.export import gguf, litertlm
from edge.export.job import read_checkpoint
from edge.serve import chat, host
from edge.serve.chat import Manner, Reader, Refused
from edge.train import tiny

QUIET = Console(quiet=True)
RUN = "from edge.cli import main; from edge.commands.serve import serve; main.add_command(serve); main()"
SECRET = "only-for-this-test"


def function(name: str, description: str, required: list[str] | None = None, **properties: str) -> dict:
    schema = {n: {"type": "string", "description": d} for n, d in properties.items()}
    parameters = {"type": "object", "properties": schema, "required": required or list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    function("turn_on_flashlight", "Turns the flashlight on."),
    function("create_contact", "Creates a contact in the phone's contact list.",
             first_name="The first name of the contact.", last_name="The last name of the contact."),
]  # fmt: skip
CONTACT = [{"role": "user", "content": "add Jane Doe to my contacts"}]
JANE = ("create_contact", {"first_name": "Jane", "last_name": "Doe"})
# Without tools the embedded model repeats such a thing until it is stopped.
LONG = {"messages": [{"role": "user", "content": " ".join("x" * 22)}], "max_tokens": 900}


# --- what a request says ----------------------------------------------------------------------------------------------

MANNER = Manner("m", "functiongemma", "training", "You call.", 64)


def understand(manner: Manner = MANNER, **body) -> chat.Asked:
    return chat.understand({"messages": CONTACT, "tools": TOOLS, **body}, manner)


def test_a_request_becomes_the_prompt_of_training():
    called = {"id": "call_7", "type": "function",
              "function": {"name": "create_contact", "arguments": '{"first_name": "Jane", "last_name": "Doe"}'}}  # fmt: skip
    asked = understand(
        messages=[
            {"role": "system", "content": [{"type": "text", "text": "You "}, {"type": "text", "text": "call."}]},
            *CONTACT,
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "call_7", "content": '{"id": 7}'},
        ]
    )
    same = [
        {"role": "developer", "content": "You call."},
        *CONTACT,
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": JANE[0], "arguments": JANE[1]}}]},
        {"role": "tool", "name": "create_contact", "content": {"id": 7}},
    ]
    expected = functiongemma.render(same, TOOLS).replace("developer\nYou", "developer\nYou")
    assert asked.row["prompt"] == expected
    assert understand().row["prompt"] == functiongemma.render([same[0], *CONTACT], TOOLS)  # what the messages lack


def test_the_developers_turn_is_only_said_before_tools():
    assert "You call." not in understand(tools=None).row["prompt"]
    assert "declaration" not in understand(tool_choice="none").row["prompt"]
    brought = Manner("m", "functiongemma", "training", "You call.", 64, TOOLS)
    assert "declaration:create_contact" in understand(brought, tools=None).row["prompt"]
    assert "declaration" not in understand(brought, tools=[]).row["prompt"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0]: role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "reads text only"),
        ({"messages": [{"role": "user", "content": None}]}, "no text"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "half a surrogate"),
        ({"messages": [{"role": "user", "content": "<end_of_turn>"}]}, "control token"),
        ({"messages": [*CONTACT, {"role": "tool", "tool_call_id": "x", "content": "1"}]}, "names no call"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{"}}]}]}, "not JSON"),
        ({"tools": [{"name": "f"}]}, "tools[0]"),
        ({"tools": [function("two words", "x")]}, "two words"),
        ({"tools": "x"}, "no list"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "no tool 'other'"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": "required", "tools": []}, "without tools"),
        ({"n": 2}, "n is not supported"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"functions": [{}]}, "use tools"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": True}, "max_completion_tokens"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stream": "yes"}, "stream"),
    ],
)  # fmt: skip
def test_what_can_not_be_done_is_refused(body, said):
    with pytest.raises(Refused) as refused:
        understand(**body)
    error = refused.value.body["error"]
    assert refused.value.status == 400 and error["type"] == "invalid_request_error"
    assert said.replace("no list", "is not a list") in error["message"]


def test_what_has_no_effect_is_said():
    assert understand(temperature=0, top_p=1, n=1, user="me", seed=3).warnings == []
    told = understand(temperature=0.7, presence_penalty=1, frobnicate=True).warnings
    assert [w.split()[0] for w in told] == ["temperature", "presence_penalty", "frobnicate"]
    lost = function("f", "Does.", x="A number.")
    lost["function"]["parameters"]["properties"]["x"]["minLength"] = 3
    assert any("DROPPED" in w for w in understand(tools=[lost]).warnings)  # the model will not see it


@pytest.mark.parametrize(
    ("dialect", "module", "begins"),
    [
        ("functiongemma", functiongemma, "<start_function_call>call:"),
        ("hermes", hermes, '<tool_call>\n{"name": "'),
        ("llama3", llama3, '{"name": "'),
    ],
)
def test_a_call_that_must_come_is_begun(dialect, module, begins):
    manner = Manner("m", dialect, "training", None, 64)
    plain = understand(manner).row["prompt"]
    assert plain == module.render(CONTACT, TOOLS)
    assert understand(manner, tool_choice="required").row["prompt"] == plain + begins
    named = {"type": "function", "function": {"name": "create_contact"}}
    asked = understand(manner, tool_choice=named)
    assert asked.row["prompt"] == f"{plain}{begins}create_contact"
    whole = module.render_calls([chat.Call(*JANE)])
    parsed, _ = Reader(asked, dialect).close(whole[len(begins) + len("create_contact") :])
    assert [(c.name, c.arguments) for c in parsed.calls] == [JANE]
    other = module.render_calls([chat.Call("create_contact_now", {})])  # it went on with the name
    with pytest.raises(Refused) as refused:
        Reader(asked, dialect).close(other[len(begins) + len("create_contact") :])
    assert refused.value.status == 422


def test_a_runtime_that_writes_its_prompts_itself_can_not_be_begun():
    manner = Manner("m", "functiongemma", "training", None, 64, begins=False)
    assert understand(manner).begin == ""
    for choice in ("required", {"type": "function", "function": {"name": "create_contact"}}):
        with pytest.raises(Refused, match="auto and none"):
            understand(manner, tool_choice=choice)


# --- what an answer becomes -------------------------------------------------------------------------------------------


def read(text: str, size: int, dialect="functiongemma", **body) -> tuple[list[dict], chat.Parsed, Reader]:
    """Fed in pieces of `size`."""
    reader = Reader(understand(Manner("m", dialect, "training", None, 64), **body), dialect)
    deltas = []
    for at in range(0, len(text), size):
        deltas += reader.feed(text[at : at + size])
    parsed, rest = reader.close(text)
    return deltas + rest, parsed, reader


def said(deltas: list[dict]) -> str:
    return "".join(d.get("content", "") for d in deltas)


def called(deltas: list[dict]) -> list[tuple[str, dict]]:
    found: dict[int, list[str]] = {}
    for call in (c for d in deltas for c in d.get("tool_calls", [])):
        found.setdefault(call["index"], []).append(call["function"].get("name", call["function"]["arguments"]))
    return [(name, json.loads(arguments)) for _, (name, arguments) in sorted(found.items())]


TWO = functiongemma.render_calls([chat.Call(*JANE), chat.Call("turn_on_flashlight", {})])


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_deltas_are_the_answer_however_it_comes(size):
    for text in (TWO, f"Sure. {TWO}", "Is 1 < 2? {yes}. Done", "<start_function_call>call:broken", ""):
        deltas, parsed, _ = read(text, size)
        assert said(deltas) == parsed.text
        assert called(deltas) == [(c.name, c.arguments) for c in parsed.calls]
    assert called(read(TWO, size)[0]) == [JANE, ("turn_on_flashlight", {})]
    assert said(read("Is 1 < 2? {yes}. Done", size)[0]) == "Is 1 < 2? {yes}. Done"
    assert (
        said(read("<start_function_call>call:broken", size)[0]) == "<start_function_call>call:broken"
    )  # nothing is lost
    for dialect, module in (("hermes", hermes), ("llama3", llama3)):
        assert called(read(module.render_calls([chat.Call(*JANE)]), size, dialect)[0]) == [JANE]


def test_text_is_told_while_it_is_written():
    reader = Reader(understand(), "functiongemma")
    assert [said(list(reader.feed(piece))) for piece in ("Hello", " you", " <", " 3")] == ["Hello", " you", " ", ""]
    assert said(reader.close("Hello you < 3")[1]) == "< 3"


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_stop_strings_and_one_call(size):
    deltas, parsed, reader = read("one two STOP three", size, stop=["STOP", "xyz"])
    assert said(deltas) == parsed.text == "one two " and reader.stopped
    assert said(read("one two STO", size, stop="STOP")[0]) == "one two STO"
    deltas, parsed, reader = read(TWO, size, parallel_tool_calls=False)
    assert called(deltas) == [JANE] and len(parsed.calls) == 1 and reader.over


def test_without_tools_nothing_is_a_call():
    for body in ({"tools": None}, {"tool_choice": "none"}):
        deltas, parsed, _ = read(TWO, 5, **body)
        assert parsed.calls == [] and called(deltas) == [] and said(deltas) == TWO


def test_unknown_counts_are_not_zero():
    assert chat.usage({"prompt_tokens": None, "completion_tokens": 3}) is None
    assert chat.usage({"prompt_tokens": 2, "completion_tokens": 3})["total_tokens"] == 5


# --- where it listens -------------------------------------------------------------------------------------------------


def test_another_address_needs_a_key():
    for address in ("0.0.0.0", "192.168.1.5", "example.org", "::"):
        with pytest.raises(EdgeError) as refused:
            host.check(host.Limits(address, 0))
        assert host.KEY in refused.value.hint
    host.check(host.Limits("0.0.0.0", 0, SECRET))
    for address in ("127.0.0.1", "127.0.0.9", "localhost", "::1"):
        host.check(host.Limits(address, 0))
    with pytest.raises(EdgeError):
        host.check(host.Limits(port=0, key="two words"))
    for name in ("a..b", "x" * 70, "a\udcff", "a\0b"):
        with pytest.raises(EdgeError, match="can't listen"):
            host.check(host.Limits(name, 0, SECRET))


def test_sizes():
    sizes = [Size().convert(text, None, None) for text in ("65536", "64KB", "1.5MB", "2 m")]
    assert sizes == [65536, 64_000, 1_500_000, 2_000_000]


def run(*arguments, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN, "serve", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **env}, check=False)


def test_a_port_in_use_and_an_open_address(tmp_path):
    """Said before anything is loaded."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run(tmp_path / "any.gguf", "--port", taken.getsockname()[1])
    assert result.returncode == 2 and "in use" in result.stderr and "--port" in result.stderr
    result = run(tmp_path / "any.gguf", "--host", "0.0.0.0", "--port", 0)
    assert result.returncode == 2 and "no key" in result.stderr
    result = run(tmp_path / "any.gguf", "--port", 0)
    assert result.returncode == 2 and "no such file" in result.stderr


# --- tools of requests that bring none -----------------------------------------------------------------------------------

ONE_TOOL = 'def turn_on_flashlight():\n    """Turns the flashlight on."""\n'


@pytest.fixture
def placed(tmp_path: Path) -> Path:
    """An artifact in a project."""
    (tmp_path / "edge.toml").write_text('[project]\nname = "app"\n')
    for name in ("train.jsonl", "eval.jsonl"):
        (tmp_path / name).write_text("{}\n")
    (tmp_path / "tools.py").write_text(ONE_TOOL)
    (tmp_path / "build" / "artifacts").mkdir(parents=True)
    return artifacts.gguf(tmp_path / "build" / "artifacts" / "m.gguf")


def defaults(file: Path, given: Path | None = None) -> list[str]:
    found = default_tools(given, calling.find(file, lacks=lambda name: None), Console())
    return [tool["function"]["name"] for tool in found]


def test_a_projects_tools_are_those_of_requests_that_bring_none(placed, capsys):
    assert defaults(placed) == ["turn_on_flashlight"]
    file = placed.parents[2] / "tools.py"
    assert capsys.readouterr().err == f"importing {file} (it runs)\ntools: 1 of {file}, for requests that bring none\n"


def test_tools_that_are_given_go_before_the_projects(placed, tmp_path, capsys):
    (tmp_path / "other.json").write_text(json.dumps(TOOLS))
    assert defaults(placed, tmp_path / "other.json") == ["turn_on_flashlight", "create_contact"]
    assert f"tools: 2 of {tmp_path / 'other.json'}" in capsys.readouterr().err
    with pytest.raises(EdgeError, match="no such file"):
        defaults(placed, tmp_path / "none.json")


def test_without_tools_that_is_said(placed, tmp_path, capsys):
    assert defaults(artifacts.gguf(tmp_path.parent / f"{tmp_path.name}.gguf")) == []
    assert capsys.readouterr().err == "no tools: requests must bring them, or give --tools FILE\n"
    (tmp_path / "tools.py").write_text("import no_such_thing\n")
    assert defaults(placed) == [], "clients may bring their own"
    said = capsys.readouterr().err
    assert "no tools (" in said and "no_such_thing" in said and "requests must bring them" in said


# --- the real thing ---------------------------------------------------------------------------------------------------


def built(spec):
    lack = environments.missing(spec)
    if lack:
        pytest.skip(f"needs {lack}")
    return environments.ensure(spec, QUIET)


@dataclass
class Served:
    process: subprocess.Popen[str]
    url: str
    log: list[str]

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].split("/")[0])

    def health(self) -> dict:
        return json.loads(self.ask("GET", "/health")[2])

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """By a plain client, for what OpenAI's would not send."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()

    def wait(self, requests: int, seconds: float) -> float:
        """Until so many are being answered or wait; how long it took."""
        started = time.monotonic()
        while self.health()["requests"] != requests:
            assert time.monotonic() - started < seconds, f"{self.health()}\n{self.log}"
            time.sleep(0.02)
        return time.monotonic() - started


def _first_line(lines: queue.Queue[str], process: subprocess.Popen[str], log: list[str]) -> str:
    """The address; a server that ended without one says why."""
    for _ in range(240):
        with contextlib.suppress(queue.Empty):
            return lines.get(timeout=1)
        assert process.poll() is None, log
    raise AssertionError(log)


@contextlib.contextmanager
def serving(artifact: Path, *options, ends: bool = True, **env: str) -> Iterator[Served]:
    """A server on a free port; afterwards Ctrl-C, and nothing of it is left."""
    command = [sys.executable, "-c", RUN, "serve", str(artifact), "--port", "0", *map(str, options)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
        start_new_session=True,
    )
    log: list[str] = []
    lines: queue.Queue[str] = queue.Queue()

    def listen(stream, take):
        for line in stream:
            take(line.rstrip())

    threads = [
        threading.Thread(target=listen, args=it) for it in ((process.stderr, log.append), (process.stdout, lines.put))
    ]
    for thread in threads:
        thread.start()
    family: list[psutil.Process] = []
    try:
        url = _first_line(lines, process, log)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) == 2  # the model and the server
        yield Served(process, url, log)
        if ends:
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        for thread in threads:
            thread.join()
        process.stdout.close()
        process.stderr.close()
        _, alive = psutil.wait_procs(family, 12)
    assert alive == []


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("serve")
    checkpoint = read_checkpoint(tiny.SHIPPED, "functiongemma")
    made = gguf.export(checkpoint, ["q8_0"], out, "tiny", QUIET, built).artifacts
    return {"gguf": Path(made[0].path)}


@pytest.mark.slow
def test_a_request_without_tools_is_asked_with_the_projects(files, placed):
    file = placed.with_name("app.gguf")
    file.write_bytes(files["gguf"].read_bytes())
    with serving(file) as it:
        body = {"messages": [{"role": "user", "content": "turn on the flashlight"}]}

        def message(**more) -> dict:
            answer = it.ask(
                "POST", "/v1/chat/completions", json.dumps({**body, **more}).encode(), content_type="application/json"
            )
            return json.loads(answer[2])["choices"][0]["message"]

        assert [c["function"]["name"] for c in message()["tool_calls"]] == ["turn_on_flashlight"]
        assert "tool_calls" not in message(tools=[], max_tokens=8)
        assert any(line.startswith("tools: 1 of ") for line in it.log)


@pytest.fixture(scope="module")
def served(files) -> Iterator[Served]:
    with serving(files["gguf"], "--queue", 1, "--max-body", "64KB") as it:
        yield it


@pytest.fixture
def client(served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=served.url, api_key="none", max_retries=0) as it:
        yield it


def calls_of(message) -> list[tuple[str, dict]]:
    return [(c.function.name, json.loads(c.function.arguments)) for c in message.tool_calls or []]


def streamed(chunks) -> tuple[str, list[tuple[str, dict]], str]:
    chunks = [c for c in chunks if c.choices]
    deltas = [c.choices[0].delta.to_dict() for c in chunks]
    assert deltas[0]["role"] == "assistant" and len({c.id for c in chunks}) == 1
    for delta in deltas:
        for key in [k for k, v in delta.items() if v is None]:
            del delta[key]
    return said(deltas), called(deltas), chunks[-1].choices[0].finish_reason


@pytest.mark.slow
def test_a_call_its_result_and_the_answer(client):
    """Whole and streamed say the same."""
    messages = list(CONTACT)
    first = client.chat.completions.create(model="any", messages=messages, tools=TOOLS, temperature=0)
    choice = first.choices[0]
    assert (
        calls_of(choice.message) == [JANE] and choice.finish_reason == "tool_calls" and choice.message.content is None
    )
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens > 100
    assert first.model == "tiny-q8_0.gguf" and "edge" not in first.model_extra
    again = client.chat.completions.create(model="any", messages=messages, tools=TOOLS, stream=True)
    assert streamed(again) == ("", [JANE], "tool_calls")
    messages += [
        choice.message,
        {"role": "tool", "tool_call_id": choice.message.tool_calls[0].id, "content": '{"status": "success"}'},
    ]
    second = client.chat.completions.create(model="any", messages=messages, tools=TOOLS)
    text = second.choices[0].message.content
    assert text and second.choices[0].finish_reason == "stop" and second.usage.prompt_tokens > first.usage.prompt_tokens
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model="any", messages=messages, tools=TOOLS, stream=True, stream_options=options)
    )
    assert chunks[-1].usage == second.usage and not chunks[-1].choices
    assert streamed(chunks) == (text, [], "stop")


@pytest.mark.slow
def test_choices(client):
    def answer(**more):
        return client.chat.completions.create(
            model="any", messages=CONTACT, tools=TOOLS, max_tokens=40, **more
        ).choices[0]

    assert calls_of(answer(tool_choice="required").message) == [JANE]
    other = {"type": "function", "function": {"name": "turn_on_flashlight"}}
    assert calls_of(answer(tool_choice=other).message) == [
        ("turn_on_flashlight", {})
    ]  # what it would never choose here
    none = answer(tool_choice="none")
    assert calls_of(none.message) == [] and none.message.content
    chunks = client.chat.completions.create(model="any", messages=CONTACT, tools=TOOLS, tool_choice=other, stream=True)
    assert streamed(chunks) == ("", [("turn_on_flashlight", {})], "tool_calls")


@pytest.mark.slow
def test_limits_of_an_answer(client):
    def answer(**more):
        return client.chat.completions.create(model="any", messages=LONG["messages"], **more)

    whole = answer(max_completion_tokens=24)
    assert whole.choices[0].finish_reason == "length" and whole.usage.completion_tokens == 24
    text = whole.choices[0].message.content
    stop = text[-3:]
    cut = answer(max_tokens=400, stop=stop)
    assert cut.choices[0].message.content == text[: text.index(stop)] and cut.choices[0].finish_reason == "stop"
    assert cut.usage.completion_tokens < 40  # it was ended, not only cut
    chunks = answer(max_tokens=24, stream=True)
    assert streamed(list(chunks)) == (text, [], "length")
    warm = answer(max_tokens=8, temperature=0.7)
    assert "temperature" in warm.model_extra["edge"]["warnings"][0]


@pytest.mark.slow
def test_text_arrives_before_the_end(client, served):
    answer = client.chat.completions.create(model="any", stream=True, **LONG)
    pieces = [said([next(answer).choices[0].delta.to_dict()]) for _ in range(3)]
    assert all(pieces) and served.health()["requests"] == 1  # it is still being written
    answer.close()
    served.wait(0, 2)


@pytest.mark.slow
def test_models_and_other_paths(client, served):
    models = client.models.list().data
    assert [m.id for m in models] == ["tiny-q8_0.gguf"] and client.models.retrieve(models[0].id).owned_by == "edge"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt")
    assert served.health() == {"status": "ok", "requests": 0}
    assert served.ask("DELETE", "/v1/models/tiny-q8_0.gguf")[0] == 405
    assert served.ask("GET", "/")[0] == 404 and served.ask("GET", "/v1/chat/completions")[0] == 405
    status, _, body = served.ask("POST", "/v1/chat/completions", b"{}")
    assert status == 415 and json.loads(body)["error"]["type"] == "invalid_request_error"  # a web page's form
    for text in (b"{", b"[]", b'{"messages": NaN}', b"\xff", b"[" * 60_000):
        status, _, body = served.ask("POST", "/v1/chat/completions", text, Content_Type="application/json")
        assert status == 400 and json.loads(body)["error"]["message"]
    assert served.ask("GET", "/v1/models", Host="evil.example:8080")[0] == 403  # a name that was made to lead here
    assert served.ask("GET", "/v1/models", Host="10.0.2.2:8080")[0] == 200  # Android's emulator


@pytest.mark.slow
def test_bad_requests(client):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="any", messages=CONTACT, n=2)
    assert refused.value.param == "n" and refused.value.code == "unsupported_parameter"
    for stream in (False, True):  # said by status in a stream as well
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(
                model="any", messages=[{"role": "user", "content": "word " * 3000}], stream=stream
            )
        assert refused.value.code == "context_length_exceeded" and "2048" in refused.value.message
    with pytest.raises(openai.APIStatusError) as large:
        client.chat.completions.create(model="any", messages=[{"role": "user", "content": "word " * 20_000}])
    assert large.value.status_code == 413 and large.value.code == "request_too_large"


@pytest.mark.slow
def test_a_body_that_is_larger_than_it_says(served):
    """Sent in pieces without a length: it is counted, not believed."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as s:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        s.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(8):
            s.sendall(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        s.sendall(b"0\r\n\r\n")
        assert s.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.slow
def test_a_client_that_hangs_up(client, served):
    """Its answer ends, streamed or whole; so does its place in the queue."""
    answer = client.chat.completions.create(model="any", stream=True, **LONG)
    assert next(answer)
    answer.close()
    assert served.wait(0, 2) < 1.5
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).chat.completions.create(model="any", **LONG)
    assert served.wait(0, 2) < 1.5
    answer = client.chat.completions.create(model="any", stream=True, **LONG)
    assert next(answer)
    with pytest.raises(openai.APITimeoutError):  # this one never got to the model
        client.with_options(timeout=0.5).chat.completions.create(model="any", messages=CONTACT, tools=TOOLS)
    served.wait(1, 1)
    answer.close()
    served.wait(0, 2)
    again = client.chat.completions.create(model="any", messages=CONTACT, tools=TOOLS)
    assert calls_of(again.choices[0].message) == [JANE]
    assert sum("hung up" in line for line in served.log) >= 3


@pytest.mark.slow
def test_a_full_queue(client, served):
    answers: queue.Queue = queue.Queue()

    def ask():
        with openai.OpenAI(base_url=served.url, api_key="none", max_retries=0) as own:
            answers.put(own.chat.completions.create(model="any", messages=CONTACT, tools=TOOLS))

    first = client.chat.completions.create(model="any", stream=True, **LONG)
    next(first)
    second = threading.Thread(target=ask)
    second.start()
    served.wait(2, 5)
    with pytest.raises(openai.InternalServerError) as full:
        client.chat.completions.create(model="any", messages=CONTACT, tools=TOOLS)
    assert full.value.status_code == 503 and full.value.code == "queue_full"
    assert int(full.value.response.headers["retry-after"]) >= 1
    first.close()
    second.join()
    assert calls_of(answers.get(timeout=1).choices[0].message) == [JANE]
    served.wait(0, 1)


@pytest.mark.slow
def test_a_model_that_dies_is_loaded_again(client, served):
    agent = next(
        p for p in psutil.Process(served.process.pid).children(recursive=True) if "agent.py" in " ".join(p.cmdline())
    )
    answer = client.chat.completions.create(model="any", stream=True, **LONG)
    next(answer)
    agent.kill()
    with pytest.raises(openai.APIError):
        list(answer)
    again = client.chat.completions.create(model="any", messages=CONTACT, tools=TOOLS)
    assert calls_of(again.choices[0].message) == [JANE]


@pytest.mark.slow
def test_keys(files):
    with serving(files["gguf"], "--host", "0.0.0.0", EDGE_SERVE_KEY=SECRET) as it:
        url = it.url.replace("0.0.0.0", "127.0.0.1")
        for key in ("wrong", SECRET + "x", SECRET[:-1]):
            with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client:
                with pytest.raises(openai.AuthenticationError) as refused:
                    client.models.list()
                assert refused.value.code == "invalid_api_key"
        with openai.OpenAI(base_url=url, api_key=SECRET, max_retries=0) as client:
            assert client.models.list().data
            answer = client.chat.completions.create(model="any", messages=CONTACT, tools=TOOLS)
            assert calls_of(answer.choices[0].message) == [JANE]
        assert it.ask("GET", "/health")[0] == 200 and it.ask("GET", "/v1/models")[0] == 401
        assert it.ask("GET", "/v1/models", Authorization=f"Basic {SECRET}")[0] == 401
        assert it.ask("POST", "/v1/chat/completions", b"{}", Content_Type="application/json")[0] == 401
    assert SECRET not in "".join(it.log)


@pytest.mark.slow
def test_nothing_is_left_after_the_end(files, tmp_path):
    """Ctrl-C in mid-answer, and a host that is killed."""
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))
    own = ("--tools", tmp_path / "tools.json")
    for ending, status in ((signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        with serving(files["gguf"], *own, ends=False) as it, openai.OpenAI(base_url=it.url, api_key="none") as client:
            answer = client.chat.completions.create(model="any", messages=CONTACT)  # with the server's own tools
            assert calls_of(answer.choices[0].message) == [JANE]
            answer = client.chat.completions.create(model="any", stream=True, tools=[], **LONG)
            next(answer)
            it.process.send_signal(ending)
            assert it.process.wait(10) == status
            answer.close()


@pytest.mark.slow
def test_litertlm(tmp_path):
    checkpoint = read_checkpoint(tiny.SHIPPED, "functiongemma")
    made = litertlm.export(checkpoint, ["int8"], tmp_path / "out", "tiny", QUIET, built).artifacts
    with serving(Path(made[0].path)) as it, openai.OpenAI(base_url=it.url, api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(model="any", messages=CONTACT, tools=TOOLS)
        assert calls_of(answer.choices[0].message) == [JANE] and answer.usage.completion_tokens > 10
        assert streamed(client.chat.completions.create(model="any", messages=CONTACT, tools=TOOLS, stream=True))[1] == [
            JANE
        ]
        answer = client.chat.completions.create(model="any", stream=True, **LONG)
        assert len([next(answer) for _ in range(5)]) == 5  # it is told while it is written
        answer.close()
        assert it.wait(0, 3) < 2.5
        answer = client.chat.completions.create(model="any", messages=CONTACT, tools=TOOLS)
        assert calls_of(answer.choices[0].message) == [JANE]
