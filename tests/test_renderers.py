"""Prompts as runtimes render them: each renderer, where two renderings part and why, the command; (slow) the real ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import checkpoints
import pytest
from click.testing import CliRunner

from edge import environments, pipeline, renderers, starter, worker
from edge import project as projects
from edge.cli import main
from edge.console import Console
from edge.dialects import functiongemma
from edge.errors import EdgeError, MissingError
from edge.export import gate, litertlm
from edge.export.job import read_checkpoint
from edge.renderers import compare, parity, token_ids
from edge.train import tiny

WORKERS = Path(__file__).parent / "workers"
QUIET = Console(quiet=True)
SENTENCE = "You are a model that can do function calling with the following functions"
OLLAMA = "You can do function calling with the following functions:"
PARAMETERS = {
    "type": "object",
    "properties": {
        "volume": {"type": "integer", "description": "0 to 9"},
        "Zone": {"type": "string", "description": "Where", "enum": ["b", "a"]},
        "artist": {
            "type": "object",
            "description": "Who",
            "properties": {"name": {"type": "string", "description": "N"}},
        },
        "tags": {"type": "array", "description": "T", "items": {"type": "string"}},
    },
    "required": ["Zone"],
}
PLAY = {"type": "function", "function": {"name": "play", "description": "Plays.", "parameters": PARAMETERS}}
STOP = {"type": "function", "function": {"name": "stop", "description": "Stops.", "parameters": {"type": "object"}}}
DEVELOPER = {"role": "developer", "content": SENTENCE}
USER = {"role": "user", "content": "Play"}
CALL = {"role": "assistant", "tool_calls": [{"function": {"name": "play", "arguments": {"b": None, "A": 1}}}]}
TALK = [DEVELOPER, USER]
ANSWERED = [*TALK, CALL, {"role": "tool", "name": "play", "content": "ok"}]
MAPPED = [*TALK, CALL, {"role": "tool", "name": "play", "content": {"b": None, "a": True}}]
TRAINED = functiongemma.render(TALK, [PLAY, STOP])


def render(target: str, messages: list, tools: list = (PLAY, STOP)) -> str:  # type: ignore[assignment]
    return renderers.get(target).render(messages, list(tools), "")


def edge(*arguments: object):
    return CliRunner().invoke(main, ["prompt", *map(str, arguments)])


# --- renderers --------------------------------------------------------------------------------------------------------


def test_every_target_says_what_it_follows():
    for name in renderers.NAMES:
        it = renderers.get(name)
        assert it.FOLLOWS and it.VERIFIED and isinstance(it.UNKNOWN, tuple)
    unverified = [n for n in renderers.NAMES if renderers.get(n).VERIFIED.startswith("not verified")]
    assert {"flutter_gemma", "ollama"} <= set(unverified)


def test_no_such_target():
    with pytest.raises(EdgeError, match="no target 'olama'") as caught:
        renderers.get("olama")
    assert "litert_lm" in (caught.value.hint or "") and "ollama" in (caught.value.hint or "")


@pytest.mark.parametrize("target", ["training", "litert_lm", "llama_cpp"])
@pytest.mark.parametrize("messages", [TALK, ANSWERED, MAPPED, [USER]], ids=["talk", "answered", "mapped", "user"])
def test_templates_render_as_training(target, messages):
    assert render(target, messages) == functiongemma.render(messages, [PLAY, STOP])


def test_llama_cpp_runs_the_template_that_it_is_given():
    it = renderers.get("llama_cpp")
    assert it.render(TALK, [PLAY], "{{ bos_token }}{{ messages[1].content }}|{{ tools | length }}") == "<bos>Play|1"
    for template, words in (("{% if %}", "can't be run"), ("{{ raise_exception('no tools') }}", "refuses: no tools")):
        with pytest.raises(EdgeError, match=words):
            it.render(TALK, [PLAY], template)


def test_without_jinja(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingError, match="jinja2 is not installed") as caught:
        render("llama_cpp", TALK)
    assert caught.value.hint == "pip install jinja2"


def test_litert_lm_builtin():
    text = render("litert_lm_builtin", MAPPED)
    assert order(text) == ["volume", "Zone", "artist", "name", "tags"]
    assert "enum:[<escape>b<escape>,<escape>a<escape>]" in text and "items:{type:<escape>STRING<escape>}" in text
    assert "volume:{type:<escape>INTEGER<escape>,description:" in text
    assert "call:play{b:null,A:1}" in text and "response:{a:true,b:null}" in text
    assert text.startswith("<bos><start_of_turn>developer\n<start_function_declaration>declaration:play{description:")
    assert "<end_function_declaration><start_function_declaration>declaration:stop" in text
    assert f"<end_of_turn>\n<start_of_turn>developer\n{SENTENCE}<end_of_turn>\n<start_of_turn>user\n" in text
    spoken = render("litert_lm_builtin", [{"role": "system", "content": " Be "}, USER], [STOP])
    assert spoken.startswith("<bos><start_of_turn>developer\nBe\n\n<start_function_declaration>declaration:stop")
    assert parity.classify(TRAINED, render("litert_lm_builtin", TALK)) == [
        "developer turn",
        "property order",
        "keyword order",
    ]


def test_flutter_gemma():
    text = render("flutter_gemma", [USER], [PLAY, STOP])
    assert text.startswith(f"<bos><start_of_turn>developer\n{SENTENCE}\n<start_function_declaration>declaration:play")
    assert text.count("<end_function_declaration>\n") == 2 and order(text) == [
        "volume",
        "Zone",
        "artist",
        "name",
        "tags",
    ]
    assert text.endswith("<end_function_declaration>\n<end_of_turn>\n<start_of_turn>user\nPlay<end_of_turn>\n"
                         "<start_of_turn>model\n")  # fmt: skip
    answered = render("flutter_gemma", ANSWERED)
    assert answered.endswith("response:play{value:<escape>ok<escape>}<end_function_response>")


def test_flutter_gemma_drops_keywords_and_clears_its_history():
    reserved = {"function": {"name": "f", "description": "F", "parameters": {"type": "object", "properties": {
        "type": {"type": "string", "description": "gone"}, "kept": {"type": "string", "description": "k"}}}}}  # fmt: skip
    assert order(render("flutter_gemma", [USER], [reserved])) == ["kept"]
    later = [*TALK, {"role": "assistant", "content": "Done."}, {"role": "user", "content": "And now?"}]
    text = render("flutter_gemma", later)
    assert "Done." not in text and "And now?" in text and text.count("<start_of_turn>user") == 1


def test_ollama():
    text = render("ollama", ANSWERED)
    assert text.startswith(f"<bos><start_of_turn>developer\n{SENTENCE}\n{OLLAMA}<start_function_declaration>")
    assert order(text) == ["Zone", "artist", "tags", "volume"]  # by bytes, and the nested one is gone
    assert "enum" not in text and "items" not in text and "name:" not in text
    assert "response:play{<escape>ok<escape>}" in text
    own = render("ollama", [{"role": "system", "content": OLLAMA}, USER])
    assert own.count(OLLAMA) == 1 and render("ollama", [USER]).count(f"developer\n{OLLAMA}<start_f") == 1


@pytest.mark.parametrize("target", renderers.NAMES)
def test_refusals(target):
    union = {"function": {"name": "f", "description": "F", "parameters": {"type": "object", "properties": {
        "x": {"type": ["string", "null"], "description": "X"}}}}}  # fmt: skip
    with pytest.raises(EdgeError, match=r"f\.x"):
        render(target, TALK, [union])


def order(text: str) -> list[str]:
    return [name for name, _ in parity._PROPERTY.findall(parity._ESCAPED.sub("~", text))]


# --- classification ---------------------------------------------------------------------------------------------------


def swapped(text: str) -> str:
    a, b = "artist:{", "volume:{"
    return text.replace(a, "@").replace(b, a).replace("@", b)


SEEDED = {
    "sentence": lambda t: t.replace(SENTENCE, f"{SENTENCE}\nBe brief."),
    "developer text": lambda t: t.replace(SENTENCE, ""),
    "newline": lambda t: t.replace(SENTENCE, f"{SENTENCE}\n"),
    "property order": swapped,
    "dropped enum": lambda t: t.replace(",enum:[<escape>b<escape>,<escape>a<escape>]", ""),
    "dropped items": lambda t: t.replace(",items:{type:<escape>STRING<escape>}", ""),
    "dropped property": lambda t: t.replace("name:{description:<escape>N<escape>,type:<escape>STRING<escape>}", ""),
    "declaration": lambda t: t.replace("Plays.", "Play."),
    "start token": lambda t: t.replace("<bos>", ""),
    "turns": lambda t: t.replace("<start_of_turn>user\nPlay<end_of_turn>\n", ""),
    "call": lambda t: t.replace("{A:1,b:None}", "{b:None,A:1}"),
    "null": lambda t: t.replace("a:true,b:None", "a:true,b:null"),
    "tool response": lambda t: t.replace("a:true,b:None", "a:true"),
    "other": lambda t: t.replace("\nPlay<", "\nStop<"),
}


@pytest.mark.parametrize("kind", SEEDED)
def test_one_seeded_difference_is_one_class(kind):
    text = functiongemma.render(MAPPED, [PLAY, STOP])
    altered = SEEDED[kind](text)
    assert altered != text and parity.classify(text, altered) == [kind]


def test_newlines_between_declarations_and_in_turns():
    closed = "<end_function_declaration>"
    assert parity.classify(TRAINED, TRAINED.replace(closed, f"{closed}\n")) == ["newline"]
    assert parity.classify(TRAINED, TRAINED.replace("Play<end_of_turn>", "Play\n<end_of_turn>")) == ["newline"]
    assert parity.classify(TRAINED, TRAINED) == []
    assert parity.classify(TRAINED, TRAINED.replace(closed, "", 1)) != []


def test_several_at_once():
    found = parity.classify(TRAINED, render("ollama", TALK))
    assert set(found) == {"sentence", "property order", "dropped enum", "dropped items", "dropped property"}


def test_where_ids_part():
    assert parity.first_difference([1, 2, 3], [1, 2, 3]) is None
    assert parity.first_difference([1, 2, 3], [1, 5, 3]) == 1
    assert parity.first_difference([1, 2], [1, 2, 3]) == 2
    it = parity.Tokens("abcdef", [7, 8, 9], [(0, 2), (2, 4), (4, 6)])
    assert it.around(1) == {"token": 8, "ids": [7, 8, 9], "before": "ab", "after": "cdef"}
    assert it.around(3) == {"token": None, "ids": [7, 8, 9], "before": "abcdef", "after": ""}


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    answer = {"role": "assistant", "content": "No."}
    lines = [{"tools": [PLAY], "messages": [*TALK, answer]}, {"tools": [STOP], "messages": [USER, answer]}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.mark.parametrize("command", ["", "compare", "show"])
def test_help_has_examples(command):
    result = edge(*([command] if command else []), "--help")
    assert result.exit_code == 0 and f"edge prompt {command or 'show'} " in result.stdout


def test_show(rows):
    assert edge("show", rows).stdout == functiongemma.render(TALK, [PLAY])
    assert edge("show", rows, "--row", 2, "--target", "ollama").stdout == render("ollama", [USER], [STOP])


def test_rows_without_tools_get_those_of_their_project(tmp_path):
    starter.write(tmp_path / "app")
    shown = edge("show", tmp_path / "app" / "eval.jsonl")
    assert shown.exit_code == 0 and "declaration:" in shown.stdout and "importing" in shown.stderr
    alone = tmp_path / "alone.jsonl"
    alone.write_bytes((tmp_path / "app" / "eval.jsonl").read_bytes())
    shown = edge("show", alone)  # a model may have been tuned on just that
    assert shown.exit_code == 0 and "declaration:" not in shown.stdout
    assert "rows without tools" in shown.stderr and "--tools FILE" in shown.stderr
    compared = edge("compare", "edge-tiny", "--rows", alone, "--target", "flutter_gemma")
    assert compared.exit_code == 2 and "rows without tools" in compared.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("show", "ROWS", "--row", 3), "no row 3"), (("show", "ROWS", "--row", 0), "it has rows 1 to 2"),
     (("show", "ROWS", "--target", "olama"), "no target 'olama'"), (("show", "absent.jsonl"), "absent.jsonl"),
     (("compare", "ROWS", "--target", "vllm"), "no target 'vllm'"), (("compare", "EMPTY"), "no tokenizer.json there"),
     (("compare", "EMPTY", "--rows", "absent.jsonl"), "absent.jsonl")],
)  # fmt: skip
def test_what_can_not_be_done(rows, tmp_path, arguments, words):
    (tmp_path / "empty").mkdir()
    names = {"ROWS": rows, "EMPTY": tmp_path / "empty"}
    result = edge(*(names.get(a, a) for a in arguments))
    assert result.exit_code == 2 and words in result.stderr


def test_the_checkpoints_template(tmp_path):
    assert "start_function_declaration" in token_ids.template(tiny.SHIPPED)
    assert token_ids.template(tmp_path) == ""
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "x"}')
    assert token_ids.template(tmp_path) == "x"


def test_built_in_rows_are_the_same_each_time():
    assert compare.built_in(3) == compare.built_in(3) and len(compare.built_in()) == compare.BUILT_IN


# --- the real ones ----------------------------------------------------------------------------------------------------


def environment(spec):
    lack = environments.missing(spec)
    if lack:
        pytest.skip(f"needs {lack}")
    return environments.ensure(spec, QUIET)


def test_one_environment_for_both_workers():
    a, b = (environments.spec(environments.script(name)) for name in ("token_ids", "count_tokens"))
    assert a.folder == b.folder and a.pins == b.pins


@pytest.mark.slow
def test_compare_by_real_ids(rows):
    result = edge("compare", "edge-tiny", "--rows", rows, "--json", "-q")
    assert result.exit_code == 1, result.output
    told = {t["target"]: t for t in json.loads(result.stdout)["targets"]}
    assert told["litert_lm"]["differ"] == told["llama_cpp"]["differ"] == 0 and told["litert_lm"]["rows"] == 2
    first = told["ollama"]["first"]
    assert told["ollama"]["differ"] == 2 and first["row"].endswith("rows.jsonl:1") and "sentence" in first["classes"]
    assert first["training"]["before"].endswith(" following functions") and first["target"]["after"].startswith("\nYou")
    assert first["training"]["token"] == functiongemma_id("<start_function_declaration>")
    assert edge("compare", "edge-tiny", "--rows", rows, "--target", "llama_cpp", "-q").exit_code == 0


def functiongemma_id(token: str) -> int:
    added = json.loads((tiny.SHIPPED / "tokenizer.json").read_text())["added_tokens"]
    return next(t["id"] for t in added if t["content"] == token)


@pytest.mark.slow
def test_a_template_that_was_altered_is_noticed(rows, tmp_path):
    shutil.copytree(tiny.SHIPPED, tmp_path / "model")
    template = tmp_path / "model" / "chat_template.jinja"
    template.write_text(
        template.read_text().replace("<end_function_declaration>", "<end_function_declaration>{{ '\\n' }}")
    )
    result = edge("compare", tmp_path / "model", "--rows", rows, "--target", "llama_cpp", "-q")
    assert result.exit_code == 1 and "llama_cpp: 2 of 2 rows differ" in result.stdout and "newline" in result.stdout


@pytest.mark.slow
def test_a_tokenizer_that_can_not_be_read(tmp_path, rows):
    folder = checkpoints.make(tmp_path / "model")
    (folder / "tokenizer.json").write_text("{}")
    result = edge("compare", folder, "--rows", rows, "-q")
    assert result.exit_code == 2 and "tokenizer.json" in result.stderr and "whole checkpoint" in result.stderr


FORMATTER = """
import json, sys
from llama_cpp.llama_chat_format import Jinja2ChatFormatter
given = json.load(sys.stdin)
it = Jinja2ChatFormatter(given["template"], eos_token="<eos>", bos_token="<bos>")
print(json.dumps([it(messages=c["messages"], tools=c["tools"]).prompt for c in given["cases"]]))
"""


@pytest.mark.slow
def test_llama_cpp_itself():
    """Every byte, over generator rows of all kinds."""
    cases, template = compare.built_in(50), token_ids.template(tiny.SHIPPED)
    request = {"template": template, "cases": [{"messages": c.messages, "tools": c.tools} for c in cases]}
    python = environment(environments.spec(environments.script("llama_cpp"))).python
    done = subprocess.run(
        [str(python), "-I", "-c", FORMATTER], input=json.dumps(request), capture_output=True, text=True, check=True
    )
    ours = renderers.get("llama_cpp")
    assert json.loads(done.stdout) == [ours.render(c.messages, c.tools, template) for c in cases]


BUNDLE = """
import os, sys
sys.path.insert(0, os.environ["EDGE_CODE"])
from pathlib import Path
from edge import dialects
from edge.export import checkpoint, families, litert
from edge.export.workers import litertlm
from edge.worker import serve

def main(request, reply):
    folder = checkpoint.inspect(request["checkpoint"])
    tokens = litert.read_tokens(folder, dialects.get("functiongemma"), folder.config["vocab_size"])
    told = litertlm._metadata(tokens, 1024, families.GEMMA)
    told.ClearField("jinja_prompt_template")
    told.llm_model_type.function_gemma.use_template_for_fc_format = False
    target = Path(request["out"]) / "m.litertlm"
    litertlm._build(target, told, tokens, request["model"], [])
    return {}

serve(main)
"""


@pytest.mark.slow
def test_litert_lm_itself(tmp_path):
    """Every byte, over generator rows and odder ones, through the runtime's own conversation, with and without a template."""
    record = read_checkpoint(tiny.SHIPPED, "functiongemma")
    (made,) = litertlm.export(record, ["int8"], tmp_path / "out", "m", QUIET, environment).artifacts
    script = tmp_path / "bundle.py"
    script.write_text(BUNDLE)
    python = environment(environments.spec(environments.script("litertlm"))).python
    request = {"checkpoint": str(tiny.SHIPPED), "model": made.path.replace(".litertlm", ".tflite")}
    worker.run(script, request, tmp_path / "bare", python=python)
    system = [{"role": "system", "content": " Be brief.\n"}, {"role": "user", "content": " x \n"}]
    named = [{"name": "play", "response": {"z": 1.5, "B": [None, "x", {"k": 1, "a": False}]}}]
    told = [TALK, ANSWERED, system, [*TALK, CALL, {"role": "tool", "content": named}]]
    cases = [*compare.built_in(50), *(compare.Case(str(n), m, [PLAY, STOP]) for n, m in enumerate(told))]
    cases += [compare.Case("no tools", system, []), compare.Case("nothing", [USER], [])]
    for target, model in (("litert_lm", made.path), ("litert_lm_builtin", str(tmp_path / "bare" / "m.litertlm"))):
        got = rendered(model, cases, tmp_path / target)
        ours = renderers.get(target)
        assert ["<bos>" + text for text in got] == [ours.render(c.messages, c.tools, "") for c in cases], target


def rendered(model: str, cases: list[compare.Case], out: Path) -> list[str]:
    script = WORKERS / "litert_lm.py"
    request = {"model": model, "cases": [{"messages": c.messages, "tools": c.tools} for c in cases]}
    return worker.run(script, request, out, python=environment(environments.spec(script)).python)["rendered"]


# --- training with a target's rendering -------------------------------------------------------------------------------


def project_for(folder: Path, renderer: str):
    starter.write(folder)
    text = (folder / "edge.toml").read_text().replace("[tools]", f'renderer = "{renderer}"\n\n[tools]')
    (folder / "edge.toml").write_text(text)
    return projects.load(folder)


def test_a_project_can_train_and_measure_on_what_its_target_will_write(tmp_path):
    project = project_for(tmp_path / "app", "ollama")
    data = pipeline.read_data(project, QUIET)
    for file in (data.training, data.workload):
        prompts = [json.loads(line)["prompt"] for line in file.read_text().splitlines()]
        assert all(OLLAMA in p and p.endswith("<start_of_turn>model\n") for p in prompts)
    own = pipeline.read_data(project_for(tmp_path / "own", "training"), QUIET)
    assert OLLAMA not in own.training.read_text()


def test_the_gate_asks_in_the_rendering_of_the_training():
    ours, theirs = (gate.own_rows("functiongemma", 3, name) for name in ("training", "ollama"))
    assert [r["expected"] for r in ours] == [r["expected"] for r in theirs]
    assert all(OLLAMA in r["prompt"] and OLLAMA not in o["prompt"] for o, r in zip(ours, theirs))


@pytest.mark.slow
def test_a_checkpoint_trained_as_its_target_writes_differs_from_the_others_instead(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny.SHIPPED, folder)
    record = json.loads((folder / "checkpoint.json").read_text())
    (folder / "checkpoint.json").write_text(json.dumps({**record, "renderer": "ollama"}))
    assert edge("compare", folder, "--target", "ollama", "-q").exit_code == 0
    assert edge("compare", folder, "--target", "litert_lm", "-q").exit_code == 1
    assert read_checkpoint(folder, "functiongemma").renderer == "ollama"


@pytest.mark.parametrize("renderer, dialect, said", [("olama", "functiongemma", "no target 'olama'"),
                                                     ("ollama", "hermes", "writes FunctionGemma's prompts")])  # fmt: skip
def test_a_rendering_that_there_is_not_is_refused_at_once(tmp_path, renderer, dialect, said):
    starter.write(tmp_path / "app")
    file = tmp_path / "app" / "edge.toml"
    keys = f'renderer = "{renderer}"\ndialect = "{dialect}"\n\n[tools]'
    file.write_text(file.read_text().replace("[tools]", keys))
    with pytest.raises(EdgeError, match=said):
        projects.load(file)
