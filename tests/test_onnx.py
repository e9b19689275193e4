"""ONNX folders: names, refusals; and (slow) the worker, both runtimes, what inspect and lint say, faults put in."""

from __future__ import annotations

import functools
import importlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import checkpoints
import pytest

from edge import archive, dialects, environments, worker
from edge.console import Console
from edge.dialects import functiongemma, hermes
from edge.errors import EdgeError, GateError
from edge.export import inspect, lint, onnx, onnx_model
from edge.export.checkpoint import inspect as look
from edge.export.job import Job, manifest_of, read_checkpoint
from edge.records import Artifact, digest_path, load, size_path
from edge.train import generator, tiny

WORKERS = Path(__file__).parent / "workers"
QUIET = Console(quiet=True)
ALL = ["int4", "int8", "int4-emb-int8", "f32"]

# --- names ------------------------------------------------------------------------------------------------------------


def test_names():
    assert [onnx_model.parse(n).tag for n in ("f32", "INT8", " int4 ", "int4-emb-int8")] == ["f32", "q8", "q4", "q4e8"]
    assert [q.name for q in onnx_model.parse_all(["int8", "f32", "Int8"])] == ["int8", "f32"]


@pytest.mark.parametrize(
    ("name", "words"), [("q8", "did you mean int8?"), ("int8-emb-int4", "did you mean"), ("q8_0", "there are: f32 int8"), ("", "there")]
)  # fmt: skip
def test_names_that_are_none(name, words):
    with pytest.raises(EdgeError, match="no quantisation") as caught:
        onnx_model.parse(name)
    assert words in caught.value.hint
    with pytest.raises(EdgeError, match="no quantisation given"):
        onnx_model.parse_all([])


# --- refusals of the host ---------------------------------------------------------------------------------------------


def never(_spec):
    raise AssertionError("no environment should be asked for")


@pytest.fixture
def model(tmp_path):
    """A copy of the embedded model, to be changed."""
    ignore = shutil.ignore_patterns("checkpoint.json")
    return Path(shutil.copytree(tiny.SHIPPED, tmp_path / "model", ignore=ignore))


def edit(file: Path, change) -> None:
    told = json.loads(file.read_text())
    change(told)
    file.write_text(json.dumps(told))


def export(model, out, quantisations=("int8",), dialect="functiongemma", environment=never, **more):
    record = read_checkpoint(model, dialect)
    return onnx.export(record, list(quantisations), out, "m", QUIET, environment, **more)


def scaled(config):
    config["rope_parameters"]["full_attention"] = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c.update(model_type="qwen3", architectures=["Qwen3ForCausalLM"]),
            "a Qwen 3 can't be exported as onnx",
        ),
        (lambda c: c.update(hidden_size=128), "by config.json it should be"),
        (scaled, "rope scaling by 8"),
    ],
)
def test_models_that_can_not_be_exported(model, tmp_path, change, words):
    edit(model / "config.json", change)
    with pytest.raises(EdgeError, match=words):
        export(model, tmp_path / "out")


@pytest.mark.parametrize(("columns", "words"), [(96, "no multiple of 64"), (80, "no multiple of 32")])
def test_rows_that_are_no_whole_blocks(tmp_path, columns, words):
    """k_quant writes an odd count of blocks wrongly, or not at all."""
    model = checkpoints.make(tmp_path / "model", "F32", hidden_size=columns, vocab_size=3072)
    for file in tiny.SHIPPED.glob("token*"):
        shutil.copyfile(file, model / file.name)
    with pytest.raises(EdgeError, match=f"{columns} elements, {words}"):
        export(model, tmp_path / "out", ["int4" if columns == 96 else "int8"])


@pytest.mark.parametrize("context", [1, 4097])
def test_contexts_that_can_not_work(model, tmp_path, context):
    with pytest.raises(EdgeError, match=f"a context of {context} tokens: the model was trained for at most 4096"):
        export(model, tmp_path / "out", context=context)


def without(token):
    def change(told):
        told["added_tokens"] = [t for t in told["added_tokens"] if t["content"] != token]
        told["model"]["vocab"].pop(token, None)

    return change


def plain(told):
    """<escape> as an ordinary piece, which a tokenizer reaches by merges only."""
    told["added_tokens"] = [t for t in told["added_tokens"] if t["content"] != "<escape>"]
    told["model"]["vocab"]["<escape>"] = 13


def larger(told):
    told["added_tokens"].append({"id": 3072, "content": "<spoken>", "special": False})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("<start_function_call>"), "lacks <start_function_call>"),
        (plain, "spells in several pieces: <escape>"),
        (larger, "3,073 pieces, the embedding has 3,072 rows"),
        (lambda told: told.pop("model"), "no tokenizer.json"),
    ],
)
def test_tokenizers_that_would_not_work(model, tmp_path, change, words):
    edit(model / "tokenizer.json", change)
    with pytest.raises(EdgeError, match=words):
        export(model, tmp_path / "out")


def test_no_tokenizer(model, tmp_path):
    (model / "tokenizer.json").unlink()
    with pytest.raises(EdgeError, match=r"tokenizer\.json: missing; onnxruntime-genai reads no other"):
        export(model, tmp_path / "out")


def test_another_dialect(model, tmp_path):
    with pytest.raises(EdgeError, match=r"lacks .*im_end"):
        export(model, tmp_path / "out", dialect="hermes")
    assert "<|im_end|>" in hermes.STOP


def test_special_tokens_beyond_the_rows(model):
    """Gemma 3's tokenizer.json has an image token that its text models have no row for."""
    edit(model / "tokenizer.json", lambda t: t["added_tokens"].append({"id": 3072, "content": "<x>", "special": True}))
    tokens = onnx_model.read(look(model), dialects.get("functiongemma"))[1]
    assert (tokens.start_id, tokens.pad_id, tokens.stop_ids) == (2, 0, [5, 6, 1])
    assert tokens.stop == functiongemma.STOP


def test_what_makes_another_folder(model, tmp_path, monkeypatch):
    job = Job(read_checkpoint(model, "functiongemma"), "onnx", tmp_path / "out", "m", QUIET, never)
    asked = []
    monkeypatch.setattr(archive, "digest", lambda *names: asked.append(names) or "d")
    key = functools.partial(onnx._key, job)
    keys = [key(onnx_model.parse(q), c) for q, c in (("int8", 4096), ("int8", 2048), ("int4", 4096), ("f32", 4096))]
    assert len(set(keys)) == 4 and key(onnx_model.parse("int8"), 4096) == keys[0]
    assert asked[0] == (*onnx._CODE, "edge/dialects/") and set(onnx._CODE) < set(archive.files())


def test_environments():
    """Running takes no torch, and both are of one generation."""
    make, run = (set(environments.spec(environments.script(n)).pins) for n in ("onnx", "onnxruntime"))
    assert {"onnxruntime==1.31.1", "onnxruntime-genai==0.18.0", "torch==2.13.0"} <= make
    assert run < make and not any(p.startswith(("torch", "onnxruntime-genai")) for p in run)


def test_a_configuration_that_was_altered(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_CODE", "unused")
    made = importlib.import_module("edge.export.workers.onnx")
    tokens = onnx_model.Tokens(2, 0, ("<a>", "<b>"), [5, 1])
    right = {"eos_token_id": [5, 1], "bos_token_id": 2, "pad_token_id": 0, "context_length": 64}

    def check(longest=64, **changes):
        told = {"model": {**right, **changes}, "search": {"max_length": longest}}
        (tmp_path / "genai_config.json").write_text(json.dumps(told))
        made._check_config(tmp_path / "genai_config.json", tokens, 64)

    check()
    for fault in (
        {"eos_token_id": [5]},
        {"eos_token_id": 1},
        {"bos_token_id": 1},
        {"context_length": 65},
        {"longest": 65},
    ):
        with pytest.raises(GateError, match=next(iter(fault)).replace("longest", "max_length")):
            check(**fault)


# --- the real worker --------------------------------------------------------------------------------------------------


def environment(spec):
    return environments.ensure(spec, QUIET)


def python_of(name: str) -> Path:
    return environment(environments.spec(environments.script(name))).python


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The embedded model in every quantisation, float32 last: what the builder does to the weights would show there."""
    top = tmp_path_factory.mktemp("onnx")
    artifacts = export(tiny.SHIPPED, top / "out", ALL, environment=environment).artifacts
    return SimpleNamespace(out=top / "out", by_name={a.quantisation: a for a in artifacts})


@pytest.mark.slow
def test_folders(made):
    int4, int8, mixed, plain = (made.by_name[q] for q in ALL)
    assert [Path(a.path).name for a in (int4, int8, mixed, plain)] == [
        f"m_{t}_onnx" for t in ("q4", "q8", "q4e8", "f32")
    ]
    assert int4.bytes < mixed.bytes < int8.bytes < plain.bytes / 2.5
    for a in (int4, int8, mixed, plain):
        folder = Path(a.path)
        assert (
            load(Artifact, manifest_of(folder)) == a
            and a.digest == digest_path(folder)
            and a.bytes == size_path(folder)
        )
        assert (a.stop_ids, a.stop_tokens, a.context_tokens) == ([5, 6, 1], list(functiongemma.STOP), 4096)
        told = json.loads((folder / "genai_config.json").read_text())
        assert told["model"]["eos_token_id"] == a.stop_ids and told["search"]["do_sample"] is False
        for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja"):
            assert (folder / name).read_bytes() == (tiny.SHIPPED / name).read_bytes()
        assert a.checks["tokenizer_strings_checked"] > 380 and a.checks["tokenizer_exotic_mismatches"] <= 2
    assert [a.checks["embedding"] for a in (int4, int8, mixed, plain)] == ["int4", "int8", "int8", "float32"]
    assert plain.checks["kl"] < 1e-9 and plain.checks["same_token"] == 1
    assert plain.checks["kl"] < int8.checks["kl"] < 0.01 < mixed.checks["kl"] < int4.checks["kl"] < 0.5
    assert sorted(f.name for f in made.out.iterdir() if f.is_dir() and f.name.startswith(".")) == [".onnx.worker"]


@pytest.mark.slow
def test_what_is_there_is_not_made_again(made, tmp_path):
    again = export(tiny.SHIPPED, made.out, ALL)
    assert {a.quantisation: a for a in again.artifacts} == made.by_name
    here = Path(shutil.copytree(made.out, tmp_path / "out"))
    (here / "m_q8_onnx" / "genai_config.json").write_text("{}")
    with pytest.raises(AssertionError, match="no environment"):
        export(tiny.SHIPPED, here, ["int8"])


@pytest.mark.slow
def test_arithmetic_of_another_shape(tmp_path):
    """A window shorter than the probe, a soft cap, an embedding scale that is no round number: float32 would stray."""
    model = checkpoints.make(
        tmp_path / "model", "F32", hidden_size=192, intermediate_size=192, vocab_size=3072, final_logit_softcapping=20.0
    )
    for file in tiny.SHIPPED.glob("token*"):
        shutil.copyfile(file, model / file.name)
    (made,) = export(model, tmp_path / "out", ["f32"], environment=environment, context=512).artifacts
    assert made.checks["kl"] < 1e-9 and made.checks["positions"] > 8 and made.context_tokens == 512
    assert made.notices and (Path(made.path) / "NOTICE").read_text() == f"{made.notices[0]}\n"


@pytest.fixture(scope="module")
def rows():
    found = []
    for n, row in enumerate(generator.rows(16, seed=5, split="test", lang="en", kind="call")):
        *before, answer = row["messages"]
        prompt = functiongemma.render(before, row["tools"])
        found.append({"id": str(n), "prompt": prompt, "completion": functiongemma.completion(answer)})
    return found


def run(name: str, path: object, rows, out: Path, reference: Path | None = None):
    script = WORKERS / "onnx_runs.py"
    request = {"runtime": name, "path": str(path), "rows": rows, "stop": list(functiongemma.STOP), "max_tokens": 80}
    request["reference"] = str(reference) if reference else None
    return worker.run(script, request, out, python=python_of("onnx" if name == "genai" else name))


@pytest.fixture(scope="module")
def reference(rows, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "r"
    return SimpleNamespace(out=out, **run("transformers", tiny.SHIPPED, rows, out))


@pytest.mark.slow
def test_parity_with_the_checkpoint(made, rows, reference, tmp_path):
    """Token by token over the right answers, and the calls that it writes itself."""
    right = [functiongemma.parse(t).calls for t in reference.texts]
    assert sum(map(bool, right)) >= 10, reference.texts  # else equal calls would say little
    found = {q: run("onnxruntime", made.by_name[q].path, rows, tmp_path / q, reference.out) for q in ALL}
    for q in ALL:
        assert found[q]["ids"] == reference.ids
    assert found["f32"]["kl"] < 1e-9 and found["f32"]["same"] == 1
    assert found["f32"]["texts"] == reference.texts
    assert found["f32"]["kl"] < found["int8"]["kl"] < 0.01 and found["int8"]["same"] > 0.98
    assert found["int4-emb-int8"]["kl"] < found["int4"]["kl"] < 0.5 and found["int4"]["same"] > 0.85
    same = sum(functiongemma.parse(t).calls == calls for t, calls in zip(found["int8"]["texts"], right, strict=True))
    assert same >= 14, (found["int8"]["texts"], reference.texts)


@pytest.mark.slow
def test_onnxruntime_genai_writes_the_same(made, rows, reference, tmp_path):
    """The runtime that apps use, by its own tokenizer, stop ids and search settings."""
    for q in ("f32", "int8"):
        ours = run("onnxruntime", made.by_name[q].path, rows[:8], tmp_path / q)["texts"]
        theirs = run("genai", made.by_name[q].path, rows[:8], tmp_path / f"genai-{q}")["texts"]
        assert ours == theirs
        assert q != "f32" or ours == reference.texts[:8]


@pytest.mark.slow
def test_inspect_and_lint(made, tmp_path):
    weights = inspect.read(tiny.SHIPPED).parameters
    kinds = {"f32": "float32", "int8": "int8 (MatMulNBits)", "int4": "int4 (MatMulNBits)",
             "int4-emb-int8": "int4 (MatMulNBits) + int8 (MatMulNBits)"}  # fmt: skip
    for q, a in made.by_name.items():
        found = inspect.read(a.path)
        assert (found.quantisation, found.parameters, found.vocabulary) == (kinds[q], weights, 3072)
        assert [t.ids[0] for t in found.stops] == a.stop_ids and found.manifest.differs is None
        assert found.facts["embedding"] == {"float32": None}.get(a.checks["embedding"], a.checks["embedding"])
        assert lint.check(a.path) == []
    here = Path(shutil.copytree(made.out, tmp_path / "out"))
    folder = here / "m_q8_onnx"
    edit(folder / "genai_config.json", lambda c: c["model"].update(eos_token_id=[1]))
    assert {f.rule for f in lint.check(folder)} == {"digest", "stop-missing"}
    data = folder / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-1])
    assert [f.rule for f in lint.check(folder)] == ["damaged"]


@pytest.mark.slow
def test_faults_are_noticed(made, rows, tmp_path):
    request = {"checkpoint": str(tiny.SHIPPED), "folder": made.by_name["f32"].path}
    said = worker.run(WORKERS / "onnx_faults.py", request, tmp_path / "f", python=python_of("onnx"))["said"]
    words = {"cut": "ONNX Runtime can't load it", "zeroed": "a KL divergence of", "stops": "eos_token_id is [1], it should be",
             "start": "bos_token_id is 3", "context": "context_length is", "special": "prints no <escape>"}  # fmt: skip
    assert said.pop("nothing") == "" and set(said) == set(words)
    for fault, message in said.items():
        assert words[fault] in message and message.startswith("gate"), (fault, message)
    broken = Path(shutil.copytree(made.by_name["int8"].path, tmp_path / "broken"))
    (broken / "model.onnx").write_bytes((broken / "model.onnx").read_bytes()[:1000])
    with pytest.raises(EdgeError, match="ONNX Runtime can't load it"):
        run("onnxruntime", broken, rows[:1], tmp_path / "o")


@pytest.mark.slow
def test_rounding_in_pieces_is_rounding_at_once(tmp_path):
    found = worker.run(WORKERS / "onnx_pieces.py", {}, tmp_path / "p", python=python_of("onnx"))
    assert found["equal"] == [True] * 6 and found["pieces"] > 10


@pytest.mark.slow
def test_weights_that_are_no_numbers(model, tmp_path):
    checkpoints.change(model, "model.norm.weight", value=b"\xc0\x7f")
    with pytest.raises(EdgeError, match=r"model\.norm\.weight has 1 weights of 256 that are no finite numbers"):
        export(model, tmp_path / "out", environment=environment)
