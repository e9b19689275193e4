"""The runtimes for TFLite, `.litertlm` and `.task` on the embedded model, beside transformers in float32."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge import environments, worker
from edge.bench import measure
from edge.console import Console
from edge.devices.local import Local
from edge.dialects import functiongemma
from edge.errors import EdgeError, WorkerError
from edge.export import litertlm, task, tflite
from edge.export.job import read_checkpoint
from edge.train import generator, tiny

INSIDE = Path(__file__).parent / "workers" / "litert_inside.py"
QUIET = Console(quiet=True)
# Two prefills and a cache that is no multiple of either: pieces of a prompt of every kind, the last one beyond the end.
PREFILL, CACHE = (64, 200), 700
ROWS, PLACES, MAX_TOKENS = 28, 8, 64
FULL = 3 * 200 + 64  # tokens that LiteRT-LM can feed in such pieces; it does not shift the last one
TOKENIZER = tiny.SHIPPED / "tokenizer.model"
VOCABULARY = json.loads((tiny.SHIPPED / "config.json").read_text())["vocab_size"]


def test_environments():
    """The runtimes have packages for more machines than the converter."""
    converter = environments.spec(environments.script("tflite"))
    for name, package in (("litert", "ai-edge-litert==2.3.0"), ("litert_lm", "litert-lm-api==0.18.1")):
        spec = environments.spec(environments.script(name))
        assert package in spec.pins and set(spec.platforms) > set(converter.platforms)
    assert "ai-edge-litert==2.3.0" in converter.pins  # what checked a TFLite is what runs it


# --- on the real thing ------------------------------------------------------------------------------------------------


def environment(spec):
    lack = environments.missing(spec)
    if lack:
        pytest.skip(f"needs {lack}")
    return environments.ensure(spec, QUIET)


def session(
    folder: Path, runtime: str, file: Path, form: str = "artifact", tokenizer: Path | None = TOKENIZER, context=1024
):
    subject = measure.Subject(file.name, file, "", form, form, tokenizer)
    settings = measure.Settings(runtime, 2, context, MAX_TOKENS, functiongemma.STOP)
    built = environment(environments.spec(environments.script(runtime)))
    return measure.Session(subject, settings, Local(), built, folder / f"{file.name}.{runtime}.log")


def samples(folder: Path, runtime: str, file: Path, rows: list, **more) -> dict:
    partial = measure.Partial(folder / f"{file.name}.{runtime}.samples", "")
    session(folder, runtime, file, **more).run(rows, partial, lambda *_: None)
    partial.remove()
    return partial.samples


def count_tokens(top: Path, prompts: list[str]) -> list[int]:
    (top / "texts.jsonl").write_text("".join(json.dumps([p, ""]) + "\n" for p in prompts))
    request = {
        "tokenizer": str(tiny.SHIPPED / "tokenizer.json"),
        "texts": str(top / "texts.jsonl"),
        "total": len(prompts),
    }
    script = environments.script("count_tokens")
    return worker.run(script, request, top / "counts", python=environment(environments.spec(script)).python)["counts"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The embedded model in every format: one conversion. Rows, and what transformers makes of them.

    Besides rows that every runtime can feed: one whose last piece of 200 would end behind the cache, one that is too long.
    """
    top = tmp_path_factory.mktemp("runtimes")
    arguments = (read_checkpoint(tiny.SHIPPED, "functiongemma"), ["f32", "int8"], top / "out", "m", QUIET, environment)
    shape = {"prefill": PREFILL, "cache": CACHE}
    files = {
        (e.FORMAT, a.quantisation): Path(a.path)
        for e in (tflite, litertlm, task)
        for a in e.export(*arguments, **shape).artifacts
    }
    asked = [(r, functiongemma.render(r["messages"][:-1], r["tools"])) for r in generator.rows(2 * ROWS, seed=5)]
    filled = [asked[0][1].replace("developer\n", "developer\n" + "a b c " * n, 1) for n in range(300)]
    counts = count_tokens(top, [p for _, p in asked] + filled)
    fit = [pair for pair, count in zip(asked, counts) if count <= FULL - MAX_TOKENS][:ROWS]
    source, rows = [r for r, _ in fit], [{"id": f"r{n}", "prompt": p} for n, (_, p) in enumerate(fit)]
    behind = next(p for p, count in zip(filled, counts[len(asked) :]) if count > FULL + 4)
    rows += [{"id": "behind", "prompt": behind}, {"id": "beyond", "prompt": filled[-1]}]
    given = samples(top, "transformers", tiny.SHIPPED, rows[:-1], form="checkpoint")
    texts = [
        {**r, "completion": f"{given[r['id']].text}{given[r['id']].stop or ''}".removesuffix("length")}
        for r in rows[:-1]
    ]
    request = {"do": "reference", "rows": texts, "places": PLACES, "folder": str(top / "logits")}
    session(top, "transformers", tiny.SHIPPED, form="checkpoint").ask(request)
    return SimpleNamespace(top=top, files=files, source=source, rows=rows, reference=given, logits=top / "logits")


@pytest.mark.slow
def test_prompts_are_of_every_kind(made):
    """Else the tests below would not see what they are for."""
    short = [s for name, s in made.reference.items() if name.startswith("r")]
    pieces = {(s.prompt_tokens - 1) // 200 for s in short} | {(s.prompt_tokens - 1) % 200 <= 64 for s in short}
    assert {0, 1, 2} <= pieces
    assert (
        max(s.prompt_tokens for s in short) <= FULL - MAX_TOKENS < FULL < made.reference["behind"].prompt_tokens < CACHE
    )
    kinds = [functiongemma.parse(s.text) for s in short]
    assert sum(bool(k.calls) and not k.errors for k in kinds) >= 15 and any(
        "가" <= c <= "힣" for s in short for c in s.text
    )


@pytest.mark.slow
def test_next_tokens(made):
    """Teacher-forced, through the agent: float32 but for rounding; int8 within what it costs, and not by chance."""
    request = {"do": "compare", "folder": str(made.logits)}
    found = {
        (form, quantisation): session(made.top, "litert", file).ask(request)
        for (form, quantisation), file in made.files.items()
        if form == "tflite" or quantisation == "int8"
    }
    plain, int8 = found["tflite", "f32"], found["tflite", "int8"]
    for told in (plain, int8):
        assert told["positions"] >= 6 * ROWS and told["too_long"] == 0
        assert told["vocabulary"] == VOCABULARY
    assert plain["sure_same"] == plain["sure"] and plain["kl_max"] <= 1e-3
    assert int8["sure_same"] >= 0.98 * int8["sure"] and int8["kl_mean"] <= 5e-3
    assert int8["kl_mean"] > 100 * plain["kl_mean"]
    for (form, quantisation), told in found.items():
        assert told == found["tflite", quantisation], form  # a bundle's graph is that graph


@pytest.mark.slow
@pytest.mark.parametrize(("runtime", "form"), [("litert", "tflite"), ("litert_lm", "litertlm"), ("litert_lm", "task")])
def test_text(made, runtime, form):
    """Greedy, every stop and special token as transformers has it; clocks that agree; errors as samples."""
    folder = made.files[form, "f32"].parent
    before = sorted(f.name for f in folder.iterdir())
    found = samples(made.top, runtime, made.files[form, "f32"], made.rows)
    assert sorted(f.name for f in folder.iterdir()) == before  # no cache of weights beside the artifact
    assert list(found) == [r["id"] for r in made.rows]
    for name, wanted in made.reference.items():
        if name == "behind":
            continue
        got = found[name]
        asked = (wanted.text, wanted.prompt_tokens, wanted.completion_tokens, wanted.stop == "length")
        assert (got.text, got.prompt_tokens, got.completion_tokens, got.stop == "length") == asked, name
        assert got.error is None and 0 < got.prefill_s < 1.02 * got.first_token_s < got.call_s
        assert abs(got.first_token_s + got.decode_s - got.call_s) < 0.02
    assert found["beyond"].text is None and f"context {CACHE}" in found["beyond"].error
    long = found["behind"]
    if runtime == "litert":
        assert made.reference["behind"].text.startswith(long.text) and long.completion_tokens >= 4
    else:  # its last piece would end behind the cache: a failure of the runtime's own is a sample, too
        assert long.text is None and "run_prefill failed" in long.error and long.prompt_tokens > FULL


@pytest.mark.slow
def test_int8_says_the_same_in_every_file(made):
    rows = made.rows[:12]
    texts = [[s.text for s in samples(made.top, runtime, made.files[form, "int8"], rows).values()]
             for runtime, form in (("litert", "tflite"), ("litert_lm", "litertlm"), ("litert_lm", "task"))]  # fmt: skip
    assert texts[1] == texts[2] and sum(a == b for a, b in zip(texts[0], texts[1])) >= len(rows) - 1


@pytest.mark.slow
def test_its_own_prompts_and_calls(made):
    """LiteRT-LM renders as training did, and reads its model's calls as we do; what it refuses, we can't read whole."""
    cases = [{"messages": r["messages"][:-1], "tools": r["tools"]} for r in made.source]
    asked = {"model": str(made.files["litertlm", "f32"]), "cases": cases, "max_tokens": MAX_TOKENS}
    python = environment(environments.spec(environments.script("litert_lm"))).python
    told = worker.run(INSIDE, {"native": asked}, made.top / "native", python=python)["native"]
    assert [t["prompt"] for t in told] == [r["prompt"] for r in made.rows[:ROWS]]
    whole = right = 0
    for n, (row, t) in enumerate(zip(made.source, told)):
        ours = functiongemma.parse(made.reference[f"r{n}"].text)
        calls = [{"type": "function", "function": c.to_json()} for c in ours.calls]
        if ours.errors or made.reference[f"r{n}"].stop == "length":  # a call that was cut off is no call to it
            assert t["calls"] is None or t["calls"] == calls[: len(t["calls"])], made.reference[f"r{n}"].text
            continue
        whole += 1
        assert t["calls"] == calls
        wanted = [c["function"] for c in row["messages"][-1].get("tool_calls", [])]
        right += bool(wanted) and [c["function"] for c in t["calls"]] == wanted
    assert whole >= ROWS // 2 and right >= 5
    asked = {**asked, "model": str(made.files["task", "f32"]), "cases": cases[:1]}
    with pytest.raises(EdgeError, match=r"m_f32_ekv700\.task: a \.task has no template"):
        worker.run(INSIDE, {"native": asked}, made.top / "bare", python=python)


@pytest.mark.slow
def test_as_apps_use_it(made):
    """Through the agent, messages and tools in: the calls of the text path, written back; a row without messages is refused."""
    rows = [{**r, "messages": s["messages"][:-1], "tools": s["tools"]} for r, s in zip(made.rows, made.source)]
    told = samples(made.top, "litert_lm_chat", made.files["litertlm", "f32"], rows)
    same = 0
    for row in rows:
        written, sample = made.reference[row["id"]], told[row["id"]]
        ours = functiongemma.parse(written.text)
        if ours.errors or written.stop == "length":
            assert sample.error or not functiongemma.parse(sample.text).calls[len(ours.calls) :]
            continue
        assert functiongemma.parse(sample.text).calls == ours.calls and sample.call_s and sample.prefill_s is None
        same += bool(ours.calls)
    assert same >= 10
    astray = [{**rows[0], "tools": rows[1]["tools"]}]  # the tools that it is given are those that it renders
    assert samples(made.top, "litert_lm_chat", made.files["litertlm", "f32"], astray)["r0"].text != told["r0"].text
    with pytest.raises(EdgeError, match="row r0 has a prompt only"):
        samples(made.top, "litert_lm_chat", made.files["litertlm", "f32"], made.rows[:1])


@pytest.mark.slow
def test_pieces(made):
    """Control pieces, spaces and bytes that are no whole character: as transformers writes them."""
    pieces = json.loads((tiny.SHIPPED / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    byte = [pieces[f"<0x{b:02X}>"] for b in "🎉".encode()]
    plain = [n for text, n in pieces.items() if not text.startswith("<0x")]
    ids = [
        [2, plain[-1], 0, *byte, plain[-1], *byte[:3], 5],
        [n for n in plain for _ in range(2)],
        [plain[-1], *byte, *plain[:99]],
    ]
    texts = []
    for name, request in (("litert", {"pieces": {"tokenizer": str(TOKENIZER), "ids": ids}}),
                          ("transformers", {"reference": {"checkpoint": str(tiny.SHIPPED), "ids": ids}})):  # fmt: skip
        python = environment(environments.spec(environments.script(name))).python
        texts.append(
            next(v for v in worker.run(INSIDE, request, made.top / name, python=python).values() if isinstance(v, list))
        )
    assert texts[0] == texts[1]


@pytest.mark.slow
@pytest.mark.parametrize(("runtime", "form"), [("litert", "tflite"), ("litert", "litertlm"), ("litert", "task"),
                                               ("litert_lm", "litertlm"), ("litert_lm", "task")])  # fmt: skip
def test_cut_files(made, tmp_path, runtime, form):
    data = made.files[form, "int8"].read_bytes()
    for keep in (len(data) // 2, len(data) - 1):
        cut = tmp_path / f"cut.{form}"
        cut.write_bytes(data[:keep])
        with pytest.raises(EdgeError, match=rf"cut\.{form}.*cut short") as caught:
            samples(tmp_path, runtime, cut, made.rows[:1])
        assert not isinstance(caught.value, WorkerError) and "export it again" in caught.value.hint


@pytest.mark.slow
def test_files_that_a_runtime_does_not_take(made, tmp_path):
    plain = made.files["tflite", "int8"]
    other = tmp_path / "tokenizer.model"
    other.write_bytes(b"\n\x03no\n")
    cases = [
        ("litert", plain, None, "a TFLite has no tokenizer in it"),
        ("litert", plain, tmp_path / "none.model", r"none\.model: No such file"),
        ("litert", plain, other, r"tokenizer\.model: its tokenizer is no SentencePiece model"),
        ("litert", tiny.SHIPPED, None, "LiteRT runs no"),
        ("litert_lm", plain, None, "LiteRT-LM loads no tflite"),
    ]
    for runtime, file, tokenizer, words in cases:
        with pytest.raises(EdgeError, match=words):
            samples(tmp_path, runtime, file, made.rows[:1], tokenizer=tokenizer)


@pytest.mark.slow
def test_a_smaller_context_than_the_cache(made):
    """What is asked for holds, in both: an answer ends there, and a longer prompt is an error."""
    size = made.reference["r0"].prompt_tokens + 6
    for runtime, form in (("litert", "tflite"), ("litert_lm", "litertlm")):
        got = samples(made.top, runtime, made.files[form, "f32"], made.rows[:1], context=size)["r0"]
        assert got.stop == "length" and 4 <= got.completion_tokens <= 6
        assert made.reference["r0"].text.startswith(got.text)
        none = samples(made.top, runtime, made.files[form, "f32"], made.rows[:1], context=size - 6)["r0"]
        assert none.text is None and f"context {size - 6}" in none.error
