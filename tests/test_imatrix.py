"""Importance matrices: names, the file, faults; and (slow) made from edge-tiny, and what they gain under 4 bits."""

from __future__ import annotations

import array
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge import cli, environments, records, worker
from edge.console import Console
from edge.dialects import functiongemma
from edge.errors import EdgeError
from edge.export import gguf, gguf_file, importance, quantisations
from edge.export.importance import Importance
from edge.export.job import read_checkpoint
from edge.train import tiny
from edge.train.generator import rows as generate

FAMILY = Path(__file__).parent / "workers" / "family.py"
MATRIX = Importance("c" * 64, "r" * 64, 2, 30, {
    f"blk.{n}.{part}.weight": array.array("f", [0.5 * n + c + 1 for c in range(columns)])
    for n in range(2) for part, columns in (("attn_q", 4), ("ffn_down", 6))
})  # fmt: skip

# --- names ------------------------------------------------------------------------------------------------------------


def test_names_of_matrices():
    assert importance.gguf_name("model.layers.11.mlp.down_proj") == "blk.11.ffn_down.weight"
    assert importance.gguf_name("model.layers.0.self_attn.o_proj") == "blk.0.attn_output.weight"
    assert importance.gguf_name("lm_head") is None
    for other in ("model.layers.0.mlp.experts.3.up_proj", "model.vision.layers.0.self_attn.q_proj", "score"):
        with pytest.raises(EdgeError, match="not known here"):
            importance.gguf_name(other)


@pytest.mark.parametrize("name", quantisations.NEED_IMPORTANCE)
def test_low_bits_need_one(name):
    with pytest.raises(EdgeError, match="needs an importance matrix") as caught:
        quantisations.parse(name)
    assert "--importance ROWS.jsonl" in caught.value.hint
    q = quantisations.parse(name, importance=True)
    assert q.name == name and q.weighted and q.made_by == "llama.cpp"


def test_what_it_changes():
    weighted = {n for n in quantisations.PRESETS if quantisations.parse(n, importance=True).weighted}
    assert set(quantisations.PRESETS) - weighted == {"f32", "f16", "bf16", "q8_0"}


def test_the_command_refuses_before_it_begins(tmp_path):
    runner = CliRunner()
    given = ["export", "gguf", str(tiny.SHIPPED), "--out", str(tmp_path / "o"), "--quant", "iq3_xxs"]
    told = runner.invoke(cli.main, given)
    assert told.exit_code == 2 and "needs an importance matrix" in told.output
    told = runner.invoke(cli.main, [*given, "--unproven", "--importance", str(tmp_path / "none.jsonl")])
    assert told.exit_code == 2 and "none.jsonl: no such file" in told.output
    assert not (tmp_path / "o").exists()


# --- the file ---------------------------------------------------------------------------------------------------------


def test_round_trip(tmp_path):
    importance.write(tmp_path / "m", MATRIX)
    found = importance.read(tmp_path / "m")
    assert replace(found, columns={}) == replace(MATRIX, columns={})
    assert {n: pytest.approx(list(v)) for n, v in MATRIX.columns.items()} == {
        n: list(v) for n, v in found.columns.items()
    }
    header = gguf_file.read(tmp_path / "m")  # as llama.cpp's tools have it: sums, and of how many
    assert header.tensors["blk.0.attn_q.weight.in_sum2"].shape == (1, 4)
    assert header.tensors["blk.0.attn_q.weight.counts"].shape == (1, 1) and header.metadata["general.type"] == "imatrix"


@pytest.mark.parametrize("keep", [0, 100, 400, -40, -200])
def test_truncated(tmp_path, keep):
    importance.write(tmp_path / "m", MATRIX)
    (tmp_path / "cut").write_bytes((tmp_path / "m").read_bytes()[:keep])
    with pytest.raises(EdgeError, match="cut"):
        importance.read(tmp_path / "cut")


@pytest.mark.parametrize("bad", [[math.nan, 1, 1, 1], [math.inf, 1, 1, 1], [-1, 1, 1, 1], [0, 0, 0, 0]])
def test_no_means_of_squares(tmp_path, bad):
    columns = {**MATRIX.columns, "blk.1.attn_q.weight": array.array("f", bad)}
    importance.write(tmp_path / "m", replace(MATRIX, columns=columns))
    with pytest.raises(EdgeError, match=r"blk\.1\.attn_q\.weight: not means of squares"):
        importance.read(tmp_path / "m")


def source() -> gguf_file.Header:
    shapes = {"token_embd.weight": (9, 4), "output_norm.weight": (4,), "blk.0.attn_norm.weight": (4,)}
    shapes |= {n: (5, len(v)) for n, v in MATRIX.columns.items()}
    places = gguf_file.place((n, s, "f32") for n, s in shapes.items())
    return gguf_file.Header({}, {p.name: p for p in places}, 0)


def test_of_this_model(tmp_path):
    importance.check(MATRIX, "c" * 64, source(), tmp_path)
    with pytest.raises(EdgeError, match=r"of another model \(cccccccccccc, not dddddddddddd\)"):
        importance.check(MATRIX, "d" * 64, source(), tmp_path)
    short = {**MATRIX.columns, "blk.1.attn_q.weight": array.array("f", [1, 2, 3])}
    with pytest.raises(EdgeError, match=r"1 of 4 matrices .* blk\.1\.attn_q\.weight has 3 columns, expected 4"):
        importance.check(replace(MATRIX, columns=short), "c" * 64, source(), tmp_path)
    less = {n: v for n, v in MATRIX.columns.items() if "ffn" not in n}
    with pytest.raises(EdgeError, match=r"2 of 4 matrices .* has None columns, expected 6"):
        importance.check(replace(MATRIX, columns=less), "c" * 64, source(), tmp_path)


# --- the real thing ---------------------------------------------------------------------------------------------------

NAMES = ["f16", "q8_0", "q4_0", "q2_k"]
LOW = ["iq3_xxs", "iq2_m"]


def python_of(name: str) -> Path:
    spec = environments.spec(environments.script(name))
    lack = environments.missing(spec)
    if lack:
        pytest.skip(f"needs {lack}")
    return environments.ensure(spec, Console(quiet=True)).python


def export(out: Path, names: list[str], rows: Path | None):
    console = Console(quiet=True)
    record = read_checkpoint(tiny.SHIPPED, "functiongemma")
    return gguf.export(record, names, out, "t", console, lambda s: environments.ensure(s, console), rows=rows).artifacts


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """edge-tiny's files without and with an importance matrix, and the rows that it is of."""
    python_of("quantise")
    top = tmp_path_factory.mktemp("imatrix")
    rows = top / "rows.jsonl"
    records.write_text(rows, "".join(map(_line, generate(100, 7, "train"))))
    return top, rows, export(top / "plain", NAMES, None), export(top / "weighted", [*NAMES, *LOW], rows)


def _line(row: dict) -> str:
    *prompt, answer = row["messages"]
    text = {"prompt": functiongemma.render(prompt, row["tools"]), "completion": functiongemma.completion(answer)}
    return json.dumps(text) + "\n"


@pytest.mark.slow
def test_manifests(made):
    top, rows, plain, weighted = made
    told = {a.quantisation: a.options.get("importance") for a in weighted}
    assert told["f16"] is None and told["q8_0"] is None and not any("importance" in a.options for a in plain)
    assert told["q4_0"] == told["iq2_m"] == {
        "rows_sha256": records.digest_path(rows), "rows": 100, "tokens": told["q4_0"]["tokens"]
    }  # fmt: skip
    assert 100 * 50 < told["q4_0"]["tokens"] < gguf.IMPORTANCE_TOKENS
    digests = [{a.quantisation: a.digest for a in made} for made in (plain, weighted)]
    assert digests[0]["q8_0"] == digests[1]["q8_0"] and digests[0]["f16"] == digests[1]["f16"]
    assert digests[0]["q4_0"] != digests[1]["q4_0"] and digests[0]["q2_k"] != digests[1]["q2_k"]
    found = importance.read(top / "weighted" / "t.imatrix")
    assert len(found.columns) == 6 * 7 and found.checkpoint == read_checkpoint(tiny.SHIPPED, "functiongemma").digest
    header = gguf_file.read(top / "weighted" / "t-iq3_xxs.gguf")
    assert "iq3_xxs" in header.types()


@pytest.mark.slow
def test_it_helps(made, tmp_path):
    """Closer to float32's expectations, over a held-out row: smaller KL with than without, and than with a wrong one."""
    top, _, _, _ = made
    found = importance.read(top / "weighted" / "t.imatrix")
    turned = {n: array.array("f", reversed(v)) for n, v in found.columns.items()}
    importance.write(tmp_path / "turned", replace(found, columns=turned))
    (tmp_path / "tokens.jsonl").write_text("")
    request = {"source": str(top / "plain" / "t-f16.gguf"), "name": "turned", "quantisations": ["q2_k"], "threads": 1,
               "tokens": str(tmp_path / "tokens.jsonl"), "checkpoint": found.checkpoint,
               "importance": str(tmp_path / "turned")}  # fmt: skip
    worker.run(environments.script("quantise"), request, tmp_path / "q", python=python_of("quantise"))
    shutil.copy(tmp_path / "q" / "turned-q2_k.gguf", top / "weighted")
    script, ids = FAMILY, _held_out(tmp_path)
    worker.run(script, {"do": "reference", "checkpoint": str(tiny.SHIPPED), "ids": ids}, tmp_path / "hf",
               python=python_of("transformers"))  # fmt: skip
    kl = {}
    for kind in ("plain", "weighted"):
        request = {"do": "compare", "files": [str(f) for f in sorted((top / kind).glob("*.gguf"))], "ids": ids,
                   "reference": str(tmp_path / "hf" / "logits.npy")}  # fmt: skip
        answer = worker.run(script, request, tmp_path / kind, python=python_of("llama_cpp"))
        kl[kind] = {name: told["kl"] for name, told in answer["found"].items()}
    print(json.dumps(kl, indent=1))
    for name in ("q4_0", "q2_k"):
        assert kl["weighted"][f"t-{name}.gguf"] < kl["plain"][f"t-{name}.gguf"], kl
    assert kl["weighted"]["turned-q2_k.gguf"] > 1.1 * kl["weighted"]["t-q2_k.gguf"], kl
    assert kl["weighted"]["t-iq3_xxs.gguf"] < kl["plain"]["t-q2_k.gguf"], kl


def _held_out(folder: Path) -> list[int]:
    """Some 450 tokens of an unseen conversation."""
    text = json.loads(_line(next(iter(generate(1, 99, "test")))))
    request = {"do": "encode", "checkpoint": str(tiny.SHIPPED), "text": text["prompt"] + text["completion"]}
    ids = worker.run(FAMILY, request, folder / "ids", python=python_of("transformers"))["ids"]
    assert len(ids) > 100
    return ids[:500]


@pytest.mark.slow
def test_kept_until_the_rows_change(made):
    top, rows, _, weighted = made
    out, file = top / "weighted", top / "weighted" / "t.imatrix"
    before = file.stat().st_mtime_ns
    assert [a.digest for a in export(out, ["q2_k"], rows)] == [a.digest for a in weighted if a.quantisation == "q2_k"]
    export(out, ["iq2_xs"], rows)
    assert file.stat().st_mtime_ns == before
    fewer = top / "fewer.jsonl"
    records.write_text(fewer, "".join(rows.read_text().splitlines(keepends=True)[:40]))
    (again,) = export(out, ["iq2_xs"], fewer)
    assert again.options["importance"]["rows"] == 40 and importance.read(file).rows == 40


@pytest.mark.slow
def test_faults(made, tmp_path):
    """What the quantise worker refuses: another model's matrix, a truncated one, none for what needs one."""
    top, rows, _, _ = made
    out, file = top / "weighted", tmp_path / "m.imatrix"
    worker.run(environments.script("imatrix"), _asked(rows), tmp_path / "made", python=python_of("imatrix"))
    good = tmp_path / "made" / "importance.gguf"
    pairs = tmp_path / "tokens.jsonl"
    pairs.write_text("")

    def quantise(matrix: Path | None, name: str = "iq3_xxs", digest: str = "d" * 64):
        request = {"source": str(out / "t-f16.gguf"), "name": "m", "quantisations": [name], "threads": 1,
                   "tokens": str(pairs), "checkpoint": digest, "importance": str(matrix) if matrix else None}  # fmt: skip
        return worker.run(environments.script("quantise"), request, tmp_path / "q", python=python_of("quantise"))

    assert quantise(good)["checks"]["importance_matrices"] == 42
    with pytest.raises(EdgeError, match="of another model"):
        quantise(good, digest="e" * 64)
    file.write_bytes(good.read_bytes()[:-100])
    with pytest.raises(EdgeError, match="damaged"):
        quantise(file)
    found = importance.read(good)
    importance.write(file, replace(found, columns={n: v for n, v in found.columns.items() if "blk.3" not in n}))
    with pytest.raises(EdgeError, match="7 of 42 matrices are not those of the model"):
        quantise(file)
    with pytest.raises(EdgeError, match="needs an importance matrix"):
        quantise(None)


@pytest.mark.slow
def test_rows_that_are_none(tmp_path):
    rows = tmp_path / "rows.jsonl"
    for text, words in (('{"prompt": "a"}\n', "line 1: not a row"), ("", "no text in it"), ("{", "line 1: not a row"),
                        ('{"prompt": "a", "completion": 3}', "line 1: not a row")):  # fmt: skip
        rows.write_text(text)
        with pytest.raises(EdgeError, match=words):
            worker.run(environments.script("imatrix"), _asked(rows), tmp_path / "o", python=python_of("imatrix"))


def _asked(rows: Path) -> dict:
    return {"checkpoint": str(tiny.SHIPPED), "digest": "d" * 64, "rows": str(rows), "rows_sha256": "r" * 64,
            "most_tokens": 5000, "threads": 1}  # fmt: skip
