"""Ollama's folder: its Modelfile, and the script that must notice when tools were lost. Against a server that answers as Ollama does.

Not Ollama itself: what it renders, parses and answers is written here a second time, from its sources (commit fb30760).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from handoff_scene import HEAT, LEARNED, QUESTIONS, Scene, scene, tool
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import dialects
from edge.dialects import functiongemma
from edge.errors import EdgeError
from edge.export.handoff import ollama, ollama_raw, write
from edge.records import Json

SENTENCE = "You can do function calling with the following functions:"


# --- Ollama, as far as the folder asks of it ----------------------------------------------------------------------------


def go_render(messages: list[Json], tools: list[Json]) -> str:
    """model/renderers/functiongemma.go, for system and user messages."""
    out, system = "<bos>", ""
    if messages and messages[0]["role"] in ("system", "developer"):
        system, messages = messages[0]["content"], messages[1:]
    if system or tools:
        out += "<start_of_turn>developer\n" + system.strip()
        if tools:
            out += "\n" if system else ""
            out += SENTENCE if system.strip() != SENTENCE else ""
        for each in tools:
            f = each["function"]
            p = f["parameters"]
            out += f"<start_function_declaration>declaration:{f['name']}{{description:<escape>{f.get('description', '')}<escape>"
            parts = []
            if p.get("properties"):
                inner = [f"{k}:{{description:<escape>{v.get('description', '')}<escape>,type:<escape>{v['type'].upper()}<escape>}}"
                         for k, v in sorted(p["properties"].items())]  # fmt: skip
                parts.append(f"properties:{{{','.join(inner)}}}")
            if p.get("required"):
                parts.append("required:[" + ",".join(f"<escape>{r}<escape>" for r in p["required"]) + "]")
            parts.append(f"type:<escape>{p['type'].upper()}<escape>")
            out += f",parameters:{{{','.join(parts)}}}}}<end_function_declaration>"
        out += "<end_of_turn>\n"
    for m in messages:
        out += f"<start_of_turn>{m['role']}\n{m['content'].strip()}<end_of_turn>\n"
    return out + "<start_of_turn>model\n"


class Ollama:
    """What a created model is, and how it answers. The model itself knows QUESTIONS by the user's words.

    confused: it calls nothing sensible where the prompt is Ollama's own, as a model does that was tuned on another.
    """

    def __init__(self) -> None:
        self.version = "0.33.0"
        self.models: dict[str, Json] = {}
        self.confused = False
        self.wrong = False
        self.tells_prompts = True
        self.asked: list[str] = []

    def create(self, name: str, modelfile: str) -> None:
        """As `ollama create` reads it; what it doesn't say is not there."""
        model: Json = {"stop": [], "renderer": "", "parser": "", "license": []}
        for line in re.findall(r'^(FROM|RENDERER|PARSER|PARAMETER|LICENSE) ("""[\s\S]*?"""|.*)$', modelfile, re.M):
            command, value = line[0].lower(), line[1]
            if command == "parameter":
                key, _, value = value.partition(" ")
                value = value.strip('"')
                model["stop"].append(value) if key == "stop" else model.update({key: value})
            elif command == "license":
                model["license"].append(value.strip('"'))
            else:
                model[command] = value
        self.models[name] = model

    def show(self, name: str) -> Json:
        m = self.models[name]
        names = ("num_ctx", "num_predict", "temperature", "repeat_penalty")
        lines = [f"{k:<30} {m[k]}" for k in names if k in m] + [f"{'stop':<30} {json.dumps(s)}" for s in m["stop"]]
        capabilities = ["completion"] + (["tools"] if m["parser"] == "functiongemma" else [])
        return {k: v for k, v in {"parameters": "\n".join(lines), "renderer": m["renderer"], "parser": m["parser"],
                                  "capabilities": capabilities, "model_info": {}}.items() if v}  # fmt: skip

    def write(self, prompt: str, own: bool) -> str:
        """The model: what it says to this prompt, stop tokens off."""
        said = prompt.partition("<start_of_turn>user\n")[2].partition("<end_of_turn>")[0]
        calls = dict(QUESTIONS).get(said, [])
        if self.wrong or (own and self.confused):
            calls = [{"name": c["name"], "arguments": {**c["arguments"], "room": "elsewhere"}} for c in calls]
        if not calls or "declaration:" not in prompt:
            return "I can't do that."
        text = functiongemma.completion({"role": "assistant", "tool_calls": [{"function": c} for c in calls]})
        return text.removesuffix("<start_function_response>")

    def chat(self, body: Json) -> Json:
        m = self.models[body["model"]]
        tools = body.get("tools") or []
        if tools and m["parser"] != "functiongemma":
            return {"error": f"{body['model']} does not support tools"}
        prompt = (
            go_render(body["messages"], tools)
            if m["renderer"]
            else "".join(f"{x['content']}\n" for x in body["messages"])
        )
        if body.get("_debug_render_only") and self.tells_prompts:
            return {
                "model": body["model"],
                "message": {"role": "", "content": ""},
                "_debug_info": {"rendered_template": prompt},
            }
        text = self.write(prompt, own=True)
        message: Json = {"role": "assistant", "content": text}
        calls = dialects.get("functiongemma").parse(text).calls
        if m["parser"] and calls:
            told = [{"function": {"index": n, "name": c.name, "arguments": c.arguments}} for n, c in enumerate(calls)]
            message = {"role": "assistant", "content": "", "tool_calls": told}
        return {"model": body["model"], "message": message, "done": True}

    def generate(self, body: Json) -> Json:
        assert body["raw"] and not {"system", "template", "context"} & set(body)
        return {"model": body["model"], "response": self.write(body["prompt"], own=False), "done": True}

    def answer(self, path: str, body: Json) -> tuple[int, Json]:
        self.asked.append(path)
        if path == "/api/version":
            return 200, {"version": self.version}
        if path == "/api/create":  # of the stand-in for the command line alone
            self.create(body["model"], body["modelfile"])
            return 200, {"status": "success"}
        if body.get("model") not in self.models:
            return 404, {"error": f"model '{body.get('model')}' not found"}
        told = {"/api/show": lambda: self.show(body["model"]), "/api/chat": lambda: self.chat(body),
                "/api/generate": lambda: self.generate(body)}[path]()  # fmt: skip
        return (400 if "error" in told else 200), told


@contextlib.contextmanager
def serving(it: Ollama) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def _go(self, body: Json) -> None:
            code, told = it.answer(self.path, body)
            data = json.dumps(told).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self._go({})

        def do_POST(self) -> None:
            self._go(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def here() -> Iterator[tuple[Ollama, str]]:
    it = Ollama()
    with serving(it) as url:
        yield it, url


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = scene(tmp_path_factory.mktemp("app"))
    made.measured(wrong=0, at="2026-11-21T10:00:00+00:00")
    return made.hand_over().folder


def created(it: Ollama, folder: Path, but: str = "", **change: Any) -> str:
    """The model as the Modelfile makes it, lines that begin with `but` left out."""
    lines = (folder / "Modelfile").read_text().splitlines()
    it.create("app-q8_0", "\n".join(line for line in lines if not but or not line.startswith(but)))
    it.models["app-q8_0"].update(change)
    return "app-q8_0"


def prove(folder: Path, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(folder / "prove.py"), "--url", url, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


# --- the proof ----------------------------------------------------------------------------------------------------------


def test_tools_that_survived_are_proven(folder: Path, here: tuple[Ollama, str]) -> None:
    it, url = here
    created(it, folder)
    done = prove(folder, url)
    assert done.returncode == 0, done.stdout
    assert "the tools survived" in done.stdout and "/api/chat: 3 of 3 calls as recorded; raw: 3 of 3" in done.stdout
    assert "letter by letter" in done.stdout
    assert {"/api/show", "/api/chat", "/api/generate"} <= set(it.asked)


LOST = {
    "without PARSER": ({"but": "PARSER"}, {}, "parser is not set", 1),
    "without RENDERER": ({"but": "RENDERER"}, {}, "renderer is not set", 1),
    "as from a GGUF alone": ({"renderer": "", "parser": "passthrough"}, {}, "does not support tools", 1),
    "a stop fewer": ({"stop": ["<end_of_turn>", "<eos>"]}, {}, "stops lack <start_function_response>", 1),
    "warm": ({"temperature": "0.8"}, {}, "temperature is 0.8, not 0", 1),
    "no temperature": ({"but": "PARAMETER temperature"}, {}, "temperature is not set", 1),
    "short": ({"num_ctx": "512"}, {}, "num_ctx is 512, not 1024", 1),
    "old": ({}, {"version": "0.13.4"}, "came with 0.13.5", 1),
    "other calls": ({}, {"wrong": True}, "/api/generate raw: 0 of 3 calls are as recorded", 1),
    "renderer skew": ({}, {"confused": True}, "/api/chat: 0 of 3 calls are as recorded", 1),
}


@pytest.mark.parametrize("loss", LOST)
def test_every_loss_is_noticed(folder: Path, here: tuple[Ollama, str], loss: str) -> None:
    it, url = here
    model, server, word, code = LOST[loss]
    created(it, folder, **model)
    vars(it).update(server)
    done = prove(folder, url)
    assert done.returncode == code and word in done.stdout, done.stdout
    assert "the tools survived" not in done.stdout


def test_a_parser_that_leaves_calls_as_text_is_named(
    folder: Path, here: tuple[Ollama, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    it, url = here
    created(it, folder)
    real = it.chat
    spoken = functiongemma.completion({"role": "assistant", "tool_calls": [{"function": QUESTIONS[0][1][0]}]})
    monkeypatch.setattr(it, "chat", lambda body: {**real(body), "message": {"role": "assistant", "content": spoken}})
    done = prove(folder, url)
    assert done.returncode == 1 and "calls come as plain text: its parser is lost" in done.stdout


def test_fewer_recorded_calls_can_be_asked_for(folder: Path, here: tuple[Ollama, str]) -> None:
    it, url = here
    created(it, folder)
    it.confused = True
    assert prove(folder, url, "--at-least", "0").returncode == 0
    told = json.loads(prove(folder, url, "--json").stdout)
    assert not told["ok"] and len(told["rows"]) == 3 and told["rows"][0]["raw"] == told["rows"][0]["expected"]


def test_an_ollama_that_tells_no_prompt_is_no_loss(folder: Path, here: tuple[Ollama, str]) -> None:
    it, url = here
    created(it, folder)
    it.tells_prompts = False
    done = prove(folder, url)
    assert done.returncode == 0 and "doesn't tell the prompt" in done.stdout


@pytest.mark.parametrize("what", ["no model", "no server"])
def test_what_can_not_be_asked_is_no_proof(folder: Path, here: tuple[Ollama, str], what: str) -> None:
    url = here[1] if what == "no model" else "http://127.0.0.1:9"
    done = prove(folder, url)
    assert done.returncode == 2 and "survived" not in done.stdout and "Traceback" not in done.stderr
    assert ("start Ollama there" in done.stdout) == (what == "no server")


def test_another_prompt_than_that_of_the_training_is_shown(tmp_path: Path, here: tuple[Ollama, str]) -> None:
    it, url = here
    other = scene(tmp_path, renderer="training").hand_over(accept="raw.py").folder
    created(it, other)
    done = prove(other, url)
    assert "Ollama writes another prompt than training did, as this folder expects: at letter" in done.stdout, (
        done.stdout
    )
    assert SENTENCE[:20] in done.stdout and done.returncode == 0
    it.confused = True  # what was accepted: calls are lost by it, and counted
    done = prove(other, url)
    assert (
        done.returncode == 0
        and "0 of 3 calls as recorded; raw: 3 of 3" in done.stdout
        and "costs calls here" in done.stdout
    )
    assert prove(other, url, "--at-least", "1").returncode == 1
    it.wrong = True
    assert prove(other, url).returncode == 1


def test_the_script_creates_and_proves(folder: Path, here: tuple[Ollama, str], tmp_path: Path) -> None:
    """create.sh as it is, with an `ollama` on the path that hands the Modelfile to the server; and with one that drops lines."""
    url = here[1]
    for drop, code in (("", 0), ("PARSER", 1), ("RENDERER", 1)):
        command = tmp_path / drop / "ollama"
        command.parent.mkdir(exist_ok=True)
        command.write_text(
            f"#!{sys.executable}\nimport json, sys, urllib.request\n"
            "assert sys.argv[1] == 'create' and sys.argv[3:] == ['-f', 'Modelfile'], sys.argv\n"
            f"text = ''.join(l for l in open('Modelfile') if not ({drop!r} and l.startswith({drop!r})))\n"
            "body = json.dumps({'model': sys.argv[2], 'modelfile': text}).encode()\n"
            f"urllib.request.urlopen(urllib.request.Request('{url}/api/create', body)).read()\n"
        )
        command.chmod(0o755)
        script = (folder / "create.sh").read_text().replace('prove.py "$name"', f'prove.py "$name" --url {url}')
        copy = tmp_path / drop / "folder"
        subprocess.run(["cp", "-r", str(folder), str(copy)], check=True)
        (copy / "run.sh").write_text(script)
        path = f"{command.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        given = {"env": {**os.environ, "PATH": path}, "timeout": 60}
        done = subprocess.run(["sh", str(copy / "run.sh")], capture_output=True, text=True, **given)
        assert done.returncode == code, done.stdout + done.stderr
    (copy / "Modelfile").write_text("FROM ./x.gguf\n")  # verify.py comes first
    done = subprocess.run(["sh", str(copy / "run.sh")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "Modelfile" in done.stdout


# --- what is recorded ---------------------------------------------------------------------------------------------------


def test_only_calls_that_the_file_was_seen_to_make_are_expected(tmp_path: Path) -> None:
    made = scene(tmp_path)
    made.measured(wrong=3, at="2026-11-22T10:00:00+00:00")
    proof = json.loads((made.hand_over().folder / "proof.json").read_text())
    assert [c["expected"] for c in proof["cases"]] == [QUESTIONS[0][1]]


def test_without_rows_nothing_is_proven(tmp_path: Path, here: tuple[Ollama, str]) -> None:
    it, url = here
    made = Scene(tmp_path, LEARNED)
    made.artifact()
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps(LEARNED))
    done = made.hand_over(tools=tools, accept="x")
    created(it, done.folder)
    shown = prove(done.folder, url)
    assert shown.returncode == 1 and "no call was tried" in shown.stdout


# --- the Modelfile ------------------------------------------------------------------------------------------------------


def test_the_modelfile_says_what_ollama_loses_otherwise(folder: Path) -> None:
    told = ollama.read_modelfile((folder / "Modelfile").read_text())
    assert told == {"from": ["./app-q8_0.gguf"], "renderer": ["functiongemma"], "parser": ["functiongemma"],
                    "stop": ["<end_of_turn>", "<start_function_response>", "<eos>"], "num_ctx": ["1024"], "num_predict": ["256"],
                    "temperature": ["0"], "repeat_penalty": ["1"], "license": ["terms"]}  # fmt: skip


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1))
def test_a_notice_is_read_back_as_it_was_or_refused(text: str) -> None:
    try:
        quoted = ollama._quoted(text)
    except EdgeError:
        assert '"""' in text or text.endswith('"')
        return
    assert ollama.read_modelfile(f"FROM x\nLICENSE {quoted}\nPARSER y\n") == {
        "from": ["x"],
        "license": [text],
        "parser": ["y"],
    }


@pytest.mark.parametrize("line", ["PARSER", "PARSEX functiongemma", "PARAMETER stop", "RENDERER other"])
def test_a_modelfile_that_lost_a_line_is_found_before_it_leaves(
    tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, real = scene(tmp_path), ollama.modelfile
    word = line.split()[0].replace("X", "R")
    monkeypatch.setattr(
        ollama, "modelfile", lambda job: re.sub(rf"^{word} .*\n", f"{line}\n", real(job), count=1, flags=re.M)
    )
    with pytest.raises(EdgeError, match="would not work"):
        made.hand_over()


def test_parameters_that_are_no_object_are_refused(tmp_path: Path) -> None:
    made = scene(tmp_path)
    bad = json.loads(json.dumps(HEAT))
    bad["function"]["parameters"]["type"] = "array"
    job, _ = write.prepare("ollama", made.file, write.Wish())
    with pytest.raises(EdgeError, match="set_heat: its parameters are of type array"):
        ollama.files(dataclasses.replace(job, tools=[bad]))


def test_the_readme_names_what_ollamas_renderer_drops(tmp_path: Path) -> None:
    made = Scene(tmp_path, [tool("brew", [], drink={"type": "string", "description": "Which.", "enum": ["latte"]},
                                 steps={"type": "array", "description": "How.", "items": {"type": "string"}})])  # fmt: skip
    made.write(training=[]).artifact()
    text = (made.hand_over(accept="x").folder / "README.md").read_text()
    assert "`brew.drink` (enum), `brew.steps` (items)" in text
    assert "not run against a real Ollama" in text and "sends text without tools" in text


# --- the clients --------------------------------------------------------------------------------------------------------


def test_both_clients_get_the_calls(folder: Path, here: tuple[Ollama, str]) -> None:
    it, url = here
    created(it, folder)
    for name in ("chat.py", "raw.py"):
        for said, expected in QUESTIONS:
            command = [sys.executable, "-I", str(folder / name), said, "--url", url]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0 and json.loads(done.stdout)["calls"] == expected, done.stderr
        done = subprocess.run(
            [sys.executable, str(folder / name), "x", "--url", "http://127.0.0.1:9"], capture_output=True, text=True
        )
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert "nothing answers at http://127.0.0.1:9 (" in done.stderr and "start Ollama" in done.stderr


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"5", b"{}", None])
def test_what_is_not_ollama_is_said(folder: Path, answer: bytes | None) -> None:
    """Some other server, or something that speaks no HTTP."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if answer is None:
                self.wfile.write(b"SSH-2.0\r\n")
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for url in (f"http://127.0.0.1:{server.server_port}", "nonsense"):
            for name, arguments, code in (("chat.py", ["x"], 1), ("raw.py", ["x"], 1), ("prove.py", [], 2)):
                command = [sys.executable, "-I", str(folder / name), *arguments, "--url", url]
                done = subprocess.run(command, capture_output=True, text=True, timeout=60)
                assert "Traceback" not in done.stderr, done.stderr
                if not (answer == b"{}" and name != "chat.py" and url != "nonsense"):  # an answer that says nothing
                    assert done.returncode == code, (name, done.stdout, done.stderr)
        server.shutdown()


@pytest.mark.parametrize("renderer", ["training", "ollama", "litert_lm_builtin", "flutter_gemma"])
def test_raw_sends_the_prompt_of_the_training_whoever_wrote_it(tmp_path: Path, renderer: str) -> None:
    made = scene(tmp_path, renderer=renderer)
    done = made.hand_over(accept="raw.py")
    for row in made.rows():
        command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(done.folder)!r}); import raw; "
                   "sys.stdout.write(raw.prompt_for(sys.argv[1]))", row["user"]]  # fmt: skip
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == row["prompt"]


NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_.-]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda t: "<" not in t)
VALUES = st.recursive(
    st.one_of(
        TEXTS, st.integers(-(10**9), 10**9), st.floats(-1e6, 1e6).map(lambda f: round(f, 3)), st.booleans(), st.none()
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
CALLS = st.lists(
    st.builds(lambda n, a: {"name": n, "arguments": a}, NAMES, st.dictionaries(NAMES, VALUES, max_size=3)), max_size=3
)


@settings(deadline=None, max_examples=100)
@given(calls=CALLS, cut=st.integers(0, 400), whole=st.booleans())
def test_the_clients_parser_reads_what_ours_reads(calls: list[Json], cut: int, whole: bool) -> None:
    told = {"role": "assistant", "content": "Well.", "tool_calls": [{"function": c} for c in calls]}
    text = functiongemma.completion(told)
    text = text if whole else text[:cut]
    assert ollama_raw.calls_in(text) == [c.to_json() for c in functiongemma.parse(text).calls]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            ["<start_function_call>", "call:f", "{", "}", "<escape>", ":", ",", "a", "1", "[", "]", " ", "null"]
        ),
        max_size=24,
    )
)
def test_the_clients_parser_never_fails(parts: list[str]) -> None:
    text = "".join(parts)
    ours = [c.to_json() for c in functiongemma.parse(text).calls]
    assert ollama_raw.calls_in(text) == ours


def test_our_renderer_of_ollama_is_its_sources() -> None:
    """edge/renderers/ollama.py against its Go, written down a second time above."""
    from edge.renderers import ollama as renderer

    for system in ("Do it.", "", "It is Monday.\nDo it.", renderer.SENTENCE):
        messages = [{"role": "developer", "content": system}] if system else []
        messages += [{"role": "user", "content": "Light on"}]
        assert renderer.render(messages, LEARNED, "") == go_render(messages, LEARNED)
