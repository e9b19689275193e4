"""TFLite, `.litertlm`, `.task`: names, shapes, refusals, the template; and (slow) the workers, with LiteRT-LM itself."""

from __future__ import annotations

import importlib
import io
import json
import platform
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import checkpoints
import jinja2
import pytest

from edge import archive, dialects, environments, worker
from edge.console import Console
from edge.dialects import functiongemma
from edge.errors import EdgeError, GateError
from edge.export import litert, litertlm, task, tflite
from edge.export.checkpoint import Folder
from edge.export.job import Job, read_checkpoint
from edge.records import Artifact, digest_file, load
from edge.train import tiny

WORKERS = Path(__file__).parent / "workers"
TEMPLATE = Path(litert.__file__).with_name("litert_template.jinja").read_text(encoding="utf-8")
SENTENCE = "You are a model that can do function calling with the following functions"
QUIET = Console(quiet=True)


def tool(name: str, description: str, properties: dict | None = None, **more: object) -> dict:
    parameters = {"type": "object", "properties": properties or {}, **more}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


NONE = tool("lights.off", "Turns all lights off.")
ALARM = tool(
    "set_alarm", "Sets an alarm.",
    {"time": {"type": "string", "description": "When, as HH:MM"}, "Label": {"type": "string", "description": "Its name"},
     "repeat": {"type": "boolean", "description": "Every day"}}, required=["time"],
)  # fmt: skip
PLAY = tool(
    "play_music", "Plays music.",
    {"mood": {"enum": ["calm", "Happy, {loud}", "슬픈"], "type": "string", "description": "The mood"},
     "volume": {"type": "number", "description": "0 to 1"}, "tags": {"type": "array", "description": "Tags",
                                                                      "items": {"type": "string"}}},
    required=["mood", "volume"],
)  # fmt: skip
NESTED = tool(
    "book", "Books a table.",
    {"guest": {"type": "object", "description": "Who", "required": ["name"], "properties": {
        "zip": {"type": "integer", "description": "Code"}, "name": {"type": "string", "description": "Name"},
        "Address": {"type": "object", "description": "Where", "properties": {
            "b": {"type": "string", "description": "B"}, "A": {"type": "string", "description": "A"}}}}},
     "stops": {"type": "array", "description": "List", "items": {"type": "object", "required": ["at"], "properties": {
         "at": {"type": "string", "description": "Place", "enum": ["x", "y"]}, "Deep": {"type": "array", "description": "",
                                                                                "items": {"type": "integer"}}}}}},
)  # fmt: skip
ODD = tool(
    "odd", "Keys and values of every kind.",
    {"n": {"type": "array", "description": "Numbers",
           "items": {"type": "number", "default": None, "examples": [1, 1.5, -2, 0.25, None, True, False, "s", {"b": 1, "A": []}]}}},
)  # fmt: skip
USER = {"role": "user", "content": "  Wake me at seven & <b>quietly</b>\n"}
CALL = {
    "role": "assistant",
    "tool_calls": [{"type": "function", "function": {"name": "set_alarm", "arguments": {
        "time": "07:00", "Label": "a, b", "repeat": True, "list": [1, 2.5, None, {"k": "v"}]}}}],
}  # fmt: skip
ANSWER = {"role": "tool", "content": [{"name": "set_alarm", "response": {"ok": True, "Note": None, "at": "7"}}]}
DEVELOPER = {"role": "developer", "content": f"Current date: 2026-11-21\n{SENTENCE}\n"}
CASES = {
    "no-argument tool": ([USER], [NONE]),
    "strings": ([DEVELOPER, USER], [ALARM]),
    "enum and array": ([DEVELOPER, USER], [PLAY]),
    "nested": ([DEVELOPER, USER], [NESTED]),
    "values": ([USER], [ODD]),
    "several tools": ([DEVELOPER, USER], [PLAY, NONE, ALARM, NESTED]),
    "developer text alone": ([{"role": "system", "content": " Be brief.\n"}, USER], []),
    "nothing": ([USER], []),
    "a second question": (
        [USER, {"role": "assistant", "content": "Sure."}, {"role": "user", "content": "And?"}],
        [ALARM],
    ),
    "a call and its answer": ([DEVELOPER, USER, CALL, ANSWER], [ALARM]),
}


# --- names and shapes -------------------------------------------------------------------------------------------------


def test_names():
    assert [tflite.parse(n).tag for n in tflite.QUANTISATIONS] == ["f32", "q8", "q8wo", "q4b32", "q4c"]
    assert [q.name for q in tflite.parse_all(["INT8", "f32", " int8 "])] == ["int8", "f32"]
    name = tflite.file_name("m", tflite.parse("int8"), tflite.Shape(), "tflite")
    assert name == "m_q8_ekv1024.tflite"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("int4", "did you mean int4-block32 or int4-channel?"),
        ("q8", "did you mean int8?"),
        ("q8_0", "there are: f32 int8"),
        ("", "there are"),
    ],
)
def test_names_that_are_none(name, words):
    with pytest.raises(EdgeError, match="no quantisation") as caught:
        tflite.parse(name)
    assert words in caught.value.hint


def test_no_quantisation():
    with pytest.raises(EdgeError, match="no quantisation given"):
        tflite.parse_all([])


@pytest.mark.parametrize(
    ("prefill", "cache", "words"),
    [((), 1024, "prefill lengths"), ((0, 4), 1024, "prefill lengths"), ((2048,), 1024, "does not fit a cache of 1024"),
     ((1,), 1, "a cache of 1 tokens"), ((256,), 1 << 20, "a cache of 1048576")],
)  # fmt: skip
def test_shapes_that_can_not_work(prefill, cache, words):
    with pytest.raises(EdgeError, match=words):
        tflite.shape_of(prefill, cache)
    assert tflite.shape_of((256, 64, 256), 512) == tflite.Shape((64, 256), 512)


# --- refusals of the host ---------------------------------------------------------------------------------------------


def never(_spec):
    raise AssertionError("no environment should be asked for")


@pytest.fixture
def checkpoint(tmp_path):
    return read_checkpoint(checkpoints.make(tmp_path / "model"), "functiongemma")


@pytest.mark.parametrize("exporter", [tflite, litertlm, task])
def test_where_converters_have_no_packages(checkpoint, exporter, tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    made = exporter.export(checkpoint, ["int8", "f32"], tmp_path / "out", "m", QUIET, never)
    assert made.artifacts == []
    assert [m["what"] for m in made.missing] == [f"m_{t}_ekv1024.{exporter.FORMAT}" for t in ("q8", "f32")]
    assert all("aarch64" in m["why"] and "GGUF can be exported here" in m["why"] for m in made.missing)


def test_options_that_are_none(checkpoint, tmp_path):
    arguments = (checkpoint, ["int8"], tmp_path, "m", QUIET, never)
    with pytest.raises(EdgeError, match="no profile 'flutter'") as caught:
        task.export(*arguments, profile="flutter")
    assert "flutter_gemma" in caught.value.hint
    with pytest.raises(EdgeError, match="no bundler"):
        task.export(*arguments, bundler="old")


def test_another_dialect(tmp_path):
    record = read_checkpoint(checkpoints.make(tmp_path / "model"), "hermes")
    arguments = (record, ["int8"], tmp_path, "m", QUIET, never)
    with pytest.raises(
        EdgeError, match=r"no \.litertlm for the dialect hermes: of a Gemma 3 \(text\) LiteRT-LM reads functiongemma"
    ):
        litertlm.export(*arguments)
    with pytest.raises(EdgeError, match="no turn markers are known for the dialect hermes"):
        task.export(*arguments, profile="turns")


def test_a_change_elsewhere_converts_nothing_again(checkpoint, tmp_path, monkeypatch):
    """A conversion is expensive: its key holds the digests of the files that decide what comes out."""
    job = Job(checkpoint, "tflite", tmp_path, "m", QUIET, never)
    asked = []
    monkeypatch.setattr(archive, "digest", lambda *names: asked.append(names) or "d")
    key = tflite._key(job, tflite.parse("int8"), tflite.Shape())
    assert asked == [(*tflite._CODE, "edge/dialects/")] and set(tflite._CODE) < set(archive.files())
    others = [tflite._key(job, tflite.parse(q), s) for q, s in (("f32", tflite.Shape()), ("int8", tflite.Shape((64,))))]
    assert len({key, *others}) == 3 and tflite._key(job, tflite.parse("int8"), tflite.Shape()) == key


# --- environments -----------------------------------------------------------------------------------------------------


def test_what_is_left_out_of_an_environment(tmp_path):
    spec = environments.spec(environments.script("task"))
    assert "jax" in spec.without and "Linux x86_64" in spec.platforms
    flag, file = environments._without(spec, tmp_path / "o")
    assert flag == "--overrides" and "jax; sys_platform == 'never'" in Path(file).read_text().splitlines()
    pins = {p.partition("==")[0] for p in spec.pins}
    assert "mediapipe" in pins and not pins & set(spec.without)
    assert environments._without(environments.spec(environments.script("gguf")), tmp_path / "o") == []


def test_generations_that_contradict_each_other():
    new, old = (set(environments.spec(environments.script(w)).pins) for w in ("task", "task_legacy"))
    assert {"numpy==1.26.4", "mediapipe==0.10.21"} <= old and {"numpy==2.4.6", "mediapipe==0.10.35"} <= new
    assert "protobuf==4.25.9" in old  # the litertlm worker's is 7
    assert {"torch==2.13.0", "litert-torch==0.10.0"} <= set(environments.spec(environments.script("tflite")).pins)


# --- tokens -----------------------------------------------------------------------------------------------------------


class Processor:
    """As much of SentencePiece as is asked for. kinds: text -> control?"""

    def __init__(self, pieces, control=("<eos>", "<bos>", "<pad>"), split=()):
        self.pieces, self.control, self.split = list(pieces), control, split

    def vocab_size(self):
        return len(self.pieces)

    def unk_id(self):
        return 0

    def piece_to_id(self, text):
        return self.pieces.index(text) if text in self.pieces else 0

    def is_control(self, n):
        return self.pieces[n] in self.control

    def encode(self, text):
        return [1, 2] if text in self.split else [self.piece_to_id(text)]


PIECES = ["<unk>", "<pad>", "<bos>", *functiongemma.FUNCTION_TOKENS]
ROWS = len(PIECES)


def read(monkeypatch, tmp_path, processor, rows=ROWS):
    monkeypatch.setattr(litert, "_processor", lambda _folder: processor)
    return litert.read_tokens(Folder(tmp_path, {}, {}), dialects.get("functiongemma"), rows)


def test_tokens(monkeypatch, tmp_path):
    tokens = read(monkeypatch, tmp_path, Processor(PIECES))
    assert tokens.start_id == 2 and tokens.pad_id == 1 and tokens.stop == functiongemma.STOP
    assert tokens.stop_ids == [PIECES.index(t) for t in functiongemma.STOP]


@pytest.mark.parametrize(
    ("processor", "rows", "words"),
    [
        (Processor(PIECES), ROWS + 4, "13 pieces, the embedding has 17 rows: a runtime stops"),
        (Processor([*PIECES, "x"]), ROWS, "different models"),
        (Processor([p if p != "<escape>" else "x" for p in PIECES]), ROWS, "lacks <escape>"),
        (Processor(PIECES, split=["<escape>"]), ROWS, "does not read as single pieces: <escape>"),
        (Processor(PIECES, control=["<bos>", "<eos>", "<end_of_turn>"]), ROWS, "single pieces: <end_of_turn>"),
    ],
)
def test_tokenizers_that_would_not_work(monkeypatch, tmp_path, processor, rows, words):
    with pytest.raises(EdgeError, match=words):
        read(monkeypatch, tmp_path, processor, rows)


# --- the template -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [False, True], ids=["text", "parts"])
@pytest.mark.parametrize("case", CASES)
def test_template(case, parts):
    """By Jinja, which is not the runtime's MiniJinja: that one is asked below."""
    messages, tools = CASES[case]
    given = [as_parts(m) if parts else m for m in messages]
    env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    prompt = env.from_string(TEMPLATE).render(messages=given, tools=tools, add_generation_prompt=True)
    assert "<bos>" + prompt == functiongemma.render(messages, tools)


def as_parts(message: dict) -> dict:
    if not isinstance(message.get("content"), str):
        return message
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


# --- pieces of the workers --------------------------------------------------------------------------------------------


@pytest.fixture
def module(monkeypatch):
    monkeypatch.setenv("EDGE_CODE", "unused")
    return lambda name: importlib.import_module(f"edge.export.workers.{name}")


def test_stand_ins(module):
    bundler = module("task")
    finder = bundler._StandIns()
    spec = finder.find_spec("jax.numpy")
    made = finder.create_module(spec)
    assert made.anything.at.all(1, two=2) is not None and finder.find_spec("numpy") is None
    with pytest.raises(AttributeError):
        _ = made.anything.__wrapped__


def test_a_task_that_was_altered(module, tmp_path):
    bundler = module("task")
    (tmp_path / "tokenizer.model").write_bytes(b"tokens")
    tokens = SimpleNamespace(stop=("<eos>",), start="<bos>")
    digest = litert.digest(io.BytesIO(b"model"))

    def look(
        model=b"model", tokenizer=b"tokens", metadata=b"\x2a\x05<eos>\x32\x05<bos>", profile="flutter_gemma", **more
    ):
        file = tmp_path / "m.task"
        with zipfile.ZipFile(file, "w") as z:
            for name, data in zip(bundler.MEMBERS, (model, tokenizer, metadata), strict=True):
                z.writestr(name, data)
            for name, data in more.items():
                z.writestr(name, data)
        return bundler._read_back(file, tmp_path / "tokenizer.model", tokens, profile, digest)

    assert look()["members"] == list(bundler.MEMBERS)
    for fault, words in (
        ({"model": b"other"}, "TF_LITE_PREFILL_DECODE is not what"),
        ({"tokenizer": b"x"}, "TOKENIZER_MODEL is not what"),
        ({"metadata": b"\x2a\x05<end>\x32\x05<bos>"}, r"stop tokens \['<end>'\]"),
        ({"metadata": b"\x2a\x05<eos>\x32\x05<bos>\x42\x01a"}, "1 prompt templates"),
        ({"profile": "turns"}, "0 prompt templates"),
        ({"more": b"x"}, "its members are"),
    ):
        with pytest.raises(GateError, match=words):
            look(**fault)


# --- the real workers -------------------------------------------------------------------------------------------------


def environment(spec):
    lack = environments.missing(spec)
    if lack:
        pytest.skip(f"needs {lack}")
    return environments.ensure(spec, QUIET)


def python_of(script: Path) -> Path:
    return environment(environments.spec(script)).python


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The embedded model, its pad row zeroed as transformers does it, in every format: one conversion."""
    top = tmp_path_factory.mktemp("litert")
    shutil.copytree(tiny.SHIPPED, top / "model", ignore=shutil.ignore_patterns("checkpoint.json"))
    row = 2 * json.loads((top / "model" / "config.json").read_text())["hidden_size"]
    checkpoints.change(top / "model", "model.embed_tokens.weight", value=bytes(row))
    record = read_checkpoint(top / "model", "functiongemma")
    arguments = (top / "out", "m", QUIET, environment)
    found = {"tflite": tflite.export(record, ["f32", "int8", "int4-block32"], *arguments).artifacts}
    found["litertlm"] = litertlm.export(record, ["f32", "int8", "int4-block32"], *arguments).artifacts
    found["task"] = task.export(record, ["int8"], *arguments).artifacts
    found["legacy"] = task.export(record, ["int8"], *arguments, bundler="legacy").artifacts
    found["turns"] = task.export(record, ["int8"], *arguments, profile="turns").artifacts
    found["turns legacy"] = task.export(record, ["int8"], *arguments, profile="turns", bundler="legacy").artifacts
    return SimpleNamespace(record=record, out=top / "out", arguments=arguments, found=found)


@pytest.mark.slow
def test_tflite(made):
    plain, int8, int4 = made.found["tflite"]
    assert [Path(a.path).name for a in (plain, int8, int4)] == [f"m_{t}_ekv1024.tflite" for t in ("f32", "q8", "q4b32")]
    assert plain.bytes > 3 * int8.bytes > 4 * int4.bytes
    for a in (plain, int8, int4):
        assert a.checks["signatures"] == {"prefill": [256], "cache": 1024} and a.context_tokens == 1024
        assert a.checks["decoded"] == 3 and a.stop_tokens == list(functiongemma.STOP)
        columns = json.loads((Path(made.record.path) / "config.json").read_text())["hidden_size"]
        assert a.checks["filled_blocks"] >= columns // 32  # else int4-block32 would not have loaded
        assert load(Artifact, Path(f"{a.path}.json")) == a
    assert sorted(f.suffix for f in made.out.iterdir() if f.is_dir()) == [".worker"] * 4  # no half-made folder


@pytest.mark.slow
def test_what_is_there_is_not_made_again(made):
    """Not even the float32 file, when a quantisation is added."""
    before = {f.name: f.stat().st_mtime_ns for f in made.out.glob("m_*")}

    def only(spec):
        assert spec.name in ("tflite", "litertlm"), spec.name
        return environment(spec)

    assert litertlm.export(made.record, ["int8"], *made.arguments[:3], never).artifacts
    again = litertlm.export(made.record, ["int8-weight-only", "int4-channel"], *made.arguments[:3], only).artifacts
    assert [Path(a.path).name for a in again] == ["m_q8wo_ekv1024.litertlm", "m_q4c_ekv1024.litertlm"]
    assert {n: (made.out / n).stat().st_mtime_ns for n in before} == before
    beside = load(Artifact, made.out / "m_q4c_ekv1024.tflite.json")
    assert beside.checks["filled_blocks"] == made.found["tflite"][0].checks["filled_blocks"]
    assert beside.export_s < made.found["tflite"][0].export_s


@pytest.mark.slow
def test_bundles_carry_the_tflite(made):
    by_name = {a.quantisation: a for a in made.found["tflite"]}
    for kind in ("litertlm", "task", "legacy", "turns", "turns legacy"):
        for a in made.found[kind]:
            assert (
                a.checks["carried_sha256"]
                == by_name[a.quantisation].digest
                == digest_file(by_name[a.quantisation].path)
            )
            assert a.stop_ids == by_name["int8"].stop_ids and len(a.stop_ids) == 3
            assert a.bytes > by_name[a.quantisation].bytes and a.digest == digest_file(a.path)
    assert made.found["litertlm"][0].checks["prefer_activation_type"] == "fp32"
    assert made.found["litertlm"][0].checks["sections"] == ["LlmMetadataProto", "SP_Tokenizer", "TFLiteModel"]
    names = [Path(a.path).name for kind in ("task", "turns legacy") for a in made.found[kind]]
    assert names == ["m_q8_ekv1024.task", "m_q8_ekv1024_turns_legacy.task"]


@pytest.mark.slow
def test_both_generations_of_mediapipe_agree(made):
    """numpy 1.26 and numpy 2.4 side by side: the same members; around a prompt each has its own fields."""
    (new,), (old,) = made.found["task"], made.found["legacy"]
    with zipfile.ZipFile(new.path) as a, zipfile.ZipFile(old.path) as b:
        assert {n: a.read(n) for n in a.namelist()} == {n: b.read(n) for n in b.namelist()}
    assert new.checks["versions"]["numpy"] == "2.4.6" and old.checks["versions"]["numpy"] == "1.26.4"
    assert made.found["turns"][0].checks["prompt_strings"] == 2
    assert made.found["turns legacy"][0].checks["prompt_strings"] == 1


@pytest.mark.slow
def test_litert_lm_renders_as_training_did(made, tmp_path):
    """Byte for byte, through the runtime's own conversation; also with the keys of the tools in another order."""
    cases = [{"messages": m, "tools": t} for m, t in CASES.values()]
    cases += [{"messages": m, "tools": [turned(x) for x in t]} for m, t in CASES.values()]
    file = made.found["litertlm"][1].path
    script = WORKERS / "litert_lm.py"
    answer = worker.run(script, {"model": file, "cases": cases}, tmp_path / "o", python=python_of(script))
    wanted = [functiongemma.render(m, t) for m, t in CASES.values()] * 2
    for case, got, prompt in zip([*CASES, *CASES], answer["rendered"], wanted, strict=True):
        assert "<bos>" + got == prompt, case


def turned(value):
    """The same declaration with every mapping's keys in the opposite order."""
    if isinstance(value, dict):
        return {k: turned(v) for k, v in reversed(value.items())}
    return [turned(v) for v in value] if isinstance(value, list) else value


WEATHER = tool("get_weather", "Gets the weather.", {"city": {"type": "string", "description": "The city"}})
PROMPTS = [  # what the embedded model says to them matters less than that everybody says the same
    ("Set an alarm for 07:30", [ALARM, NONE]),
    ("What is the weather in Berlin?", [WEATHER, ALARM]),
    ("Turn all the lights off please", [NONE, WEATHER]),
    ("Play some calm music at volume 0.5", [PLAY, ALARM]),
]


@pytest.mark.slow
def test_litert_lm_generates_what_the_checkpoint_does(made, tmp_path):
    """Greedy, from raw prompts: float32 to the letter; int8 the same in every bundle that carries it."""
    talks = [[{"role": "developer", "content": SENTENCE}, {"role": "user", "content": text}] for text, _ in PROMPTS]
    prompts = [functiongemma.render(m, tools) for m, (_, tools) in zip(talks, PROMPTS, strict=True)]
    script, request = WORKERS / "litert_lm.py", {"prompts": prompts, "max_tokens": 64}
    stop = list(functiongemma.STOP)
    reference = worker.run(
        script, {**request, "checkpoint": made.record.path, "stop": stop}, tmp_path / "r",
        python=python_of(environments.script("transformers")),
    )["texts"]  # fmt: skip
    assert functiongemma.parse(reference[0]).calls, reference
    asked = {kind: made.found[kind][-1] for kind in ("task", "legacy")}
    asked |= {a.quantisation: a for a in made.found["litertlm"]}
    texts, python = {}, python_of(script)
    for kind, artifact in asked.items():
        told = worker.run(script, {**request, "model": artifact.path}, tmp_path / kind.replace(" ", "-"), python=python)
        texts[kind] = [bare(t) for t in told["texts"]]
    assert texts["f32"] == reference
    assert texts["int8"] == texts["task"] == texts["legacy"]
    same = sum(a == b for a, b in zip(texts["int8"], reference, strict=True))
    assert same >= len(PROMPTS) - 1, (texts["int8"], reference)
    assert all(texts["int4-block32"])  # it loads and writes; what it lost is for the parity gate to say


def bare(text: str) -> str:
    """Whether a stop token is part of the text is the runtime's choice."""
    for token in functiongemma.STOP:
        text = text.removesuffix(token)
    return text


@pytest.mark.slow
def test_litert_lm_reads_its_own_calls(made, tmp_path):
    """The native way: tools given to the runtime, calls back as it parses them; as we parse what it writes."""
    text, tools = PROMPTS[0]
    messages = [{"role": "developer", "content": SENTENCE}, {"role": "user", "content": text}]
    script, model = WORKERS / "litert_lm.py", made.found["litertlm"][0].path
    talk = {"model": model, "conversations": [{"messages": messages, "tools": tools}]}
    (calls,) = worker.run(script, talk, tmp_path / "talk", python=python_of(script))["calls"]
    raw = {"model": model, "prompts": [functiongemma.render(messages, tools)], "max_tokens": 64}
    (written,) = worker.run(script, raw, tmp_path / "raw", python=python_of(script))["texts"]
    ours = functiongemma.parse(written).calls
    assert ours and calls == [{"name": call.name, "arguments": call.arguments} for call in ours], written
