"""GGUF: names of quantisations, the header, vocabularies and their check; and (slow) the workers, with llama.cpp."""

from __future__ import annotations

import importlib
import json
import math
import shutil
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import checkpoints
import pytest

from edge import dialects, environments, worker
from edge.console import Console
from edge.errors import EdgeError, GateError, MissingError
from edge.export import gemma3, gguf_file, quantisations, token_check, vocabulary
from edge.export.checkpoint import Folder, inspect
from edge.export.gguf_file import Entry
from edge.export.vocabulary import CONTROL, NORMAL, UNUSED, USER_DEFINED, Piece

WORKERS = Path(__file__).parent / "workers"
NUMPY = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_0-emb-q4_0", "q8_0-emb-q4_0"]
LLAMA = ["q2_k", "q3_k_m", "q4_k_s", "q4_k_m", "q5_k_m", "q6_k", "iq4_nl", "iq4_xs", "iq3_m", "q4_k_m-emb-q5_0"]

# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "canonical", "made_by", "file_type", "embedding"),
    [
        ("q8_0", "q8_0", "numpy", 7, "q8_0"),
        ("Q4_0", "q4_0", "numpy", 2, "q8_0"),
        ("q4_0-emb-q4_0", "q4_0-emb-q4_0", "numpy", 2, "q4_0"),
        ("q4_0-emb-q8_0", "q4_0", "numpy", 2, "q8_0"),
        ("f16", "f16", "numpy", 1, "f16"),
        ("q4_k_m", "q4_k_m", "llama.cpp", 15, None),
        ("q4_k_m-emb-q5_0", "q4_k_m-emb-q5_0", "llama.cpp", 15, "q5_0"),
        ("q4_0-emb-iq4_nl", "q4_0-emb-iq4_nl", "llama.cpp", 2, "iq4_nl"),
    ],
)
def test_names(name, canonical, made_by, file_type, embedding):
    q = quantisations.parse(name)
    assert (q.name, q.made_by, q.file_type, q.embedding) == (canonical, made_by, file_type, embedding)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("q4_k", "did you mean q4_k_"),
        ("int8", "there are: f32"),
        ("q4_0-emb-q3", "did you mean q3_k"),
        ("q4_0-emb-", "no embedding type"),
        ("iq2_xs", "importance matrix"),
        ("", "no quantisation"),
    ],
)
def test_names_that_are_none(name, words):
    with pytest.raises(EdgeError) as caught:
        quantisations.parse(name)
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_each_once_and_at_least_one():
    assert [q.name for q in quantisations.parse_all(["q8_0", "f16", "Q8_0"])] == ["q8_0", "f16"]
    with pytest.raises(EdgeError, match="no quantisation given"):
        quantisations.parse_all([])


def test_estimates_of_the_270m():
    """Against files that were made: 157, 291 and 253 MB (facts of 2026-11-20)."""
    matrices, embedding, vectors = 100_270_080, 167_772_160, 55_936
    for name, megabytes in (("q4_0-emb-q4_0", 157.0), ("q8_0", 291.0), ("q4_0", 240.9), ("f16", 542.3)):
        estimate = quantisations.parse(name).estimate_bytes(matrices, embedding, vectors) / 1e6
        assert megabytes <= estimate <= megabytes + 7
    for name, megabytes in (("q4_k_m", 252.6), ("q6_k", 282.5), ("q2_k", 236.6), ("iq4_nl", 241.8)):
        assert megabytes <= quantisations.parse(name).estimate_bytes(matrices, embedding, vectors) / 1e6


# --- the header -------------------------------------------------------------------------------------------------------


ENTRIES = [
    Entry("general.architecture", "string", "gemma3"),
    Entry("a.number", "uint32", 7),
    Entry("a.float", "float32", 0.5),
    Entry("a.flag", "bool", True),
    Entry("a.flags", "array:bool", [True, False]),
    Entry("a.words", "array:string", ["", "온도", "\n"]),
    Entry("a.scores", "array:float32", [-1.5, 2.0]),
]


def written(path: Path) -> list[gguf_file.TensorPlace]:
    places = gguf_file.place([("a", (4, 32), "q4_0"), ("b", (3,), "f32"), ("c", (2, 32), "f16")])
    data = b"".join(bytes([n]) * gguf_file.padded(p.nbytes) for n, p in enumerate(places))
    path.write_bytes(gguf_file.pack_header(len(ENTRIES), gguf_file.pack_entries(ENTRIES), places) + data)
    return places


def test_header_round_trip(tmp_path):
    places = written(tmp_path / "x.gguf")
    header = gguf_file.verify(tmp_path / "x.gguf", places)
    assert header.metadata == {e.key: e.value for e in ENTRIES}
    assert header.tensors == {p.name: p for p in places} and header.data_start % 32 == 0
    assert header.types() == {"q4_0": 1, "f32": 1, "f16": 1}
    assert [p.offset for p in places] == [0, 96, 128] and places[0].nbytes == 72


@pytest.mark.parametrize("keep", [0, 3, 20, 100, -1, -200])
def test_cut_off_files(tmp_path, keep):
    places = written(tmp_path / "x.gguf")
    whole = (tmp_path / "x.gguf").read_bytes()
    (tmp_path / "y.gguf").write_bytes(whole[:keep])
    with pytest.raises(EdgeError, match=r"y\.gguf"):
        gguf_file.verify(tmp_path / "y.gguf", places)


def test_other_tensors_than_expected(tmp_path):
    written(tmp_path / "x.gguf")
    with pytest.raises(EdgeError, match="tensor d is None"):
        gguf_file.verify(tmp_path / "x.gguf", gguf_file.place([("d", (4,), "f32")]))


# --- the vocabulary ---------------------------------------------------------------------------------------------------

BASE = [
    Piece("<pad>", 0, CONTROL),
    Piece("<eos>", 0, CONTROL),
    Piece("<unused0>", 0, USER_DEFINED),
    Piece("a", -1, NORMAL),
]


def test_added_tokens_lie_over_the_pieces():
    added = {2: {"content": "<call>", "special": True}, 4: {"content": "<image>", "special": True}, 5: {"content": "x"}}
    built = vocabulary.build(BASE, added, 5, visible=["<call>"])
    assert [p.text for p in built.pieces] == ["<pad>", "<eos>", "<call>", "a", "<image>"]
    assert [p.type for p in built.pieces] == [CONTROL, CONTROL, USER_DEFINED, NORMAL, CONTROL]
    assert (built.padded, built.beyond) == (0, ["x"])


def test_spare_rows_and_spare_pieces():
    built = vocabulary.build(BASE, {}, 6)
    assert built.padded == 2 and built.pieces[5] == Piece("[PAD5]", -10000.0, UNUSED)
    assert built.pieces[2].type == CONTROL  # <unused0> is not to be printed
    with pytest.raises(EdgeError, match="4 pieces, the embedding has 3 rows"):
        vocabulary.build(BASE, {}, 3)


def test_user_defined_spaces_are_written_as_spaces():
    built = vocabulary.build([*BASE, Piece("\u2581\u2581", 0, USER_DEFINED)], {}, 5)
    assert built.pieces[4].text == "  " and built.ids["  "] == 4


def test_tokens_that_are_missing_or_spelled():
    built = vocabulary.build([*BASE, Piece("<call>", -5, NORMAL)], {}, 5)
    assert vocabulary.require(built, ["<eos>"], "here") == {"<eos>": 1}
    with pytest.raises(EdgeError, match="here: the tokenizer spells <call> in several pieces"):
        vocabulary.require(built, ["<eos>", "<call>"], "here")
    with pytest.raises(EdgeError, match="here: the tokenizer lacks <escape> <x>"):
        vocabulary.require(built, ["<eos>", "<escape>", "<x>"], "here")


def test_files_that_contradict_each_other(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {"7": {"content": "<a>"}}}))
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"added_tokens": [{"id": 7, "content": "<b>", "special": True}]})
    )
    with pytest.raises(EdgeError, match="id 7 is '<b>', in another file of the folder '<a>'"):
        vocabulary.added_tokens(Folder(tmp_path, {}, {}))


def test_ends():
    ids = {"<eos>": 1, "<end_of_turn>": 5, "<sfr>": 9}
    assert vocabulary.ends(("<end_of_turn>", "<sfr>", "<eos>"), ids, "<eos>") == vocabulary.Ends(1, 5, 9)
    assert vocabulary.ends(("<eos>",), ids, "<eos>") == vocabulary.Ends(1, None, None)


def test_template_is_the_checkpoints_own_if_it_has_one(tmp_path):
    folder = Folder(tmp_path, {}, {})
    assert vocabulary.chat_template(folder, "D") == ("D", "dialect")
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": [{"name": "default", "template": "C"}]})
    )
    assert vocabulary.chat_template(folder, "D") == ("C", "tokenizer_config.json")
    (tmp_path / "chat_template.jinja").write_text("J")
    assert vocabulary.chat_template(folder, "D") == ("J", "chat_template.jinja")


# --- the check of the tokenizer ---------------------------------------------------------------------------------------


def test_strings_are_hundreds_and_always_the_same():
    dialect = dialects.get("functiongemma")
    found = token_check.strings(dialect, dialect.FUNCTION_TOKENS)
    assert len(found) == len(set(found)) > 350 and all(found)
    assert found == token_check.strings(dialect, dialect.FUNCTION_TOKENS)
    assert sum(not token_check.exotic(t) for t in found) > 300
    assert any("<start_function_call>call:set_thermostat{" in t for t in found)


def test_tokenizer_merges_by_score_and_cuts_markers_out_first():
    pieces = [
        Piece(t, s, NORMAL) for t, s in (("a", -9), ("b", -9), ("ab", -1), ("bb", 0), ("\u2581", -9), ("\u2581a", -3))
    ]
    pieces += [Piece("<m>", 0, CONTROL), Piece("  ", 0, USER_DEFINED), Piece("<0xC3>", 0, 6), Piece("<0xA9>", 0, 6)]
    tokenise = token_check.Tokenizer(pieces)
    assert tokenise("abb") == [0, 3]  # bb scores best
    assert tokenise("ab a") == [2, 5]
    assert tokenise("a<m>b") == [0, 6, 1]
    assert tokenise("a   b") == [0, 7, 4, 1]
    assert tokenise("é") == [8, 9]


def test_differences_are_counted_and_shown(tmp_path):
    token_check.save([("a", [1]), ("b\u2028", [2, 3])], tmp_path / "tokens.jsonl")
    pairs = token_check.load(tmp_path / "tokens.jsonl")
    assert token_check.check(pairs, lambda t: [1] if t == "a" else [2, 3], "it") == 2
    with pytest.raises(
        GateError, match=r"it tokenises 1 of 2 strings otherwise .*from token 1 on \[4\], expected \[3\]"
    ):
        token_check.check(pairs, lambda t: [1] if t == "a" else [2, 4], "it")
    (tmp_path / "tokens.jsonl").write_text('{"text": "a", "ids": [1]}\n{}\n')
    with pytest.raises(EdgeError, match="line 2"):
        token_check.load(tmp_path / "tokens.jsonl")


# --- the gguf worker's own checks, without its environment ------------------------------------------------------------


@pytest.fixture
def exporter(monkeypatch):
    monkeypatch.setenv("EDGE_CODE", str(Path(__file__).parent))
    return importlib.import_module("edge.export.workers.gguf")


def test_disk_is_checked_before_anything_is_written(exporter, tmp_path, monkeypatch):
    plan = gemma3.weights(gemma3.read(inspect(checkpoints.make(tmp_path / "m"))))
    chosen = quantisations.parse_all(["f32", "q8_0"])
    exporter._check_disk(tmp_path, plan, chosen)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1_000_000))
    with pytest.raises(MissingError, match=r"MB are needed for f32, q8_0, 1 MB are free"):
        exporter._check_disk(tmp_path, plan, chosen)


def test_rows_that_fit_no_block(exporter, tmp_path):
    folder = checkpoints.make(tmp_path / "m", intermediate_size=100)
    plan = gemma3.weights(gemma3.read(inspect(folder)))
    exporter._check_blocks(plan, quantisations.parse_all(["f16"]))
    with pytest.raises(EdgeError, match=r"q4_0: rows of .*down_proj.* have 100 elements, no multiple of 32"):
        exporter._check_blocks(plan, quantisations.parse_all(["q4_0"]))


def test_a_broken_tokenizer_json(exporter, tmp_path, monkeypatch):
    def from_file(path):
        raise Exception("expected value at line 1 column 1")

    package = SimpleNamespace(Tokenizer=SimpleNamespace(from_file=from_file))
    monkeypatch.setitem(sys.modules, "tokenizers", package)
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")
    with pytest.raises(EdgeError, match=r"tokenizer\.json: not a tokenizer .*line 1 column 1") as caught:
        exporter.Tokens._check_json(SimpleNamespace(pairs=[]), file)
    assert "base model" in caught.value.hint


# --- the real workers -------------------------------------------------------------------------------------------------


def python_of(name: str) -> Path:
    spec = environments.spec(environments.script(name))
    lack = environments.missing(spec)
    if lack:
        pytest.skip(f"needs {lack}")
    return environments.ensure(spec, Console(quiet=True)).python


def export(folder: Path, out: Path, names: list[str], dialect: str = "functiongemma") -> dict:
    request = {"checkpoint": str(folder), "name": "m", "quantisations": names, "dialect": dialect}
    return worker.run(environments.script("gguf"), request, out, python=python_of("gguf"))


def quantise(source: Path, out: Path, names: list[str], **more: str) -> dict:
    request = {"source": str(source), "name": "m", "quantisations": names, "threads": 1, **more}
    return worker.run(environments.script("quantise"), request, out, python=python_of("quantise"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkpoint and everything that numpy makes of it."""
    top = tmp_path_factory.mktemp("gguf")
    folder = checkpoints.make(top / "model")
    return folder, top / "out", export(folder, top / "out", NUMPY)


@pytest.mark.slow
def test_export(made):
    _, out, answer = made
    assert [a["quantisation"] for a in answer["artifacts"]] == NUMPY
    for a in answer["artifacts"]:
        q = quantisations.parse(a["quantisation"])
        assert a["bytes"] == (out / a["file"]).stat().st_size and a["file_type"] == q.file_type
        tensors = gguf_file.read(out / a["file"]).tensors
        assert tensors["token_embd.weight"].type == q.embedding and tensors["blk.5.ffn_up.weight"].type == q.matrix
        assert tensors["output_norm.weight"].type == "f32"
    assert answer["stop_ids"] == [5, 10, 1] and answer["context_tokens"] == 1024
    checks = answer["checks"]
    assert checks["tokenizer_strings_checked"] > 350 and checks["tokenizer_mismatches"] == 0
    assert checks["tokenizer_exotic_mismatches"] == 0
    assert checks["padded_rows"] == checkpoints.SPARE_ROWS and checks["tensors"] == 80
    assert answer["chat_template_source"] == "dialect"


@pytest.mark.slow
def test_metadata(made):
    """What both readers ask for, and the types of the tokens."""
    told = gguf_file.read(made[1] / "m-q4_0.gguf").metadata
    expected = {
        "general.architecture": "gemma3", "general.file_type": 2, "general.quantization_version": 2,
        "gemma3.rope.local.freq_base": 1e4, "gemma3.attention.sliding_window_pattern": [True] * 5 + [False],
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default", "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.eot_token_id": 5, "tokenizer.ggml.eom_token_id": 10,
        "tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
    }  # fmt: skip
    assert {k: told.get(k) for k in expected} == expected
    assert told["tokenizer.chat_template"] == dialects.get("functiongemma").CHAT_TEMPLATE
    types = dict(zip(told["tokenizer.ggml.tokens"], told["tokenizer.ggml.token_type"], strict=True))
    assert types["<start_function_call>"] == types["<escape>"] == types["  "] == USER_DEFINED
    assert types["<eos>"] == CONTROL and types["<0x0A>"] == 6 and types["<unk>"] == 2 and types["a"] == NORMAL
    assert (
        told["tokenizer.ggml.tokens"][-1] == f"[PAD{len(types) - 1}]"
        and told["tokenizer.ggml.token_type"][-1] == UNUSED
    )


@pytest.mark.slow
def test_bit_for_bit_what_llama_writes(made, tmp_path):
    """Every tensor of every type that numpy makes, norms and their +1 included."""
    again = [n for n in NUMPY if n != "f32"]
    answer = quantise(made[1] / "m-f32.gguf", tmp_path / "out", again)
    assert [a["quantisation"] for a in answer["artifacts"]] == again
    for name in again:
        ours, theirs = made[1] / f"m-{name}.gguf", tmp_path / "out" / f"m-{name}.gguf"
        mine, other = gguf_file.read(ours), gguf_file.read(theirs)
        assert set(mine.tensors) == set(other.tensors) and mine.metadata == other.metadata
        for t in mine.tensors:
            assert mine.tensors[t].type == other.tensors[t].type, (name, t)
            assert _data(ours, mine, t) == _data(theirs, other, t), (name, t)


def _data(path: Path, header: gguf_file.Header, name: str) -> bytes:
    t = header.tensors[name]
    with path.open("rb") as f:
        f.seek(header.data_start + t.offset)
        return f.read(t.nbytes)


@pytest.mark.slow
def test_k_and_i_types(made, tmp_path):
    answer = quantise(made[1] / "m-bf16.gguf", tmp_path / "out", LLAMA)
    told = {a["quantisation"]: a for a in answer["artifacts"]}
    assert list(told) == LLAMA
    assert answer["checks"] == {"tensors": 80, "tokenizer_strings_checked": _strings(made), "tokenizer_mismatches": 0}
    assert sum(told["q4_k_m"]["fell_back"].values()) == 42  # rows of 64 and 128: all matrices
    assert told["q4_k_m-emb-q5_0"]["bytes"] < told["q4_k_m"]["bytes"]
    header = gguf_file.read(tmp_path / "out" / "m-q4_k_m-emb-q5_0.gguf")
    assert header.tensors["token_embd.weight"].type == "q5_0"


def _strings(made) -> int:
    return made[2]["checks"]["tokenizer_strings_checked"]


@pytest.mark.slow
def test_logits_are_those_of_transformers(made, tmp_path):
    """In float32 and float16, over a text longer than the sliding window; every quantisation loads and runs."""
    folder, out, _ = made
    ids = [2] + [20 + 7 * n % 300 for n in range(99)]
    script = WORKERS / "logits.py"
    worker.run(script, {"checkpoint": str(folder), "ids": ids}, tmp_path / "hf", python=python_of("transformers"))
    quantise(out / "m-f16.gguf", tmp_path / "k", LLAMA)
    files = [str(f) for f in sorted([*out.glob("*.gguf"), *(tmp_path / "k").glob("*.gguf")])]
    request = {"files": files, "ids": ids, "reference": str(tmp_path / "hf" / "logits.npy")}
    answer = worker.run(script, request, tmp_path / "compared", python=python_of("llama_cpp"))
    found, deviation = answer["found"], answer["deviation"]
    assert len(found) == len(NUMPY) + len(LLAMA)
    for name in ("m-f32.gguf", "m-f16.gguf"):
        assert found[name]["top1"] == 1.0 and found[name]["max_abs"] < 0.02 * deviation, found[name]
    assert all(math.isfinite(f["max_abs"]) for f in found.values())
    assert found["m-q8_0.gguf"]["max_abs"] < found["m-q4_0.gguf"]["max_abs"]


@pytest.mark.slow
def test_shards_and_dtypes_come_out_the_same(made, tmp_path):
    sharded = checkpoints.make(tmp_path / "sharded", shards=3)
    export(sharded, tmp_path / "out", ["q8_0"])
    assert (tmp_path / "out" / "m-q8_0.gguf").read_bytes() == (made[1] / "m-q8_0.gguf").read_bytes()
    halves = checkpoints.make(tmp_path / "halves", dtype="F16")
    assert export(halves, tmp_path / "out16", ["f16", "f32"])["checks"]["tensors"] == 80


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_weights_that_are_not_finite(tmp_path, dtype):
    bad = {
        "F16": struct.pack("<2H", 0x7C00, 0x7E00),
        "BF16": struct.pack("<2H", 0x7F80, 0x7FC0),
        "F32": struct.pack("<2f", math.inf, math.nan),
    }
    folder = checkpoints.make(tmp_path / "m", dtype=dtype)
    checkpoints.change(folder, "model.layers.2.mlp.up_proj.weight", value=bad[dtype])
    with pytest.raises(EdgeError) as caught:
        export(folder, tmp_path / "out", ["bf16"])
    assert "model.layers.2.mlp.up_proj.weight" in caught.value.message and caught.value.exit_code == 2
    assert "1 NaN and 1 infinite weights of 8192" in caught.value.message
    assert ("float16" in caught.value.hint) == (dtype == "F16")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_weights_beyond_float16(tmp_path):
    folder = checkpoints.make(tmp_path / "m", dtype="F32")
    checkpoints.change(folder, "model.layers.0.mlp.up_proj.weight", value=struct.pack("<f", 1e6))
    with pytest.raises(EdgeError, match="1e\\+06 is beyond float16"):
        export(folder, tmp_path / "out", ["q4_0"])
    assert export(folder, tmp_path / "out", ["bf16"])["artifacts"]


@pytest.mark.slow
def test_tokenizers_that_would_not_work(tmp_path):
    plain = [m for m in checkpoints.MARKERS if "function" not in m]
    folder = checkpoints.make(tmp_path / "plain", markers=plain)
    with pytest.raises(EdgeError, match="the tokenizer lacks <start_function_declaration>"):
        export(folder, tmp_path / "out", ["f16"])

    folder = checkpoints.make(tmp_path / "m")
    pieces = checkpoints.vocabulary(checkpoints.MARKERS)
    spelled = [(t, s, checkpoints.NORMAL if t == "<escape>" else k) for t, s, k in pieces]
    more = [(f"x{n}", -9.0, checkpoints.NORMAL) for n in range(checkpoints.SPARE_ROWS + 1)]
    model = folder / "tokenizer.model"
    for data, words in (
        (checkpoints.sentencepiece_model(spelled), "spells <escape> in several pieces"),
        (checkpoints.sentencepiece_model(pieces, kind=1), "a unigram model"),
        (checkpoints.sentencepiece_model(pieces, dummy_prefix=True), "adds a space in front"),
        (checkpoints.sentencepiece_model(pieces + more), "pieces, the embedding"),
        (b"not a model", "not a SentencePiece model"),
    ):
        model.write_bytes(data)
        with pytest.raises(EdgeError, match=words):
            export(folder, tmp_path / "out", ["f16"])
    model.write_bytes(checkpoints.sentencepiece_model(pieces))
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE"}}')
    with pytest.raises(EdgeError, match=r"tokenizer\.json: not a tokenizer"):
        export(folder, tmp_path / "out", ["f16"])
    (folder / "tokenizer.json").write_text('{"added_tokens": [{"content": "<escape>"}]}')
    with pytest.raises(EdgeError, match="the added tokens of its tokenizer can't be read"):
        export(folder, tmp_path / "out", ["f16"])
    model.unlink()
    with pytest.raises(EdgeError, match=r"tokenizer\.model: missing; it holds the pieces' scores"):
        export(folder, tmp_path / "out", ["f16"])


@pytest.mark.slow
def test_function_tokens_only_in_the_json(tmp_path):
    """As in a checkpoint whose tokens were put on spare rows: they count, and print."""
    spare = [f"<unused{n}>" if m == "<escape>" else m for n, m in enumerate(checkpoints.MARKERS)]
    folder = checkpoints.make(tmp_path / "m", markers=spare)
    with pytest.raises(EdgeError, match="lacks <escape>"):
        export(folder, tmp_path / "out", ["f16"])
    row = 4 + checkpoints.MARKERS.index("<escape>")
    told = {"added_tokens_decoder": {str(row): {"content": "<escape>", "special": True}}}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    answer = export(folder, tmp_path / "out", ["f16"])
    assert answer["checks"]["function_tokens"]["<escape>"] == row
    quantise(tmp_path / "out" / "m-f16.gguf", tmp_path / "k", ["q8_0"])  # llama.cpp agrees
    assert gguf_file.read(tmp_path / "out" / "m-f16.gguf").metadata["tokenizer.ggml.token_type"][row] == USER_DEFINED


@pytest.mark.slow
def test_space_as_a_token(tmp_path):
    """As in edge-tiny: SentencePiece's own space, written out, is the one thing that llama.cpp reads otherwise."""
    folder = checkpoints.make(tmp_path / "m", markers=[*checkpoints.MARKERS, "\u2581"])
    checks = export(folder, tmp_path / "out", ["f16"])["checks"]
    assert 1 <= checks["tokenizer_exotic_mismatches"] <= 3
    again = quantise(tmp_path / "out" / "m-f16.gguf", tmp_path / "k", ["q8_0"])["checks"]
    assert again["tokenizer_strings_checked"] == checks["tokenizer_strings_checked"] > 350


@pytest.mark.slow
def test_refusals_of_the_workers(made, tmp_path):
    folder, out, _ = made
    with pytest.raises(EdgeError, match="q4_k_m: made by llama"):
        export(folder, tmp_path / "o", ["q4_k_m"])
    with pytest.raises(EdgeError, match="the tokenizer lacks <tool_call>"):
        export(folder, tmp_path / "o", ["f16"], dialect="hermes")
    with pytest.raises(EdgeError, match=r"m-q8_0\.gguf: quantised already \(q8_0\)"):
        quantise(out / "m-q8_0.gguf", tmp_path / "o", ["q4_k_m"])
    with pytest.raises(EdgeError, match="cut off"):
        (tmp_path / "cut.gguf").write_bytes((out / "m-f16.gguf").read_bytes()[:5000])
        quantise(tmp_path / "cut.gguf", tmp_path / "o", ["q4_k_m"])
    lines = (out / "tokens.jsonl").read_text().splitlines()
    row = json.loads(lines[0])
    (tmp_path / "tokens.jsonl").write_text(json.dumps({**row, "ids": [*row["ids"][:-1], 0]}) + "\n")
    with pytest.raises(GateError, match="tokenises 1 of 1 strings otherwise"):
        quantise(out / "m-f16.gguf", tmp_path / "o", ["q8_0"], tokens=str(tmp_path / "tokens.jsonl"))
