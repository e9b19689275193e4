"""Every rule of `edge lint`: silent on a good file, and the one that speaks when its fault is seeded."""

from __future__ import annotations

import json
import zipfile

import artifacts
import pytest
from artifacts import CACHE, PIECES, ROWS, STOPS
from click.testing import CliRunner

from edge import environments, records, worker
from edge.cli import main
from edge.console import Console
from edge.export import inspect, lint
from edge.export.gguf_file import Entry
from edge.export.vocabulary import CONTROL, NORMAL
from edge.records import Artifact
from edge.train import tiny

END_OF_CALL = artifacts.IDS["<end_function_call>"]


def typed(text, kind):
    """The vocabulary with one piece of another type."""
    return [(t, score, kind if t == text else old) for t, score, old in PIECES]


def tflite(path, **more):
    path.write_bytes(artifacts.tflite(**more))
    return path


MAKERS = {
    "gguf": lambda top, **more: artifacts.gguf(top / "m.gguf", **more),
    "tflite": lambda top, **more: tflite(top / "m.tflite", **more),
    "task": lambda top, **more: artifacts.task(top / "m.task", **more),
    "litertlm": lambda top, **more: artifacts.litertlm(top / "m.litertlm", **more),
    "onnx": lambda top, **more: artifacts.onnx(top / "m-onnx", **more),
}


def made(name, top, manifest=(), **more):
    """An artifact with a manifest that agrees."""
    return artifacts.manifest(MAKERS[name](top, **more), **dict(manifest))


def rules(path):
    return [f.rule for f in lint.check(path)]


def run(*arguments):
    return CliRunner().invoke(main, ["lint", *map(str, arguments)])


# One fault each: format, rule, what makes it, words of the finding.
FAULTS = [
    ("gguf", "stop-missing", {"stops": {"eos": "<eos>", "eot": "<end_of_turn>"}}, "<start_function_response> is not among"),
    ("gguf", "stop-missing", {"stops": {}}, "<start_function_response> <eos> are not among its stops (<end_of_turn> (5))"),
    ("task", "stop-missing", {"stops": ("<eos>", "<end_of_turn>")}, "<start_function_response> is not among"),
    ("litertlm", "stop-missing", {"stops": STOPS[:2]}, "<eos> is not among"),
    ("onnx", "stop-missing", {"eos": STOPS[:1]}, "<start_function_response> <eos> are not among"),
    ("litertlm", "stop-several-tokens", {"stops": [*STOPS, "<end_of_turn>\n"]}, "spells in several pieces"),
    ("litertlm", "stop-several-tokens", {"stops": [*STOPS, [5, 13]]}, "2 tokens in a row"),
    ("litertlm", "stop-several-tokens", {"stops": [*STOPS, "call"]}, "the stop 'call' is a string"),
    ("task", "stop-several-tokens", {"stops": ("<eos>", "<end_of_turn>", "<start_function_response>", "STOP")}, "'STOP'"),
    ("gguf", "stop-end-of-call", {"more": (Entry("tokenizer.ggml.eot_token_id", "uint32", END_OF_CALL),)}, "is one of its"),
    ("task", "stop-end-of-call", {"stops": ("<eos>", "<end_of_turn>", "<start_function_response>", "<end_function_call>")},
     "<end_function_call>"),
    ("litertlm", "stop-end-of-call", {"stops": [*STOPS, END_OF_CALL]}, "<end_function_call>"),
    ("onnx", "stop-end-of-call", {"eos": [*STOPS, END_OF_CALL]}, "<end_function_call>"),
    ("gguf", "start-missing", {"more": (Entry("tokenizer.ggml.add_bos_token", "bool", False),)}, "not <bos>"),
    ("task", "start-missing", {"start": "<eos>"}, "its start token is <eos> (1), not <bos>"),
    ("litertlm", "start-missing", {"start": None}, "its start token is not set"),
    ("litertlm", "model-type", {"model_type": 1}, "its model type is generic_model"),
    ("litertlm", "model-type", {"model_type": 0}, "its model type is not set"),
    ("litertlm", "model-type", {"model_type": 4}, "gemma3; calls of this model need function_gemma"),
    ("gguf", "template-missing", {"template": ""}, "no chat template"),
    ("onnx", "template-folder", {"template": ""}, "no chat template"),
    ("litertlm", "template-builtin", {"template": ""}, "no chat template"),
    ("litertlm", "template-jinja", {"template": "{{ a.get('x') }}{% for i in b %}{% break %}{% endfor %}"},
     "uses `break`, the method `get()`"),
    ("litertlm", "template-jinja", {"template": "{%- for k in a.keys() %}{{ k.upper() }}{% endfor %}"}, "`keys()`"),
    ("task", "prompt-affixes", {"prefix": "<start_of_turn>user\n"}, "user prefix '<start_of_turn>user\\n'"),
    ("litertlm", "sampler", {"sampler": 3}, "GREEDY"),
    ("litertlm", "activation-type", {"activation": ""}, "section is not set"),
    ("litertlm", "activation-type", {"activation": "fp16"}, "section is fp16"),
    ("gguf", "tokenizer-missing", {"tokens": False}, "carries no tokenizer"),
    ("task", "tokenizer-missing", {"leave_out": "TOKENIZER_MODEL"}, "carries no tokenizer"),
    ("litertlm", "tokenizer-missing", {"leave_out": "tokenizer"}, "carries no tokenizer"),
    ("onnx", "tokenizer-missing", {"tokenizer": False}, "carries no tokenizer"),
    ("task", "tokenizer-size", {"rows": ROWS + 5}, f"{ROWS} pieces, the model's embedding {ROWS + 5} rows"),
    ("litertlm", "tokenizer-size", {"rows": ROWS - 5}, f"{ROWS} pieces, the model's embedding {ROWS - 5} rows"),
    ("gguf", "tokenizer-size", {"rows": ROWS - 1}, "rows"),
    ("onnx", "tokenizer-size", {"rows": ROWS - 1}, "rows"),
    ("gguf", "function-token-control", {"pieces": typed("<escape>", CONTROL)}, "<escape> is of type CONTROL"),
    ("gguf", "function-token-spelled", {"pieces": typed("<start_function_call>", NORMAL)}, "<start_function_call> in several"),
    ("litertlm", "function-token-spelled", {"pieces": typed("<start_of_turn>", CONTROL)}, "<start_of_turn> in several"),
    ("task", "function-token-spelled", {"pieces": typed("<escape>", NORMAL)}, "<escape> in several"),
    ("tflite", "zero-row", {"kind": "int4", "scale": 0.0}, "the 4-bit tensor embedding has a scale of zero"),
    ("tflite", "zero-row", {"kind": "int4", "block": True, "scale": 1e-7}, "the 4-bit tensor embedding"),
    ("litertlm", "zero-row", {"kind": "int4", "block": True, "scale": 0.0}, "the 4-bit tensor embedding"),
    ("task", "zero-row", {"kind": "int4", "scale": 0.0}, "the 4-bit tensor embedding"),
    ("litertlm", "context-beyond-cache", {"max_tokens": 2 * CACHE}, f"asks for {2 * CACHE} tokens, it has room for {CACHE}"),
    ("tflite", "context-beyond-cache", {"prefill": 2 * CACHE}, f"prefill_{2 * CACHE} takes"),
    ("gguf", "context-beyond-cache", {"manifest": {"context_tokens": 4096}}, "manifest says 4,096 tokens, it has room for 1,024"),
    ("onnx", "context-beyond-cache", {"max_length": 4096}, "asks for 4,096 tokens"),
    ("litertlm", "prefill-overhang", {"prefill": 40}, "is no multiple of prefill_40"),
    ("task", "model-missing", {"leave_out": "TF_LITE_PREFILL_DECODE"}, "no member TF_LITE_PREFILL_DECODE"),
    ("litertlm", "model-missing", {"graph_type": "tf_lite_embedder"}, "no section of model_type tf_lite_prefill_decode"),
    ("task", "zip-compressed", {"compression": zipfile.ZIP_DEFLATED}, "METADATA are compressed"),
    ("gguf", "proof-refused", {"manifest": {"proof": {"verdict": "refused", "why": ["2 nats", "no calls"]}}}, "2 nats; no calls"),
    ("onnx", "proof-degraded", {"manifest": {"proof": {"verdict": "degraded", "why": []}}}, "doesn't say why"),
    ("gguf", "licence-missing", {"rows": 262_144, "manifest": {"notices": []}}, "a vocabulary of Gemma's size, and no notice"),
]  # fmt: skip
BESIDE = {  # what a fault brings along by its nature
    ("gguf", "licence-missing"): {"tokenizer-size"},
}


@pytest.mark.parametrize("name", MAKERS)
def test_good_files_are_clean(name, tmp_path):
    assert lint.check(made(name, tmp_path)) == []
    shown = run(tmp_path / ("m-onnx" if name == "onnx" else f"m.{name}"))
    assert (shown.exit_code, shown.output) == (0, "1 file: nothing found\n")


@pytest.mark.parametrize(("kind", "options"), [("int4", {}), ("int4", {"block": True}), ("float32", {})])
def test_other_good_weights(kind, options, tmp_path):
    assert lint.check(made("litertlm", tmp_path, kind=kind, **options)) == []


@pytest.mark.parametrize(
    ("name", "rule", "fault", "words"), FAULTS, ids=[f"{f[1]}-{f[0]}-{n}" for n, f in enumerate(FAULTS)]
)
def test_a_seeded_fault_is_found_and_nothing_else(name, rule, fault, words, tmp_path):
    findings = lint.check(made(name, tmp_path, **fault))
    assert {f.rule for f in findings} - BESIDE.get((name, rule), set()) == {rule}
    first = next(f for f in findings if f.rule == rule)
    assert words in first.seen and first.happens and first.fix
    shown = run(tmp_path / ("m-onnx" if name == "onnx" else f"m.{name}"))
    assert rule in shown.output and first.happens in shown.output and first.fix in shown.output
    assert shown.exit_code == (6 if any(f.severity == "error" for f in findings) else 0)


def test_every_rule_has_a_fault():
    """Those that no artifact with a good manifest can show have tests of their own below."""
    elsewhere = {"digest", "manifest-missing", "manifest-unreadable", "adapter-not-merged"}
    assert {rule.id for rule in lint.RULES} == {f[1] for f in FAULTS} | elsewhere
    assert all(set(rule.formats) <= set(lint.EVERY) for rule in lint.RULES)
    assert all(name in next(r for r in lint.RULES if r.id == rule).formats for name, rule, _, _ in FAULTS)


# --- the file against its papers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_digest(name, tmp_path):
    path = made(name, tmp_path)
    record = path.with_name(f"{path.name}.json")
    told = records.load(Artifact, record)
    records.save({**vars(told), "digest": "0" * 64}, record)
    (finding,) = lint.check(path)
    assert (finding.rule, finding.severity) == ("digest", "error") and finding.seen.startswith("altered")


def test_manifest_missing_and_unreadable(tmp_path):
    path = artifacts.litertlm(tmp_path / "m.litertlm", notice="terms")
    (finding,) = lint.check(path)
    assert (finding.rule, finding.severity) == ("manifest-missing", "info") and run(path).exit_code == 0
    (tmp_path / "m.litertlm.json").write_text('{"schema": 99}')
    (finding,) = lint.check(path)
    assert (finding.rule, finding.severity) == ("manifest-unreadable", "warning") and "newer edge" in finding.seen


def test_licence_of_a_file_from_elsewhere(tmp_path):
    """Neither it nor a manifest says whose it is; one of ours says so by an empty list."""
    path = artifacts.litertlm(tmp_path / "m.litertlm")
    assert rules(path) == ["licence-missing", "manifest-missing"]
    assert rules(artifacts.manifest(path, notices=[])) == []


def test_folders(tmp_path):
    folder = artifacts.checkpoint(tmp_path / "m")
    assert rules(folder) == []
    (folder / "LICENSE").unlink()
    (folder / "chat_template.jinja").unlink()
    assert rules(folder) == ["licence-missing"]  # exporters take the dialect's template
    (folder / "README.md").write_text("---\nlicense: gemma\n---\nA card.")
    (folder / "tokenizer.model").unlink()
    assert rules(folder) == ["tokenizer-missing"]
    assert rules(artifacts.adapter(tmp_path / "lora")) == ["adapter-not-merged"]


def test_a_graph_alone(tmp_path):
    """A lone .onnx says nothing of tokens, so it is not blamed for that."""
    folder = made("onnx", tmp_path)
    assert rules(folder / "model.onnx") == ["licence-missing", "manifest-missing"]
    assert "stops" not in CliRunner().invoke(main, ["inspect", str(folder / "model.onnx")]).output


def test_more_pieces_than_rows_in_a_checkpoint(tmp_path):
    """Gemma's image token has no row, and no text leads to it: that is no fault."""
    folder = artifacts.checkpoint(tmp_path / "m")
    beyond = {str(ROWS + 5): {"content": "<image>", "special": True}}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": beyond}))
    assert rules(folder) == []
    beyond[str(ROWS + 5)]["special"] = False
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": beyond}))
    assert rules(folder) == ["tokenizer-size"]


# --- files that are not whole, and the command ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gguf", "tflite", "task", "litertlm"])
def test_cut_short(name, tmp_path):
    path = made(name, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    (finding,) = lint.check(path)
    assert (finding.rule, finding.severity) == ("damaged", "error")
    assert f"the manifest says {len(whole):,} bytes, the file has {len(whole) // 2:,}" in finding.seen
    assert run(path).exit_code == 6


def test_another_family(tmp_path):
    """A tokenizer without function tokens is of no dialect of ours: only what holds for any model is asked."""
    path = artifacts.litertlm(
        tmp_path / "m.litertlm", pieces=[(f"t{n}", 0.0, 1) for n in range(ROWS)], notice="x", stops=[1]
    )
    assert rules(path) == ["manifest-missing"]
    artifacts.litertlm(path, pieces=[(f"t{n}", 0.0, 1) for n in range(ROWS)], notice="x", stops=[], model_type=1)
    assert rules(path) == ["stop-missing", "model-type", "manifest-missing"]


def test_macros_and_dictsort_are_no_fault(tmp_path):
    """LiteRT-LM 0.12 to 0.18.1 run them; and what stands in comments, strings or text counts for nothing."""
    template = (
        "{# .get( #}{% macro f(x) %}{{ x | dictsort }}{% endmacro %}{{ f({}) }} a.get('x') {{ \"x.keys()\" | upper }}"
    )
    assert rules(made("litertlm", tmp_path, template=template)) == []


def test_the_command(tmp_path):
    good, bad = made("gguf", tmp_path), tmp_path / "bad.litertlm"
    artifacts.litertlm(bad, sampler=3, notice="x")
    shown = run(good, bad)
    assert shown.exit_code == 6 and shown.output.endswith("2 files: 1 error, 1 note\n")
    assert shown.output.startswith(f"{bad}: error sampler: its sampler is GREEDY")
    assert run(good, f"{good}.json", bad).output == shown.output  # a manifest, as `*` gives it, is no artifact
    told = json.loads(run(good, bad, "--json").output)
    assert told["errors"] == 1 and [f["rule"] for f in told["findings"]] == ["sampler", "manifest-missing"]
    assert set(told["findings"][0]) == {"file", "rule", "severity", "seen", "happens", "fix"}
    assert run().exit_code == 2
    (tmp_path / f"{good.name}.json").write_text("{}")
    shown = run(f"{good}.json")  # and alone it is nothing to pass
    assert shown.exit_code == 2 and f"{good}.json: a manifest, not an artifact" in shown.output
    (tmp_path / "notes.txt").write_text("hello")
    shown = run(tmp_path / "notes.txt")
    assert shown.exit_code == 2 and "of no format that edge reads" in shown.output
    shown = run(tmp_path / "notes.txt", bad)  # which keeps nothing back of the others
    assert shown.exit_code == 2 and "error sampler" in shown.output and "of no format" in shown.output


def test_what_can_not_be_read_is_counted(tmp_path):
    nope, gone = tmp_path / "nope.gguf", tmp_path / "gone.gguf"
    shown = run(nope, gone)
    assert shown.exit_code == 2 and shown.stdout == "2 files: 2 not read\n"
    assert f"{nope}: no such file" in shown.stderr and f"{gone}: no such file" in shown.stderr
    told = json.loads(run(nope, "--json").stdout)
    assert told["unread"] == [f"{nope}: no such file or folder"] and told["errors"] == 0
    assert json.loads(run(made("gguf", tmp_path), "--json").stdout)["unread"] == []


def test_the_rules_can_be_listed():
    shown = run("--rules")
    assert shown.exit_code == 0 and all(rule.id in shown.output for rule in lint.RULES)
    assert {r["id"] for r in json.loads(run("--rules", "--json").output)} == {"damaged", *(r.id for r in lint.RULES)}


# --- real exports -----------------------------------------------------------------------------------------------------


def worked(name, out, **request):
    """What a worker makes of the embedded model, in its own environment."""
    script = environments.script(name)
    python = environments.ensure(environments.spec(script), Console(quiet=True)).python
    whole = {"checkpoint": str(tiny.SHIPPED), "dialect": "functiongemma", "name": "tiny", **request}
    answer = worker.run(script, whole, out, python=python)
    return [out / a["file"] for a in answer["artifacts"]], answer


@pytest.mark.slow
def test_real_gguf(tmp_path):
    files, answer = worked("gguf", tmp_path / "out", quantisations=["f16", "q8_0", "q4_0-emb-q4_0"])
    for path, quantisation in zip(files, ["f16", "q8_0", "q4_0, embedding q4_0"]):
        found = inspect.read(path)
        assert found.quantisation.startswith(quantisation.split(",")[0]) and found.parameters == 4_332_544
        assert found.template_sha256 == answer["chat_template_sha256"]
        assert [t.ids[0] for t in found.stops] == sorted(answer["stop_ids"])
        assert rules(artifacts.manifest(path)) == []
        whole = path.read_bytes()
        path.write_bytes(whole[:-1000])
        assert rules(path) == ["damaged"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["litertlm", "task"])
def test_real_bundles(name, tmp_path):
    """The bundlers' own containers and metadata, around a graph of the embedded model's shape."""
    model = tflite(tmp_path / "m.tflite", rows=3072)
    files = [
        {"quantisation": "int8", "model": str(model), "sha256": records.digest_file(model), "file": f"tiny.{name}"}
    ]
    request = {"cache": CACHE, "files": files, "notices": ["terms"], "profile": "flutter_gemma"}
    (path,), answer = worked(name, tmp_path / "out", **request)
    found = inspect.read(path)
    assert sorted(t.ids[0] for t in found.stops) == sorted(answer["stop_ids"]) and found.start.text == "<bos>"
    assert {s.sha256 for s in found.sections} >= {records.digest_file(model)}
    assert len(found.tokenizer.pieces) == found.vocabulary == 3072 and found.cache_tokens == CACHE
    if name == "litertlm":
        assert found.template_sha256 == answer["chat_template_sha256"] and found.notices == ["terms"]
    assert rules(artifacts.manifest(path)) == []
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    assert rules(path) in (["digest"], ["damaged"])
