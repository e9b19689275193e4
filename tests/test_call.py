"""`edge call`: what an artifact is, the user's functions, and real calls of the embedded model in every runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import artifacts
import checkpoints
import psutil
import pytest

from edge import call as calling
from edge import environments, functions, tools
from edge.calls import Call
from edge.commands.call import _Show
from edge.console import Console
from edge.dialects import functiongemma
from edge.errors import EdgeError, MissingError, WorkerCrash
from edge.export import gguf, litertlm, onnx
from edge.export.job import read_checkpoint
from edge.records import Sample
from edge.train import tiny
from edge.train.readers import DEVELOPER

QUIET = Console(quiet=True)
RUN = "from edge.cli import main; from edge.commands.call import call; main.add_command(call); main()"
TOOLS = '''
from typing import Literal

def turn_on_flashlight():
    """Turns the flashlight on."""
    print("light")
    return {"status": "success"}


def create_contact(first_name: str, last_name: str):
    """Creates a contact in the phone's contact list.

    Args:
        first_name: The first name of the contact.
        last_name: The last name of the contact.
    """
    raise ValueError(f"no room for {first_name}")
'''
JANE = {"name": "create_contact", "arguments": {"first_name": "Jane", "last_name": "Doe"}}
ADD = "add Jane Doe to my contacts"


def run(*arguments, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN, "call", *map(str, arguments)]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=300, env={**os.environ, **env}, check=False
    )


@pytest.fixture
def tools_file(tmp_path) -> Path:
    (tmp_path / "tools.py").write_text(TOOLS)
    return tmp_path / "tools.py"


# --- the user's functions ---------------------------------------------------------------------------------------------

FUNCTIONS = '''
import dataclasses
import enum
from dataclasses import dataclass
from typing import Annotated, Optional

class Mode(enum.Enum):
    FAST = "fast"

@dataclass
class Place:
    """Where.

    Attributes:
        x: Along.
        modes: How.
    """
    x: float
    modes: list[Mode]

def go(place: Place, mode: Annotated[Optional[Mode], "how"] = None, rooms: set[str] = frozenset(), far: float = 0):
    """Goes."""
    assert isinstance(place, Place) and place.modes == [Mode.FAST] and type(place.x) is float and type(far) is float
    print("on the way")
    return {"place": place, "mode": mode, "rooms": sorted(rooms), "set": isinstance(rooms, set)}

async def wait(seconds: int):
    """Waits."""
    return seconds

def late():
    """Imports what lies beside it, only now."""
    import beside
    return beside.VALUE

def fails(how: str):
    """Fails."""
    if how == "exit":
        raise SystemExit(3)
    if how == "json":
        return {1, 2, object()}
    if how == "nan":
        return float("nan")
    raise KeyError(how)

def named():
    """Looks like a named answer."""
    return {"name": "a", "response": "b"}
'''


@pytest.fixture
def running(tmp_path):
    (tmp_path / "beside.py").write_text("VALUE = 'beside'")
    (tmp_path / "own.py").write_text(FUNCTIONS)
    with tools.running(tmp_path / "own.py") as (box, found):
        assert [t["function"]["name"] for t in box.tools] == list(found) == ["go", "wait", "late", "fails", "named"]
        yield found


def test_arguments_become_what_the_hints_say(running, capsys):
    place = {"x": 3, "modes": ["fast"]}
    result = functions.run(running["go"], {"place": place, "mode": "fast", "rooms": ["b", "a"], "far": 2})
    assert result == functions.Result({"place": place, "mode": "fast", "rooms": ["a", "b"], "set": True})
    assert capsys.readouterr() == ("", "on the way\n")  # standard output is for results
    assert functions.run(running["wait"], {"seconds": 2}).content == {"value": 2}
    assert functions.run(running["late"], {}).value == "beside"


def test_what_a_function_raises_is_its_result(running, tmp_path):
    for how, error in (("exit", "SystemExit: 3"), ("other", "KeyError: 'other'")):
        result = functions.run(running["fails"], {"how": how})
        line = (
            FUNCTIONS.splitlines().index("        raise SystemExit(3)" if how == "exit" else "    raise KeyError(how)")
            + 1
        )
        assert (result.error, result.where) == (error, f"{tmp_path / 'own.py'}, line {line}")
        assert result.content == {"error": error}
    assert "no JSON" in functions.run(running["fails"], {"how": "json"}).error
    assert "no JSON" in functions.run(running["fails"], {"how": "nan"}).error
    assert "TypeError" in functions.run(running["wait"], {"hours": 2}).error


def test_every_result_is_an_answer_that_a_dialect_writes(running):
    """An object stays one, but for the one that FunctionGemma takes for a named answer."""
    assert functions.run(running["named"], {}).content == {"value": {"name": "a", "response": "b"}}
    message = {"role": "tool", "name": "named", "content": functions.run(running["named"], {}).content}
    assert "response:named{value:{name:" in functiongemma.render([message], [])


def test_what_has_no_function(tmp_path):
    (tmp_path / "own.py").write_text("TOOLS = [{'name': 'f', 'description': 'x', 'parameters': {}}]")
    with tools.running(tmp_path / "own.py") as (box, found):
        assert len(box.tools) == 1 and found == {}
    result = run("x", "--artifact", "edge-tiny", "--tools", tmp_path / "own.py", "--execute")
    assert result.returncode == 2 and "f: declared without a function" in result.stderr
    with pytest.raises(EdgeError, match="holds no functions"), tools.running(tmp_path / "tools.json"):
        pass


def test_calls_can_be_told_apart_by_their_types():
    arguments = {"a": "5", "b": 5, "c": 5.0, "d": True, "e": None, "f": ['x"', {"k": "온도"}]}
    assert calling.written(Call("f", arguments)) == 'f(a="5", b=5, c=5.0, d=True, e=None, f=["x\\"", {"k": "온도"}])'


def test_problems_name_what_is_wrong(tools_file):
    declared = tools.load(tools_file).tools
    for written, wrong in (
        ("call:other{}", "undeclared tool: other"),
        ("call:create_contact{first_name:<escape>Jane<escape>}", "missing argument: create_contact.last_name"),
        (
            "call:create_contact{first_name:5,last_name:<escape>Doe<escape>}",
            "wrong type: create_contact.first_name is 5",
        ),
        ("call:create_contact", "no braces"),
    ):
        parsed = functiongemma.parse(f"<start_function_call>{written}<end_function_call>")
        (problem,) = calling.problems(parsed, declared)
        assert wrong in problem


# --- what is asked ----------------------------------------------------------------------------------------------------

PROJECT = '[project]\nname = "app"\n[model]\nrenderer = "ollama"\n[data]\ndeveloper = "Call."\n[bench]\nmax_tokens = 33\ncontext = 48\n'


def project(folder: Path, text: str = PROJECT) -> Path:
    (folder / "edge.toml").write_text(text)
    for name in ("train.jsonl", "eval.jsonl"):
        (folder / name).write_text("{}\n")
    made = folder / "build" / "artifacts"
    made.mkdir(parents=True)
    return made


def test_a_projects_artifact_is_asked_as_the_project_says(tmp_path):
    found = calling.find(artifacts.gguf(project(tmp_path) / "m.gguf"))
    assert (found.renderer, found.developer, found.dialect, found.notes) == ("ollama", "Call.", "functiongemma", [])
    assert (found.settings.runtime, found.settings.max_tokens, found.settings.context) == ("llama_cpp", 33, 48)
    assert found.project.tools == tmp_path / "tools.py"
    given = calling.find(
        tmp_path / "build/artifacts/m.gguf", system="Hey.", max_tokens=5, context=64, runtime="xllamacpp"
    )
    assert (given.developer, given.settings.max_tokens, given.settings.context) == ("Hey.", 5, 64)
    assert given.settings.runtime == "xllamacpp"


def test_alone_it_is_asked_as_it_says_itself(tmp_path):
    file = artifacts.gguf(tmp_path / "m.gguf", context=700)
    found = calling.find(file)
    assert (found.renderer, found.developer, found.settings.context) == ("training", DEVELOPER, 700)
    assert found.project is None
    assert calling.find("edge-tiny").settings.runtime == "transformers"
    qwen = calling.find(checkpoints.make_family(tmp_path / "qwen"))
    assert qwen.dialect == "hermes" and qwen.developer is None and "<|im_end|>" in qwen.settings.stop
    assert calling.find(artifacts.onnx(tmp_path / "m_onnx")).settings.runtime == "onnxruntime"
    assert calling.find(artifacts.litertlm(tmp_path / "m.litertlm")).settings.runtime == "litert_lm"


def test_a_project_that_can_not_be_read_is_said(tmp_path):
    found = calling.find(artifacts.gguf(project(tmp_path, "[project]\nnom = 1\n") / "m.gguf"))
    assert found.project is None and "nom" in found.notes[0]


def test_a_refused_artifact_is_said(tmp_path):
    file = artifacts.gguf(tmp_path / "m.gguf")
    artifacts.manifest(file, proof={"verdict": "refused", "why": ["lost its calls"]})
    assert "refused: lost its calls" in calling.find(file).notes[0]


def test_what_can_not_be_asked(tmp_path):
    file = artifacts.gguf(tmp_path / "m.gguf")
    (tmp_path / "m.txt").write_text("x")
    lone = artifacts.onnx(tmp_path / "x_onnx") / "model.onnx"
    tflite = tmp_path / "m.tflite"
    tflite.write_bytes(artifacts.tflite())
    for given, options, said in (
        (tmp_path / "none.gguf", {}, "no such file"),
        (tmp_path / "m.txt", {}, "of no format"),
        (lone, {}, "nothing that a runtime runs"),
        (file, {"runtime": "litert_lm"}, "litert_lm doesn't run gguf"),
        (tflite, {}, "no tokenizer in it"),
        (file, {"dialect": "gemma"}, "no dialect"),
    ):
        with pytest.raises(EdgeError) as refused:
            calling.find(given, **options)
        assert said in refused.value.message
    with pytest.raises(MissingError, match="nothing here runs gguf"):
        calling.find(file, lacks=lambda name: "needs a C++ compiler")
    assert (
        calling.find(file, lacks=lambda name: "needs it" if name == "llama_cpp" else None).settings.runtime
        != "llama_cpp"
    )
    assert calling.find(tflite, tokenizer=tiny.SHIPPED).subject.tokenizer == tiny.SHIPPED / "tokenizer.model"


def test_bad_input(tmp_path, tools_file):
    file = artifacts.gguf(tmp_path / "m.gguf")
    for arguments, said in (
        (["  ", "--artifact", file], "empty"),
        (["-", "--artifact", file], "empty"),
        (["hi", "--artifact", file], "--tools"),  # no project: the tools are not known
        (["hi", "--artifact", tmp_path / "no.gguf", "--tools", tools_file], "no such file"),
        (["hi", "--artifact", file, "--tools", tmp_path / "no.py"], "no such file"),
    ):
        result = run(*arguments)
        assert result.returncode == 2 and said in result.stderr and "Traceback" not in result.stderr, result.stderr


def test_bytes_that_are_no_text_are_said_before_anything_is_loaded(tmp_path, tools_file):
    declared = tools.load(tools_file).tools
    session = calling.Session(calling.find(artifacts.gguf(tmp_path / "m.gguf")), QUIET)
    for said in (b"caf\xe9".decode(errors="surrogateescape"), "\ud83d"):
        with pytest.raises(EdgeError, match="half a surrogate pair") as refused:
            session.ask([{"role": "user", "content": said}], declared)
        assert refused.value.exit_code == 2


def test_a_runaway_answer_is_shown_by_its_beginning(capsys, tmp_path):
    session = calling.Session(calling.find(artifacts.gguf(tmp_path / "m.gguf")), QUIET)
    wrote = "<start_function_call>call:f{x:" + "<escape>" * 700

    def shown(text: str, raw: bool = False) -> tuple[str, str]:
        turn = calling.Turn("p", Sample("call", text), functiongemma.parse(text), ["cut short"], 1.0)
        _Show(session, False, False, raw, False, False).step(turn)
        done = capsys.readouterr()
        return done.out, done.err

    err = shown(wrote)[1]
    line = next(line for line in err.splitlines() if "it wrote: " in line)
    assert wrote[:200] in line and "5,630 characters; --raw prints them all" in line and len(line) < 300
    assert wrote in shown(wrote, raw=True)[0] and "it wrote" not in shown(wrote, raw=True)[1]
    assert shown(wrote[:40])[1].splitlines()[1] == f"       it wrote: {wrote[:40]}", "a short one is whole"


# --- the real thing ---------------------------------------------------------------------------------------------------


def built(spec):
    lack = environments.missing(spec)
    if lack:
        pytest.skip(f"needs {lack}")
    return environments.ensure(spec, QUIET)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("call")
    made = gguf.export(read_checkpoint(tiny.SHIPPED, "functiongemma"), ["q8_0"], out, "tiny", QUIET, built)
    return Path(made.artifacts[0].path)


@pytest.mark.slow
def test_a_call(model, tools_file):
    result = run(ADD, "--artifact", model, "--tools", tools_file)
    assert result.returncode == 0 and result.stdout == 'create_contact(first_name="Jane", last_name="Doe")\n'
    assert "importing" in result.stderr and "load" in result.stderr and "first token" in result.stderr
    result = run("-", "--artifact", model, "--tools", tools_file, "-q", stdin=f"{ADD}\n")
    assert result.stdout.startswith("create_contact") and result.stderr == ""


@pytest.mark.slow
def test_what_it_was_fed_and_what_it_wrote(model, tools_file):
    declared = tools.load(tools_file).tools
    messages = [{"role": "developer", "content": "Call."}, {"role": "user", "content": ADD}]
    prompt = functiongemma.render(messages, declared)
    wrote = functiongemma.render_calls([Call(**JANE)]) + "<start_function_response>"
    shown = ("--show-prompt", "--show-ids", "--raw", "--system", "Call.")
    told = json.loads(run(ADD, "--artifact", model, "--tools", tools_file, *shown, "--json", "-q").stdout)
    turn = told["turns"][0]
    assert told["ok"] and turn["calls"] == [JANE] and turn["prompt"] == prompt and turn["raw"] == wrote
    known = json.loads((tiny.SHIPPED / "tokenizer.json").read_text())
    tokens = {n: text for text, n in known["model"]["vocab"].items()} | {
        t["id"]: t["content"] for t in known["added_tokens"]
    }
    for ids, text in ((turn["prompt_ids"], prompt), (turn["ids"], wrote.removesuffix("<start_function_response>"))):
        assert "".join(tokens[n] for n in ids).replace("\u2581", " ").replace("<0x0A>", "\n") == text
    assert len(turn["prompt_ids"]) == turn["prompt_tokens"]
    result = run(ADD, "--artifact", model, "--tools", tools_file, *shown)
    assert (
        f"--- prompt\n{prompt}\n--- ids" in result.stdout
        and f"--- raw\n{wrote}\n--- calls\ncreate_contact(" in result.stdout
    )


@pytest.mark.slow
def test_functions_run_and_the_model_goes_on(model, tools_file):
    result = run("turn on the flashlight", "--artifact", model, "--tools", tools_file, "--execute", "--json")
    told = json.loads(result.stdout)
    assert result.returncode == 0 and "so do its functions" in result.stderr and "light\n" in result.stderr
    first, second = told["turns"]
    assert first["results"] == [{"name": "turn_on_flashlight", "result": {"status": "success"}, "error": None}]
    assert second["calls"] == [] and second["text"] and second["prompt_tokens"] > first["prompt_tokens"]
    once = run("turn on the flashlight", "--artifact", model, "--tools", tools_file, "--execute", "--turns", 1)
    assert once.returncode == 0 and "stopped after 1 turns" in once.stderr
    assert once.stdout == 'turn_on_flashlight()\n→ {"status": "success"}\n'


@pytest.mark.slow
def test_a_function_that_raises(model, tools_file):
    """It is shown, the model is told in the dialect's form, and the exit status says it."""
    result = run(ADD, "--artifact", model, "--tools", tools_file, "--execute", "--show-prompt", "--turns", 2)
    assert result.returncode == 1
    assert (
        "create_contact raised ValueError: no room for Jane" in result.stderr and "tools.py, line 17" in result.stderr
    )
    assert (
        "response:create_contact{error:<escape>ValueError: no room for Jane<escape>}<end_function_response>"
        in result.stdout
    )


@pytest.mark.slow
def test_a_call_that_is_not_sound_is_not_run(model, tools_file):
    tools_file.write_text(TOOLS.replace("last_name: str", 'last_name: Literal["Smith", "Jones"]'))
    result = run(ADD, "--artifact", model, "--tools", tools_file, "--execute")
    assert result.returncode == 1 and "raised" not in result.stderr
    if "Doe" in result.stdout:  # what it does with a name that it may not say is the model's
        assert "wrong: outside enum: create_contact.last_name" in result.stderr
    result = run(ADD, "--artifact", model, "--tools", tools_file, "--max-tokens", 9)
    assert result.returncode == 1 and "truncated" in result.stderr and "cut off after 9 tokens" in result.stderr
    result = run(ADD, "--artifact", model, "--tools", tools_file, "--context", 64)
    assert result.returncode == 2 and "context 64" in result.stderr and "--context" in result.stderr


@pytest.mark.slow
def test_a_projects_tools_are_found(model, tmp_path, tools_file):
    made = project(tmp_path, '[project]\nname = "app"\n')
    (made / "m.gguf").write_bytes(model.read_bytes())
    result = run("turn on the flashlight", "--artifact", made / "m.gguf")
    assert (result.returncode, result.stdout) == (0, "turn_on_flashlight()\n")


def in_runtime(file: Path, tools_file: Path, runtime: str) -> None:
    """The right call; and where it tells its answer while it writes it, a cancel ends that."""
    declared = tools.load(tools_file).tools
    target = calling.find(file, runtime=runtime, max_tokens=300)
    heard: list[str] = []
    with calling.Session(target, QUIET) as session:
        turn = session.ask([{"role": "user", "content": ADD}], declared, heard.append)
        assert [c.to_json() for c in turn.calls] == [JANE] and turn.problems == []
        assert "".join(heard) in ("", turn.sample.text)  # whole, or nothing before the end
        assert turn.seconds > 0
        if runtime != "litert_lm_chat":
            ids = session.ids(turn.prompt)
            assert len(ids) == turn.sample.prompt_tokens
        if heard:
            number, row = (
                session.number(),
                {"id": "x", "prompt": functiongemma.render([{"role": "user", "content": " ".join("x" * 22)}], [])},
            )
            whole, _ = session.answer(row, 300, heard.append)
            assert whole.completion_tokens > 100  # the embedded model repeats such a thing when it has no tools
            sample, _ = session.answer(row, 300, lambda piece: session.cancel(number), number)
            assert sample.completion_tokens < 60 and whole.text.startswith(sample.text)
        again = session.ask([{"role": "user", "content": ADD}], declared)
        assert again.parsed == turn.parsed
    assert bool(heard) == (runtime in ("llama_cpp", "litert", "litert_lm", "onnxruntime"))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["llama_cpp", "xllamacpp"])
def test_gguf(model, tools_file, runtime):
    built(environments.spec(environments.script(runtime)))
    in_runtime(model, tools_file, runtime)


@pytest.mark.slow
def test_checkpoint(tools_file):
    in_runtime(tiny.SHIPPED, tools_file, "transformers")


@pytest.mark.slow
def test_onnx(tmp_path, tools_file):
    made = onnx.export(read_checkpoint(tiny.SHIPPED, "functiongemma"), ["f32"], tmp_path / "out", "tiny", QUIET, built)
    in_runtime(Path(made.artifacts[0].path), tools_file, "onnxruntime")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("bundle")
    made = litertlm.export(read_checkpoint(tiny.SHIPPED, "functiongemma"), ["int8"], out, "tiny", QUIET, built)
    return Path(made.artifacts[0].path)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["litert_lm", "litert", "litert_lm_chat"])
def test_litertlm(bundle, tools_file, runtime):
    in_runtime(bundle, tools_file, runtime)


@pytest.mark.slow
def test_the_answers_ids_are_the_answers_alone(bundle, model, tools_file):
    """LiteRT-LM puts its start token before every text; only the prompt was fed one."""
    shown = [
        json.loads(run(ADD, "--artifact", file, "--tools", tools_file, "--show-ids", "--json", "-q").stdout)["turns"][0]
        for file in (bundle, model)
    ]
    assert shown[0]["prompt_ids"] == shown[1]["prompt_ids"] and shown[0]["ids"] == shown[1]["ids"]


@pytest.mark.slow
def test_a_runtime_that_dies_is_started_again(model, tools_file):
    declared = tools.load(tools_file).tools
    with calling.Session(calling.find(model), QUIET) as session:
        session.ask([{"role": "user", "content": ADD}], declared)
        session.kill()
        assert session.ask([{"role": "user", "content": ADD}], declared).calls
        (agent,) = [p for p in psutil.Process().children() if "agent.py" in " ".join(p.cmdline())]
        agent.kill()
        with pytest.raises(WorkerCrash):
            session.ask([{"role": "user", "content": ADD}], declared)
        assert session.ask([{"role": "user", "content": ADD}], declared).calls
