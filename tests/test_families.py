"""Families other than Gemma: which format each can be, what is refused, LiteRT-LM's template for Qwen, and (slow) whole
runs: a random-weight model that learns four rows by heart is tuned, exported, run and scored in every runtime."""

from __future__ import annotations

import importlib
import json
import platform
from pathlib import Path
from types import SimpleNamespace

import checkpoints
import families as small
import jinja2
import pytest

from edge import dialects, environments, pipeline, project, worker
from edge.console import Console
from edge.dialects import hermes
from edge.errors import EdgeError
from edge.export import checkpoint, families, gguf, inspect, lint, litert, litertlm, task, tflite
from edge.export.job import read_checkpoint
from edge.records import Measurement, load

QUIET = Console(quiet=True)
WORKERS = Path(__file__).parent / "workers"
TEMPLATE = Path(litert.__file__).with_name("litert_template_hermes.jinja").read_text(encoding="utf-8")


def never(_spec):
    raise AssertionError("no environment should be asked for")


# --- which format -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "exporter", "words"),
    [
        ("qwen2", task, r"a Qwen 2 and 2\.5 can't be exported as task: MediaPipe's bundles carry SentencePiece"),
        ("qwen3", task, r"a Qwen 3 can't be exported as task"),
        ("llama", task, r"a Llama 3 can't be exported as task"),
        (
            "llama",
            litertlm,
            r"a Llama 3 can't be exported as litertlm: LiteRT-LM has no model type that reads its calls",
        ),
    ],
)
def test_formats_that_a_family_can_not_be(tmp_path, kind, exporter, words):
    folder = checkpoints.make_family(tmp_path / "m", kind)
    record = read_checkpoint(folder, families.CONVERTED[kind].dialect)
    with pytest.raises(EdgeError, match=words) as caught:
        exporter.export(record, ["int8"], tmp_path / "o", "m", QUIET, never)
    assert caught.value.hint == "it can be exported as " + ", ".join(families.CONVERTED[kind].formats)


def test_formats_that_a_family_can_be(tmp_path):
    for kind, family in families.CONVERTED.items():
        folder = checkpoint.inspect(checkpoints.make_family(tmp_path / kind, kind))
        assert all(families.require(folder, f) is family for f in family.formats)
        assert {f for f in families.FORMATS if f not in family.formats} <= set(families._WHY)
    gemma = checkpoint.inspect(checkpoints.make(tmp_path / "gemma"))
    assert all(families.require(gemma, f) is families.GEMMA for f in families.FORMATS)


@pytest.mark.parametrize("exporter", [tflite, litertlm, task, gguf])
def test_an_unknown_architecture(tmp_path, exporter):
    """The error says which formats which architectures can be."""
    folder = checkpoints.make_family(tmp_path / "m")
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**told, "model_type": "phi3", "architectures": ["Phi3ForCausalLM"]})
    )
    names = ["f16"] if exporter is gguf else ["int8"]
    with pytest.raises(EdgeError, match=r"'phi3', architectures \['Phi3ForCausalLM'\]: can't be exported") as caught:
        exporter.export(read_checkpoint(folder, "hermes"), names, tmp_path / "o", "m", QUIET, never)
    assert "Qwen 3: gguf, tflite, litertlm; Llama 3: gguf, tflite" in caught.value.hint


def test_tokenizer_file(tmp_path):
    assert families.tokenizer_file(checkpoints.make(tmp_path / "gemma")).name == "tokenizer.model"
    assert families.tokenizer_file(checkpoints.make_family(tmp_path / "qwen")).name == "tokenizer.json"


def test_a_dialect_that_lite_rt_lm_does_not_read_of_this_model(tmp_path):
    record = read_checkpoint(checkpoints.make_family(tmp_path / "m", "qwen3"), "llama3")
    with pytest.raises(
        EdgeError, match=r"no \.litertlm for the dialect llama3: of a Qwen 3 LiteRT-LM reads hermes calls"
    ):
        litertlm.export(record, ["int8"], tmp_path / "o", "m", QUIET, never)


@pytest.mark.parametrize(("kind", "exporter"), [("qwen2", litertlm), ("qwen3", tflite), ("llama", tflite)])
def test_where_converters_have_no_packages(tmp_path, kind, exporter, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    record = read_checkpoint(checkpoints.make_family(tmp_path / "m", kind), families.CONVERTED[kind].dialect)
    made = exporter.export(record, ["int8"], tmp_path / "o", "m", QUIET, never)
    assert not made.artifacts and "aarch64: GGUF can be exported here" in made.missing[0]["why"]


@pytest.mark.parametrize("exporter", [tflite, litertlm, gguf])
def test_what_is_no_merged_checkpoint(tmp_path, exporter):
    """Quantised already, and an adapter: refused by what lies in the folder, with the remedy."""
    folder = checkpoints.make_family(tmp_path / "m")
    record = read_checkpoint(folder, "hermes")
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, "quantization_config": {"quant_method": "bitsandbytes"}}))
    names = ["f16"] if exporter is gguf else ["int8"]
    with pytest.raises(EdgeError, match=r"quantised already.*bitsandbytes") as caught:
        exporter.export(record, names, tmp_path / "o", "m", QUIET, never)
    assert "bfloat16 or float32" in caught.value.hint
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen3-0.6B"}')
    with pytest.raises(EdgeError, match=r"an adapter .*added to Qwen/Qwen3-0\.6B") as caught:
        exporter.export(record, names, tmp_path / "o", "m", QUIET, never)
    assert "edge merge" in caught.value.hint


# --- what a checkpoint holds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", families.CONVERTED)
@pytest.mark.parametrize("tied", [True, False])
def test_plan(tmp_path, kind, tied):
    folder = checkpoint.inspect(checkpoints.make_family(tmp_path / "m", kind, tie_word_embeddings=tied))
    plan = families.plan(folder)
    assert plan.rows == folder.config["vocab_size"] and plan.context == 1024 and plan.elements == folder.parameters
    assert ("lm_head.weight" in plan.shapes) == (not tied)


def test_plan_of_gemma(tmp_path):
    folder = checkpoint.inspect(checkpoints.make(tmp_path / "m"))
    assert families.plan(folder).elements == folder.parameters


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": 3}, "12 of 38 tensors are missing, first model.layers.2"),
        ({"num_hidden_layers": 1}, "12 tensors are unknown, first model.layers.1"),
        ({"hidden_size": 32}, r"model.embed_tokens.weight is \[\d+, 64\], by config.json it should be \[\d+, 32\]"),
        ({"head_dim": 32}, r"q_proj.weight is \[64, 64\], by config.json it should be \[128, 64\]"),
        ({"tie_word_embeddings": False}, "1 of 27 tensors are missing, first lm_head.weight"),
        ({"max_position_embeddings": None}, "max_position_embeddings is None"),
        ({"intermediate_size": "96"}, "intermediate_size is '96', not a whole number"),
        ({"use_sliding_window": True}, "use_sliding_window"),
    ],
)
def test_checkpoints_that_are_not_what_their_config_says(tmp_path, change, words):
    """A loader would fill the gaps with random numbers, and say so in a log that nobody reads."""
    folder = checkpoints.make_family(tmp_path / "m", "qwen2")
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, **change}))
    with pytest.raises(EdgeError, match=words):
        families.plan(checkpoint.inspect(folder))


def test_weights_of_another_type(tmp_path):
    with pytest.raises(EdgeError, match=r"model\.embed_tokens\.weight is I8"):
        families.plan(checkpoint.inspect(checkpoints.make_family(tmp_path / "m", dtype="I8")))
    biased = checkpoints.make_family(tmp_path / "b", "qwen2")
    told = json.loads((biased / "config.json").read_text())
    (biased / "config.json").write_text(json.dumps({**told, "model_type": "llama", "architectures": None}))
    with pytest.raises(EdgeError, match="6 tensors are unknown"):
        families.plan(checkpoint.inspect(biased))
    (biased / "config.json").write_text(
        json.dumps({**told, "model_type": "llama", "architectures": None, "attention_bias": True})
    )
    assert families.plan(checkpoint.inspect(biased)).rows == told["vocab_size"]


# --- tokens -----------------------------------------------------------------------------------------------------------


def tokens_of(folder: Path, dialect: str = "hermes") -> litert.Tokens:
    found = checkpoint.inspect(folder)
    return litert.read_tokens(found, dialects.get(dialect), found.config["vocab_size"])


def test_tokens(tmp_path):
    qwen = tokens_of(checkpoints.make_family(tmp_path / "q", "qwen3"))
    assert qwen.count == 261 and qwen.start is None and not qwen.sentencepiece and qwen.file.name == "tokenizer.json"
    assert qwen.stop_ids == [259, 260] and qwen.pad_id == 260  # <|im_end|> <|endoftext|>
    llama = tokens_of(checkpoints.make_family(tmp_path / "l", "llama"), "llama3")
    assert llama.start_id == 256 and llama.pad_id is None and len(llama.stop_ids) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t["added_tokens"].pop(2), "no token has the id 258"),
        (lambda t: t["added_tokens"][0].update(content="<call>"), "lacks <tool_call> among its added_tokens"),
        (lambda t: t["added_tokens"].append({"id": 270, "content": "x"}), "271 tokens, the embedding has 266 rows"),
        (lambda t: t.pop("model"), "not a tokenizer that can be read"),
        (lambda t: t["model"].update(vocab=5), "not a tokenizer that can be read"),
    ],
)
def test_tokenizers_that_would_not_work(tmp_path, change, words):
    folder = checkpoints.make_family(tmp_path / "m")
    told = json.loads((folder / "tokenizer.json").read_text())
    change(told)
    (folder / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(EdgeError, match=words):
        tokens_of(folder)


def test_no_tokenizer(tmp_path):
    folder = checkpoints.make_family(tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(EdgeError, match=r"tokenizer\.json: missing"):
        tokens_of(folder)


# --- the template -----------------------------------------------------------------------------------------------------

HARD = "a<b>&'c' \"d\" \\ \\\\ \\u003c \\\\u0027 \n\t\x01 é 슬픈"
LIGHT, ALARM = small.TOOLS
ODD = {"type": "function", "function": {"name": "odd", "description": HARD, "parameters": {
    "type": "object", "properties": {HARD: {"type": "string", "enum": ["", HARD], "default": None}}, "examples": [
        1, -2, 1.0, 0.25, True, False, None, [], {}, {"b": 1, "A": [HARD]}]}}}  # fmt: skip
USER = {"role": "user", "content": HARD}
ASKED = [{"role": "system", "content": "Be brief."}, USER]
CALL = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "odd", "arguments": {
    "z": HARD, "a": {"k": [1.5, None]}, HARD: ""}}}]}  # fmt: skip
BOTH = {**CALL, "content": "Well.", "tool_calls": CALL["tool_calls"] * 2}
ANSWER = {"role": "tool", "name": "odd", "content": {"a": HARD, "ok": True}}  # the runtime sorts its keys
CASES = {
    "no tools": ([USER], []),
    "tools": (ASKED, small.TOOLS),
    "hard strings": (ASKED, [ODD, LIGHT]),
    "a bare declaration": (ASKED, [ALARM["function"]]),
    "a call and its answer": ([*ASKED, CALL, ANSWER], [ODD]),
    "text, calls, answers": ([*ASKED, BOTH, ANSWER, {**ANSWER, "content": "as text"}], [ODD]),
    "a second question": ([*ASKED, CALL, ANSWER, {"role": "assistant", "content": "Done."}, USER], [ODD]),
}


@pytest.mark.parametrize("parts", [False, True], ids=["text", "parts"])
@pytest.mark.parametrize("case", CASES)
def test_template(case, parts):
    """By Jinja, which is not the runtime's MiniJinja: that one is asked below."""
    messages, tools = CASES[case]
    given = [as_parts(m) if parts else m for m in messages]
    env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    env.filters["tojson"] = lambda v: str(jinja2.utils.htmlsafe_json_dumps(v, ensure_ascii=False))
    prompt = env.from_string(TEMPLATE).render(messages=given, tools=tools, add_generation_prompt=True)
    assert prompt == hermes.render(messages, tools)


def as_parts(message: dict) -> dict:
    """As LiteRT-LM hands content to a template."""
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": [{"type": "text", "text": content}]}
    return {**message, "content": [content]} if isinstance(content, dict) else message


def test_the_template_is_within_the_runtimes_jinja():
    found = SimpleNamespace(template=TEMPLATE)
    assert not list(lint._template_beyond(found))


# --- the real thing ---------------------------------------------------------------------------------------------------


def environment(spec):
    lack = environments.missing(spec)
    if lack:
        pytest.skip(f"needs {lack}")
    return environments.ensure(spec, QUIET)


EXPORTS = {
    "qwen3": 'gguf = ["f16"]\nlitertlm = ["f32", "int8"]',
    "llama": 'gguf = ["f16", "q8_0"]',
}


@pytest.fixture(scope="module", params=EXPORTS)
def run(request, tmp_path_factory):
    """`edge run` from a random-weight model to a report."""
    for name in ("convert_hf", "tflite", "llama_cpp"):
        lack = environments.missing(environments.spec(environments.script(name)))
        if lack:
            pytest.skip(f"needs {lack}")
    folder = small.project(tmp_path_factory.mktemp(request.param), request.param, EXPORTS[request.param])
    outcome = pipeline.run(project.load(folder / "edge.toml"), QUIET)
    return SimpleNamespace(family=request.param, folder=folder, outcome=outcome)


def measured(run, name: str) -> Measurement:
    return load(Measurement, run.folder / "results" / f"{name}.json")


@pytest.mark.slow
def test_it_learns_and_every_runtime_calls_right(run):
    """From nothing right to everything, in the checkpoint and in each artifact."""
    right = {c["name"]: c["rows"]["right"] for c in run.outcome.report.cells}
    artifacts = ["f16", "litertlm-f32", "litertlm-int8"] if run.family == "qwen3" else ["f16", "q8_0"]
    assert right == {"base": 0, **dict.fromkeys(["tuned", *artifacts], len(small.ROWS))} and not run.outcome.missing
    told = json.loads((run.folder / "build" / "tuned" / "checkpoint.json").read_text())
    losses = [loss for _, loss in told["training"]["loss"]]
    assert losses[0] > 4 and losses[-1] < 0.2 and told["dialect"] == small.DIALECTS[run.family]


@pytest.mark.slow
def test_every_runtime_sees_the_same_prompt(run):
    """By the number of tokens, row by row: another id in a prompt would be another cut."""
    counts = {
        m.subject_name: {s.row: s.prompt_tokens for s in m.samples}
        for m in (load(Measurement, f) for f in (run.folder / "results").glob("*.json") if f.name != "report.json")
    }
    assert len(counts) >= 4 and len({json.dumps(c, sort_keys=True) for c in counts.values()}) == 1, counts


@pytest.mark.slow
def test_llama_cpp_cuts_the_prompts_as_transformers(run, tmp_path):
    rows = [json.loads(line) for line in (run.folder / "build" / "data" / "train.jsonl").read_text().splitlines()]
    texts = [row["prompt"] + row["completion"] for row in rows]
    folder = run.folder / "build" / "tuned"
    told = {"do": "encode_all", "checkpoint": str(folder), "texts": texts}
    python = environment(environments.spec(environments.script("transformers"))).python
    wanted = worker.run(small.SCRIPT, told, tmp_path / "a", python=python)["ids"]
    told = {
        "do": "encode_all",
        "file": str(run.folder / "build" / "artifacts" / f"{run.family}-f16.gguf"),
        "texts": texts,
    }
    python = environment(environments.spec(environments.script("llama_cpp"))).python
    assert worker.run(small.SCRIPT, told, tmp_path / "b", python=python)["ids"] == wanted


@pytest.mark.slow
def test_nothing_is_wrong_with_the_artifacts(run):
    """Neither by lint nor by what was read back: stops by id, the model type, the tokenizer whole."""
    for artifact in run.outcome.artifacts:
        assert lint.check(artifact.path) == []
        assert artifact.stop_tokens[:1] == [dialects.get(artifact.dialect).STOP[0]]
    if run.family == "qwen3":
        bundle = next(a for a in run.outcome.artifacts if a.format == "litertlm")
        found = inspect.read(bundle.path)
        assert bundle.checks["sections"] == ["LlmMetadataProto", "HF_Tokenizer_Zlib", "TFLiteModel"]
        assert found.model_type == "qwen3" and found.start is None and bundle.checks["cut_rows"] == 5
        assert [(t.text, list(t.ids)) for t in found.stops] == [
            (t, [n]) for t, n in zip(hermes.STOP, bundle.stop_ids, strict=True)
        ]


def qwen_only(run) -> str:
    if run.family != "qwen3":
        pytest.skip("LiteRT-LM's bundles are made of Qwen")
    return next(a.path for a in run.outcome.artifacts if a.format == "litertlm" and a.quantisation == "f32")


def talk(run, tmp_path: Path, request: dict) -> dict:
    script = WORKERS / "litert_lm.py"
    request = {"model": qwen_only(run), "max_tokens": 100, **request}
    return worker.run(script, request, tmp_path / "o", python=environment(environments.spec(script)).python)


@pytest.mark.slow
def test_litert_lm_renders_as_training_did(run, tmp_path):
    """Byte for byte, through the runtime's own conversation; a declaration comes to it whole."""
    cases = [{"messages": m, "tools": t} for name, (m, t) in CASES.items() if name != "a bare declaration"]
    rendered = talk(run, tmp_path, {"cases": cases})["rendered"]
    for case, got in zip(cases, rendered, strict=True):
        assert got == hermes.render(case["messages"], case["tools"])


@pytest.mark.slow
def test_litert_lm_reads_the_calls_itself(run, tmp_path):
    """The native way: tools given to the runtime, calls back as it parses them, one and two at once."""
    talks = [
        {"messages": [{"role": "system", "content": "Be brief."}, small.messages(*row)[0]], "tools": small.TOOLS}
        for row in small.ROWS
    ]
    found = talk(run, tmp_path, {"conversations": talks})["calls"]
    assert found == [[{"name": n, "arguments": a} for n, a in calls] for _, calls in small.ROWS]


@pytest.mark.slow
def test_litert_lm_goes_on_talking_as_training_would(run, tmp_path):
    """What is fed of each further message, and what the model answered, make up the prompt of the whole conversation."""
    said, answer = (
        small.messages(*small.ROWS[0])[0],
        {"role": "tool", "name": "light", "content": {"ok": True, "room": "x"}},
    )
    told = {"tools": small.TOOLS, "first": said, "answer": answer, "next": USER, "sends": 2}
    ((first, second),) = talk(run, tmp_path, {"dialogues": [told]})["dialogues"]
    messages = [said, {"role": "assistant", **{k: v for k, v in first[2].items() if k == "tool_calls"}}, answer]
    assert first[1] == hermes.render(messages[:1], small.TOOLS)
    whole = first[1] + hermes.completion(messages[1]) + second[1]
    assert whole == hermes.render(messages, small.TOOLS)


@pytest.mark.slow
def test_a_bundle_that_was_altered(run, tmp_path, monkeypatch):
    """Read back are the tokenizer and the stop ids: a changed byte in either is noticed."""
    bundle = Path(qwen_only(run))
    monkeypatch.setenv("EDGE_CODE", "unused")
    module = importlib.import_module("edge.export.workers.litertlm")
    assert module._unpacked(b"12345678" + b"no zlib") == ""
    found = inspect.read(bundle)
    part = next(s for s in found.sections if s.name == "HF_Tokenizer")
    data = bytearray(bundle.read_bytes())
    whole = module._unpacked(bytes(data[part.offset : part.offset + part.bytes]))
    data[part.offset + 40] ^= 1
    assert whole != "" and module._unpacked(bytes(data[part.offset : part.offset + part.bytes])) != whole
