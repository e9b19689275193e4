"""What `edge inspect` finds in every format, in files that are whole, cut short, altered or none at all."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import zipfile
import zlib

import artifacts
import checkpoints
import pytest
from artifacts import CACHE, IDS, PREFILL, ROWS, STOPS
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import records
from edge.cli import main
from edge.dialects import functiongemma
from edge.errors import EdgeError
from edge.export import inspect
from edge.export.gguf_file import Entry
from edge.export.inspect import wire
from edge.export.inspect.found import Token

MAKERS = {
    "gguf": lambda top: artifacts.gguf(top / "m.gguf"),
    "tflite": lambda top: tflite_file(top / "m.tflite"),
    "task": lambda top: artifacts.task(top / "m.task"),
    "litertlm": lambda top: artifacts.litertlm(top / "m.litertlm"),
    "onnx": lambda top: artifacts.onnx(top / "m-onnx"),
    "checkpoint": lambda top: artifacts.checkpoint(top / "m"),
    "adapter": lambda top: artifacts.adapter(top / "lora"),
}
FILES = ("gguf", "tflite", "task", "litertlm")


def tflite_file(path, **more):
    path.write_bytes(artifacts.tflite(**more))
    return path


def run(*arguments):
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


# --- every format -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_each_format_is_told_and_shown(name, tmp_path):
    path = MAKERS[name](tmp_path)
    found = inspect.read(path)
    assert found.format == name and found.parameters and found.tensors and found.manifest is None
    shown = run(path)
    assert shown.exit_code == 0 and f": {name}, " in shown.output
    told = json.loads(run(path, "--json").output)
    assert told["sha256"] == found.sha256 and told["format"] == name
    assert set(told) == set(vars(found))  # the same keys for every format


@pytest.mark.parametrize("name", MAKERS)
def test_by_content_whatever_the_name(name, tmp_path):
    """A refused artifact keeps its bytes under another name."""
    path = MAKERS[name](tmp_path)
    if path.is_file():
        path = path.rename(tmp_path / "m.refused")
    assert inspect.read(path).format == name


def test_what_talks_names_its_stops_and_start(tmp_path):
    for name in ("gguf", "task", "litertlm", "onnx"):
        found = inspect.read(MAKERS[name](tmp_path))
        assert {t.text: t.ids for t in found.stops} == {t: (IDS[t],) for t in functiongemma.STOP}, name
        assert found.start == Token((IDS["<bos>"],), "<bos>", "text" if name == "task" else "ids")
        assert found.vocabulary == ROWS == len(found.tokenizer.pieces)
    assert found.tokenizer.kind == "SentencePiece BPE"


def test_gguf(tmp_path):
    found = inspect.read(MAKERS["gguf"](tmp_path))
    assert (found.architecture, found.quantisation, found.context_tokens) == ("gemma3", "q8_0", 1024)
    assert found.tensors["q8_0"].elements == ROWS * 32 and found.tensors["f32"].bytes == 128
    assert found.template == artifacts.TEMPLATE and found.template_sha256
    assert sum(s.bytes for s in found.sections) == found.bytes


def test_texts_that_are_no_utf8(tmp_path):
    name = Entry("general.name", "string", b"\xff\xfe")
    path = artifacts.gguf(tmp_path / "m.gguf", more=(name,), template="{{ a }}")
    assert "general.name ??" in run(path).output
    assert json.loads(run(path, "--json").output)["facts"]["general.name"] == "??"


def test_tflite(tmp_path):
    found = inspect.read(tflite_file(tmp_path / "m.tflite"))
    assert (found.parameters, found.quantisation) == (ROWS * 32, "int8 channel, dynamic")
    assert [(s.name, s.tokens) for s in found.signatures] == [(f"prefill_{PREFILL}", PREFILL), ("decode", 1)]
    assert (found.vocabulary, found.cache_tokens, found.bad_scales) == (ROWS, CACHE, [])
    assert inspect.read(tflite_file(tmp_path / "f", kind="float32")).quantisation == "float32"
    blocks = inspect.read(tflite_file(tmp_path / "b", kind="int4", block=True))
    assert (blocks.parameters, blocks.quantisation) == (ROWS * 32, "int4 block-32, dynamic")  # scales are no parameters
    assert blocks.tensors["float16"].bytes == 2 * ROWS


def test_litertlm(tmp_path):
    found = inspect.read(artifacts.litertlm(tmp_path / "m.litertlm", notice="Gemma is provided under …"))
    assert (found.model_type, found.sampler) == ("function_gemma", "TOP_P k=1 p=1")
    assert (found.asked_tokens, found.cache_tokens) == (CACHE, CACHE)
    assert [s.name for s in found.sections] == ["LlmMetadata", "SP_Tokenizer", "TFLiteModel"]
    assert found.sections[2].facts["prefer_activation_type"] == "fp32"
    assert found.sections[2].sha256 == inspect.read(tflite_file(tmp_path / "m.tflite")).sha256
    assert found.notices == ["Gemma is provided under …"] and found.facts["version"] == "1.7.0"


def test_task(tmp_path):
    found = inspect.read(artifacts.task(tmp_path / "m.task", prefix="<start_of_turn>user\n"))
    assert found.facts["compressed"] == found.facts["lacks"] == []
    assert [s.name for s in found.sections] == ["TF_LITE_PREFILL_DECODE", "TOKENIZER_MODEL", "METADATA"]
    assert found.facts["prompt"] == {"user prefix": "<start_of_turn>user\n"} and found.template is None
    told = [(1, [(2, "u"), (3, "U")]), (2, [(2, "m")])]
    artifacts.task(tmp_path / "m.task", more=[(17, told)], prefix="u")
    assert inspect.read(tmp_path / "m.task").facts["prompt"] == {
        "user prefix": "u",
        "user suffix": "U",
        "model prefix": "m",
    }
    whole, first = (tmp_path / "m.task").read_bytes(), found.sections[0]
    assert records.hashlib.sha256(whole[first.offset :][: first.bytes]).hexdigest() == first.sha256


def test_onnx(tmp_path):
    found = inspect.read(artifacts.onnx(tmp_path / "m"))
    assert (found.architecture, found.vocabulary, found.context_tokens) == ("gemma3_text", ROWS, CACHE)
    assert found.parameters == ROWS * 32 and found.quantisation == "float32"
    assert [s.name for s in found.sections] == ["model.onnx", "model.onnx.data"]
    alone = inspect.read(tmp_path / "m" / "model.onnx")
    assert alone.tokenizer is None and alone.vocabulary == ROWS and alone.facts["opsets"] == {"ai.onnx": 21}


def test_folders(tmp_path):
    found = inspect.read(artifacts.checkpoint(tmp_path / "m"))
    assert (found.architecture, found.vocabulary) == ("gemma3_text", ROWS + checkpoints.SPARE_ROWS)
    assert found.notices == ["LICENSE"] and [t.text for t in found.stops] == ["<eos>"]
    assert set(found.tensors) == {"bf16"} and found.tensors["bf16"].elements == found.parameters
    lora = inspect.read(artifacts.adapter(tmp_path / "lora"))
    assert lora.parameters == 8 and lora.facts["base_model_name_or_path"] == "edge-tiny"


def test_a_tokenizer_of_json(tmp_path):
    """Qwen's folders have no tokenizer.model; a .litertlm carries theirs packed by zlib."""
    told = {
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}},
        "added_tokens": [{"id": 3, "content": "<x>", "special": True}],
    }
    folder = artifacts.checkpoint(tmp_path / "m")
    (folder / "tokenizer.model").unlink()
    (folder / "tokenizer.json").write_text(json.dumps(told))
    found = inspect.read(folder)
    assert found.tokenizer.kind == "Hugging Face BPE" and found.tokenizer.pieces == ["a", "b", "", "<x>"]
    text = json.dumps(told).encode()
    packed = len(text).to_bytes(8, "little") + zlib.compress(text)
    artifacts._container(tmp_path / "m.litertlm", [("t", 6, packed, {})], {})
    assert inspect.read(tmp_path / "m.litertlm").tokenizer.pieces == ["a", "b", "", "<x>"]


# --- manifests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gguf", "tflite", "task", "litertlm", "onnx"])
def test_the_manifest_beside_it(name, tmp_path):
    path = artifacts.manifest(MAKERS[name](tmp_path))
    found = inspect.read(path)
    assert found.manifest.differs is None and found.manifest.error is None and "terms" in found.notices
    assert "agrees" in run(path).output
    altered = path / "model.onnx.data" if path.is_dir() else path
    if name == "task":  # whose own checksums would notice it
        artifacts.task(path, stops=functiongemma.STOP[:1])
    else:
        data = bytearray(altered.read_bytes())
        data[-1] ^= 1
        altered.write_bytes(data)
    assert inspect.read(path).manifest.differs.startswith("altered" if name != "task" else "cut short")
    assert "DIFFERS" in run(path).output and run(path).exit_code == 0


def test_a_manifest_that_is_none(tmp_path):
    path = MAKERS["gguf"](tmp_path)
    (tmp_path / "m.gguf.json").write_text("[]")
    assert "not a Artifact record" in inspect.read(path).manifest.error
    assert "can't be used" in run(path).output


@pytest.mark.parametrize(
    ("key", "value"),
    [("digest", None), ("bytes", "x"), ("quantisation", True), ("context_tokens", "x"), ("notices", [1])],
)
def test_a_manifest_with_a_value_of_another_type(key, value, tmp_path):
    path = artifacts.manifest(MAKERS["gguf"](tmp_path))
    file = tmp_path / f"{path.name}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    assert f"its {key} can't be read" in inspect.read(path).manifest.error
    assert run(path).exit_code == 0 and "can't be used" in run(path).output


def test_our_own_record_in_a_checkpoint(tmp_path):
    folder = artifacts.checkpoint(tmp_path / "m")
    record = records.Checkpoint(
        records.digest_folder(folder), str(folder), "functiongemma", source="here", notices=["n"]
    )
    records.save(record, folder / "checkpoint.json")
    found = inspect.read(folder)
    assert found.manifest.source == "here" and found.manifest.differs is None and found.notices == ["LICENSE", "n"]
    (folder / "chat_template.jinja").write_text("another")
    assert inspect.read(folder).manifest.differs.startswith("altered")


# --- files that are not whole -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.999])
@pytest.mark.parametrize("name", FILES)
def test_cut_short(name, part, tmp_path):
    """Cut anywhere, with and without a manifest."""
    path = MAKERS[name](tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(inspect.Damaged, match=path.name) as caught:
        inspect.read(path)
    assert caught.value.exit_code == 2 and "again" in caught.value.hint
    assert run(path).exit_code == 2
    path.write_bytes(whole)
    artifacts.manifest(path)
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(inspect.Damaged, match=f"cut short: the manifest says {len(whole):,} bytes, the file has"):
        inspect.read(path)


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_altered_anywhere(tmp_path_factory, seed):
    """Any altered bytes: it is read, or it is called damaged; never anything else."""
    top = tmp_path_factory.mktemp("altered")
    draw = random.Random(seed)
    path = MAKERS[draw.choice(FILES)](top)
    data = bytearray(path.read_bytes())
    for _ in range(draw.choice([1, 3, 30])):
        data[draw.randrange(len(data) if draw.random() < 0.5 else min(2000, len(data)))] = draw.randrange(256)
    path.write_bytes(data)
    try:
        inspect.read(path).to_json()
    except EdgeError as error:
        assert path.name in error.message
    shutil.rmtree(top)


@pytest.mark.parametrize(
    "entry",
    [
        Entry("general.file_type", "array:int32", [1, -2]),
        Entry("tokenizer.ggml.bos_token_id", "string", "x"),
        Entry("tokenizer.ggml.eos_token_id", "array:int32", [1, -2]),
        Entry("tokenizer.chat_template", "uint32", 4),
        Entry("tokenizer.ggml.tokens", "array:int32", [1, -2]),
        Entry("tokenizer.ggml.token_type", "uint32", 4),
        Entry("gemma3.context_length", "string", "x"),
    ],
)
def test_values_of_another_type_in_a_gguf(entry, tmp_path):
    shown = run(artifacts.gguf(tmp_path / "m.gguf", more=(entry,)))
    assert shown.exit_code == 2 and "m.gguf: cut short or damaged" in shown.output


@pytest.mark.parametrize("value", ["x", [1], {}, 1.5])
def test_values_of_another_type_in_json(value, tmp_path):
    folder = artifacts.onnx(tmp_path / "onnx")
    for table, key in (("model", "vocab_size"), ("model", "context_length"), ("search", "max_length")):
        told = json.loads((artifacts.onnx(folder) / "genai_config.json").read_text())
        told[table][key] = value or [value]
        (folder / "genai_config.json").write_text(json.dumps(told))
        assert "no whole number" in run(folder).output and run(folder).exit_code == 2
    folder = artifacts.checkpoint(tmp_path / "hf")
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {"3": {"content": [value]}}}))
    assert "no text" in run(folder).output and run(folder).exit_code == 2


def test_a_task_notices_altered_members_by_itself(tmp_path):
    path = artifacts.task(tmp_path / "m.task")
    data = path.read_bytes()
    at = data.index(b"<end_of_turn>")
    path.write_bytes(data[:at] + b"<END_of_turn>" + data[at + 13 :])
    with pytest.raises(inspect.Damaged, match="altered: the checksum of"):
        inspect.read(path)


def test_weights_of_onnx(tmp_path):
    folder = artifacts.onnx(tmp_path / "m")
    weights = folder / "model.onnx.data"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(inspect.Damaged, match=r"model\.onnx\.data: cut short: model\.onnx wants"):
        inspect.read(folder)
    weights.unlink()
    with pytest.raises(inspect.Damaged, match=r"model\.onnx\.data: missing"):
        inspect.read(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(inspect.Damaged, match="names it as the decoder"):
        inspect.read(folder)


def test_folders_that_are_not_whole(tmp_path):
    folder = artifacts.checkpoint(tmp_path / "m")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(inspect.Damaged, match="cut off"):
        inspect.read(folder)
    (artifacts.adapter(tmp_path / "lora") / "adapter_model.safetensors").unlink()
    with pytest.raises(inspect.Damaged, match=r"adapter_model\.safetensors: missing"):
        inspect.read(tmp_path / "lora")


def test_what_is_of_no_format(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as z:
        z.writestr("a", "b")
    for name in ("notes.txt", "empty", "x.zip"):
        shown = run(tmp_path / name)
        assert shown.exit_code == 2 and "of no format that edge reads" in shown.output
        assert "GGUF" in shown.output and ".litertlm" in shown.output and "Hugging Face folder" in shown.output
    nowhere = run(tmp_path / "nowhere").output
    assert "no such file" in nowhere and "check the path" in nowhere


# --- the readers of flatbuffers and protobuf --------------------------------------------------------------------------


def test_protobuf_values():
    data = artifacts.message(
        [(1, 300), (2, "온도"), (3, 0.5), (4, [(1, 7)]), (5, b"\x01\x80\x02"), (5, 9), (6, 2**64 - 1)]
    )
    m = wire.Message(memoryview(data))
    assert (m.number(1), m.text(2), m.real(3), m.message(4).number(1)) == (300, "온도", 0.5, 7)
    assert m.numbers(5) == [1, 256, 9] and m.number(6) == -1
    assert (m.number(9, 4), m.text(9), m.message(9), m.messages(9), 9 in m) == (4, None, None, [], False)


@given(st.binary(max_size=60))
def test_protobuf_of_anything(data):
    with contextlib.suppress(wire.CutOff):
        wire.Message(memoryview(data))


def test_flatbuffer_values():
    data = artifacts.flatbuffer({0: ("Q", 2**40), 2: "text", 3: ("i", [1, -2]), 4: {1: ("b", -3)}, 5: [{0: "a"}, {}]})
    t = wire.root(memoryview(data))
    assert (t.number(0, "Q"), t.number(1, "I", 8), t.text(2), t.numbers(3)) == (2**40, 8, "text", [1, -2])
    assert t.table(4).number(1, "b") == -3 and [x.text(0) for x in t.tables(5)] == ["a", ""]
    assert (t.table(9), t.tables(9), t.text(9), t.numbers(9)) == (None, [], "", [])


def test_stops_are_shown_with_their_ids(tmp_path):
    shown = run(artifacts.litertlm(tmp_path / "m.litertlm", stops=[STOPS[0], "<nowhere>", [5, 6]])).output
    assert (
        f"<end_of_turn> ({IDS['<end_of_turn>']})" in shown and "<nowhere> (no single id)" in shown and "(5 6)" in shown
    )
