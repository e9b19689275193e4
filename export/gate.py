"""Nothing is handed on unproven: each artifact, run by its own runtime, beside the checkpoint that it was made from.

Two questions are asked of it. Does it expect the same next tokens (bench/parity.py: top-1 and Kullback-Leibler divergence,
over the checkpoint's own answers)? Does it call the same functions (greedy, over evaluation rows)? The answers, and
nothing else, are kept in the manifest's `proof`; the verdict follows from them and from LIMITS:

    proven     within the limits of its class, and no function calls lost beyond chance
    degraded   usable, with what was lost
    refused    not to be handed on: the file is renamed to FILE.refused

A checkpoint that calls no functions itself is refused before anything is converted, with the likely cause.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge import archive, dialects, environments, records, renderers, tools
from edge.bench import measure, runtimes, score, stats
from edge.console import Console
from edge.devices.local import Local
from edge.dialects import Tool
from edge.environments import Environment, Spec
from edge.errors import EdgeError, GateError
from edge.export import families
from edge.export.job import Exported, manifest_of, only_one, refused_of
from edge.records import Artifact, Checkpoint, Json, Measurement
from edge.renderers import compare
from edge.train import nearby, readers
from edge.train.generator import Generator

ROWS = 50  # whose calls are compared: a loss of a tenth shows; more rows show less
TEXTS, PLACES = 16, 8  # whose tokens are compared, and at how many places of each: 128 MB of Gemma's logits
MAX_TOKENS = 160  # of an answer
CONTEXT = 1024


@dataclass(frozen=True)
class Limits:
    """For one class of quantisations. kl: nats a token, the mean; same: share of sure places with the same first token.

    Beyond the first pair an artifact is degraded, beyond the second refused. calls: the share of rows whose right
    calls may be lost, for sure (upper end of a 95 % interval), before it is refused.
    """

    kl: float
    same: float
    refused_kl: float
    refused_same: float
    calls: float


# Float files must agree but for rounding. What a quantisation may cost is a wide corridor: it is there to find broken
# files (a wrong scale, a lost stop token); what a sound one costs is for the calls to say. Random 270M weights gave
# 8e-4 (q8_0), 5e-4 (int8), 0.01 to 0.1 (4 bits).
LIMITS = {
    "float": Limits(1e-3, 1.0, 1e-2, 0.99, 0.05),
    "8 bits": Limits(0.02, 0.98, 0.5, 0.9, 0.2),
    "5 to 6 bits": Limits(0.05, 0.97, 0.5, 0.9, 0.2),
    "4 bits": Limits(0.3, 0.9, 2.0, 0.6, 0.2),
    "under 4 bits": Limits(1.0, 0.75, 3.0, 0.5, 0.2),
}
# Who writes the prompts for a format's artifacts; ONNX comes with nobody who could.
SERVED_BY = {"gguf": ("llama_cpp", "ollama"), "litertlm": ("litert_lm",), "task": ("flutter_gemma",)}
VERDICTS = ("proven", "degraded", "refused")


def class_of(quantisation: str) -> str:
    """The class of LIMITS, by the fewest bits in the name: "q4_0-emb-q8_0" is of 4 bits, "bf16" is float."""
    bits = [int(b) for b in re.findall(r"(?:q|int)(\d)", quantisation)]
    fewest = min(bits, default=16)
    names = {8: "8 bits", 7: "8 bits", 6: "5 to 6 bits", 5: "5 to 6 bits", 4: "4 bits"}
    return "float" if fewest > 8 else names.get(fewest, "under 4 bits")


def set_limits(given: Sequence[str]) -> dict[str, Limits]:
    """LIMITS with some of them changed: ["4 bits.kl=0.5"]. Raises EdgeError for what is no limit."""
    found = dict(LIMITS)
    for text in given:
        match = re.fullmatch(r"(.+?)\.(\w+)=(.+)", text)
        name, field, value = match.groups() if match else ("", "", "")
        try:
            found[name] = replace(found[name], **{field: float(value)})
        except (KeyError, TypeError, ValueError):
            fields = ", ".join(Limits.__annotations__)
            raise EdgeError(
                f"no limit {text!r}", f'such as "4 bits.kl=0.5"; classes: {", ".join(LIMITS)}; limits: {fields}'
            ) from None
    return found


# --- what is asked ----------------------------------------------------------------------------------------------------


def questions(
    rows: Path | None,
    dialect: str,
    count: int = ROWS,
    renderer: str = renderers.TRAINING,
    tools_file: Path | None = None,
    bare: bool = False,
    console: Console | None = None,
) -> list[Json]:
    """`rows`'s first, or without a file `own_rows`: {"id", "prompt", "expected", "messages", "tools"}.

    Args:
        renderer: whose prompts the checkpoint was tuned on (edge/renderers).
        tools_file: for rows without their own (.py is run); None for those of the project that the rows lie in.
        bare: the checkpoint was tuned on rows without tools, and is asked so.

    Raises EdgeError for rows that expect calls and have no tools.
    """
    if not rows:
        return own_rows(dialect, count, renderer)
    if not tools_file and not bare:
        found = readers.read([rows], [], dialects.get(dialect), readers.DEVELOPER)
        good = (row for row in found if isinstance(row, readers.Row))
        tools_file = nearby.tools_for(rows, itertools.islice(good, count))
    declared = tools.load(tools_file, console.say if console else None).tools if tools_file else []
    return read_rows(rows, dialect, count, renderer, declared)


def questions_for(
    checkpoint: Checkpoint, rows: Path | None, count: int, tools_file: Path | None, console: Console
) -> list[Json]:
    """`questions` as this checkpoint was tuned."""
    bare = nearby.tuned_bare(checkpoint)
    return questions(rows, checkpoint.dialect, count, checkpoint.renderer, tools_file, bare, console)


def own_rows(dialect: str, count: int = ROWS, renderer: str = renderers.TRAINING) -> list[Json]:
    """Questions about Mobile Actions' tools, with the calls that are right: for a checkpoint that comes without rows."""
    source, found = Generator("gate", "test", tools="mobile"), []
    for n in range(count):
        scene = source.scene()
        query = source.query(scene, "call" if n % 5 else "parallel", "en")
        messages = [scene.developer(), *query.messages()]
        expected = [{"name": name, "arguments": arguments} for name, arguments in query.calls]
        declared = [tools.normalise(tool)[0] for tool in scene.tools()]
        prompt = renderers.prompt(renderer, dialect, messages, declared)
        row = {"id": f"mobile-{n}", "prompt": prompt, "expected": expected}
        found.append({**row, "messages": messages, "tools": declared})
    return found


def read_rows(
    file: Path,
    dialect: str,
    count: int = ROWS,
    renderer: str = renderers.TRAINING,
    declared: Sequence[Tool] = (),
) -> list[Json]:
    """The first rows of a data file, written as training writes them. Raises EdgeError if it has none that can be used.

    declared: the tools of rows that bring none.
    """
    speak, found, reasons = dialects.get(dialect), [], Counter[str]()
    for row in readers.read([file], list(declared), speak, readers.DEVELOPER):
        if isinstance(row, readers.Reject):
            reasons[row.reason] += 1
            continue
        messages, told = row.messages[:-1], list(declared) if row.tools is None else row.tools
        prompt = renderers.prompt(renderer, dialect, messages, told)
        asked = {"id": row.id, "prompt": prompt, "expected": [c.to_json() for c in row.calls]}
        found.append({**asked, "messages": messages, "tools": told})
        if len(found) == count:
            break
    if not found:
        why = f": {reasons.most_common(1)[0][0]}" if reasons else ""
        raise EdgeError(
            f"{file}: no usable rows{why}",
            "`edge data check` says what is wrong with each; tools of their own: --tools FILE",
        )
    return found


def proven(
    checkpoint: Checkpoint,
    make: Callable[[], Iterable[Exported]],
    asked: list[Json],
    out: Path,
    console: Console,
    environment: Callable[[Spec], Environment],
    limits: dict[str, Limits] | None = None,
) -> Iterator[Exported]:
    """Let the checkpoint answer, then export, and prove each artifact as it comes."""
    with Gate(checkpoint, asked, out / ".gate" / checkpoint.digest[:12], console, environment, limits) as gate:
        for made in make():
            yield replace(made, artifacts=[gate.prove(a) for a in made.artifacts])


# --- the gate ---------------------------------------------------------------------------------------------------------


class Gate:
    """One checkpoint's answers, and the judgement of what was made from it.

    Args:
        rows: {"id", "prompt", "expected"?, "messages"?, "tools"?}; without expected calls the checkpoint's own are what
            is right, without messages nothing is said of other renderers.
        folder: where the checkpoint's answers are kept, and its logits while the gate is open.
        environment: from a spec to a built environment.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        rows: list[Json],
        folder: Path,
        console: Console,
        environment: Callable[[Spec], Environment],
        limits: dict[str, Limits] | None = None,
    ) -> None:
        self._checkpoint, self._console, self._environment = checkpoint, console, environment
        self._folder, self._limits = folder, limits or LIMITS
        self._stop = dialects.get(checkpoint.dialect).STOP
        self._rows = rows
        self._workload = folder / "rows.jsonl"
        self._reference: Measurement | None = None
        self._served: dict[str, Json] = {}  # format -> what `_prompts` found

    def __enter__(self) -> Gate:
        """Let the checkpoint answer. Raises GateError for one that calls no functions, with the likely cause.

        A second gate of this checkpoint in this folder waits until the first is closed, and finds its answers.
        """
        self._open = contextlib.ExitStack()
        self._open.enter_context(only_one(self._folder, self._console, "gate"))
        with contextlib.ExitStack() as failed:
            failed.callback(self._open.close)
            self._answer()
            failed.pop_all()
        return self

    def _answer(self) -> None:
        shutil.rmtree(self._logits, ignore_errors=True)  # another checkpoint's, if a run was killed
        asked = ({"id": r["id"], "prompt": r["prompt"]} for r in self._rows)
        records.write_text(self._workload, "".join(json.dumps(r) + "\n" for r in asked))
        found = self._measure(self._subject, "transformers", self._folder / "reference.json")
        if found.error:
            raise EdgeError(f"{self._checkpoint.path}: {found.error['message']}", found.error.get("hint"))
        refuse_nonsense(found, self._rows, self._checkpoint)
        self._reference = found

    def __exit__(self, *_: object) -> None:
        """The answers stay, for the next time; the logits, which are large, don't."""
        shutil.rmtree(self._logits, ignore_errors=True)
        self._open.close()

    def prove(self, artifact: Artifact) -> Artifact:
        """The artifact with its `proof`, saved; under FILE.refused if that is what it comes to.

        Evidence that lies in the manifest, for the same file, rows and code, is judged again and not gathered again.
        """
        key = self._key(artifact)
        evidence = dict(artifact.proof or {})
        if evidence.get("key") != key:
            evidence = {"key": key, **self._evidence(artifact)}
        group = class_of(artifact.quantisation)
        verdict, why = judge(evidence, self._limits[group])
        proof = {**evidence, "class": group, "limits": vars(self._limits[group]), "verdict": verdict, "why": why,
                 "prompts": self._prompts(artifact.format)}  # fmt: skip
        self._console.say(f"{'✓' if verdict == 'proven' else '✗'} {Path(artifact.path).name}: {verdict}"
                          + (f": {'; '.join(why)}" if why else ""))  # fmt: skip
        for target, told in proof["prompts"].items():
            if told["differ"]:
                kinds = ", ".join(told["classes"])
                self._console.say(f"! {Path(artifact.path).name}: {target} writes {told['differ']} of {told['rows']} prompts otherwise"
                                  f" than training did ({kinds}); `edge prompt compare` shows where")  # fmt: skip
        return keep(replace(artifact, proof=proof))

    def _prompts(self, file_format: str) -> Json:
        """How the runtimes that serve a format write this model's prompts: {target: {"rows", "differ", "classes", "verified"}}.

        A difference is no fault of the file, so it doesn't touch the verdict; but calls are lost by it all the same.
        """
        cases = [compare.Case(r["id"], r["messages"], r["tools"]) for r in self._rows[:TEXTS] if "messages" in r]
        targets = SERVED_BY.get(file_format, ()) if self._checkpoint.dialect == "functiongemma" else ()
        if not cases or not targets:
            return {}
        if file_format not in self._served:
            path, trained = Path(self._checkpoint.path), self._checkpoint.renderer
            found = compare.compare(cases, path, targets, self._console, trained)
            told = {r.target: {"rows": r.rows, "differ": r.differ + r.refused, "classes": r.classes, "verified": r.verified}
                    for r in found if not r.missing}  # fmt: skip
            self._served[file_format] = told
        return self._served[file_format]

    def _evidence(self, artifact: Artifact) -> Json:
        assert self._reference, "a gate is for `with`"
        file = Path(artifact.path)
        tokenizer = families.tokenizer_file(Path(self._checkpoint.path)) if artifact.format == "tflite" else None
        subject = measure.Subject(file.name, file, artifact.digest, "artifact", artifact.format, tokenizer)
        compares = runtimes.COMPARES[artifact.format]
        lack = environments.missing(environments.spec(environments.script(compares)))
        tokens: Json = {"missing": f"{compares} needs {lack}"}
        if not lack:
            request = {"do": "compare", "folder": str(self._expected_logits())}
            with self._console.task(f"{file.name}: next tokens ({compares})"):
                tokens = {**self._session(subject, compares).ask(request), "runtime": compares}
        reads = self._reader(artifact.format)
        found = self._measure(subject, reads, self._folder / f"{file.name}.json")
        return {"tokens": tokens, "calls": {**self._calls(found), "runtime": found.runtime_version}}

    def _calls(self, found: Measurement) -> Json:
        """Rows right before and after, where right is what is expected, or else what the checkpoint called."""
        assert self._reference
        if found.error:
            return {"error": found.error["message"]}
        parse = dialects.get(self._checkpoint.dialect).parse
        own = {s.row: [c.to_json() for c in parse(s.text or "").calls] for s in self._reference.samples}
        known = all("expected" in r for r in self._rows)
        rows = [r if known else {**r, "expected": own[r["id"]]} for r in self._rows]
        before, after = (score.score(rows, m, self._checkpoint.dialect) for m in (self._reference, found))
        pairs = [(b.right, a.right) for b, a in zip(before.outcomes, after.outcomes)]
        change = stats.paired_difference([b for b, _ in pairs], [a for _, a in pairs])
        wrong = [o for o, (b, a) in zip(after.outcomes, pairs) if b and not a]
        return {
            "rows": len(pairs), "expected": "given" if known else "the checkpoint's own",
            "right_before": sum(b for b, _ in pairs), "right": sum(a for _, a in pairs),
            "same": sum(b.got == a.got for b, a in zip(before.outcomes, after.outcomes)),
            "lost": len(wrong), "gained": sum(a and not b for b, a in pairs),
            "difference": change.value, "low": change.low, "high": change.high,
            "first_lost": [{"row": o.row, "why": o.why} for o in wrong[:3]],
        }  # fmt: skip

    def _expected_logits(self) -> Path:
        """The folder with the checkpoint's logits, which are computed when first asked for."""
        assert self._reference
        if not self._logits.exists():
            by_row = {s.row: s for s in self._reference.samples}
            texts = [
                {"id": r["id"], "prompt": r["prompt"], "completion": f"{sample.text}{_ending(sample)}"}
                for r in self._rows[:TEXTS]
                if (sample := by_row.get(r["id"])) and sample.text is not None
            ]
            with self._console.task(f"{self._subject.name}: what it expects next in {len(texts)} texts"):
                partial = self._folder / "logits.partial"
                request = {"do": "reference", "rows": texts, "places": PLACES, "folder": str(partial)}
                self._session(self._subject, "transformers").ask(request)
                partial.replace(self._logits)
        return self._logits

    @property
    def _subject(self) -> measure.Subject:
        path = Path(self._checkpoint.path)
        return measure.Subject(path.name, path, self._checkpoint.digest, "checkpoint", "checkpoint")

    @property
    def _logits(self) -> Path:
        return self._folder / "logits"

    def _reader(self, file_format: str) -> str:
        names = runtimes.READS[file_format]
        able = [n for n in names if not environments.missing(environments.spec(environments.script(n)))]
        return (able or names)[0]

    def _settings(self, runtime: str) -> measure.Settings:
        threads = os.cpu_count() or 1 if runtime == "transformers" else measure.default_threads()
        return measure.Settings(runtime, threads, CONTEXT, MAX_TOKENS, self._stop)

    def _session(self, subject: measure.Subject, runtime: str) -> measure.Session:
        environment = self._environment(environments.spec(environments.script(runtime)))
        log = self._folder / f"{subject.name}.{runtime}.log"
        return measure.Session(subject, self._settings(runtime), Local(), environment, log)

    def _measure(self, subject: measure.Subject, runtime: str, result: Path) -> Measurement:
        environment = self._environment(environments.spec(environments.script(runtime)))
        with Local() as device:
            return measure.measure(
                subject, self._settings(runtime), self._workload, device, environment, result, self._console
            )

    def _key(self, artifact: Artifact) -> str:
        names = {runtimes.COMPARES[artifact.format], self._reader(artifact.format)}
        code = archive.digest("edge/bench/parity.py", "edge/bench/agent.py", "edge/dialects/",
                              *(f"edge/bench/runtimes/{n}.py" for n in names))  # fmt: skip
        pins = [environments.spec(environments.script(n)).key for n in sorted(names)]
        return records.digest_value([artifact.digest, self._checkpoint.digest, self._rows, code, pins])


def _ending(sample: records.Sample) -> str:
    return "" if sample.stop in (None, "length") else str(sample.stop)


def keep(artifact: Artifact) -> Artifact:
    """Save the manifest, and give the file the name that its verdict wants."""
    refused = bool(artifact.proof and artifact.proof["verdict"] == "refused")
    here = Path(artifact.path)
    plain = here.with_name(here.name.removesuffix(refused_of(Path("x")).name[1:]))
    target = refused_of(plain) if refused else plain
    if target != here:
        manifest_of(here).unlink(missing_ok=True)
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
        here.replace(target)
    found = replace(artifact, path=str(target))
    records.save(found, manifest_of(target))
    return found


# --- judgement --------------------------------------------------------------------------------------------------------


def judge(evidence: Json, limits: Limits) -> tuple[str, list[str]]:
    """(verdict, what speaks against it) from `tokens` and `calls` as the gate gathered them."""
    findings = [*_judge_tokens(evidence["tokens"], limits), *_judge_calls(evidence["calls"], limits)]
    worst = max((VERDICTS.index(verdict) for verdict, _ in findings), default=0)
    return VERDICTS[worst], [why for _, why in findings]


def _judge_tokens(found: Json, limits: Limits) -> list[tuple[str, str]]:
    if "missing" in found:
        return [("proven", f"next tokens not compared: {found['missing']}")]
    if not found["positions"]:
        return [("refused", "next tokens not compared: no text fits its context")]
    findings = []
    kl, other = found["kl_mean"], found["sure"] - found["sure_same"]
    share = 1 - other / found["sure"] if found["sure"] else 1.0
    if not kl <= limits.kl:  # also if it is not a number
        what = f"{kl:.2g} nats a token from the checkpoint (limit {limits.kl:g})"
        findings.append((_worse(not kl <= limits.refused_kl), what))
    if share < limits.same:
        what = f"another first token at {other} of {found['sure']} places that the checkpoint is sure of"
        findings.append((_worse(share < limits.refused_same), what))
    return findings


def _judge_calls(found: Json, limits: Limits) -> list[tuple[str, str]]:
    if "error" in found:
        return [("refused", f"its runtime failed: {found['error']}")]
    if not found["right_before"]:
        return [("proven", "no calls to compare: the checkpoint has none right")]
    if found["high"] >= 0:  # no more than chance would do
        return []
    points = f"{100 * found['difference']:+.1f} points [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"
    what = f"{found['lost']} of {found['right_before']} right rows lost, {found['gained']} gained: {points}"
    return [(_worse(-found["high"] > limits.calls), what)]


def _worse(refused: bool) -> str:
    return "refused" if refused else "degraded"


# --- a checkpoint that is not worth converting ------------------------------------------------------------------------


def refuse_nonsense(found: Measurement, rows: list[Json], checkpoint: Checkpoint) -> None:
    """Raises GateError if (nearly) no row that asks for a call gets one, naming the likely cause."""
    asking = {r["id"] for r in rows if r.get("expected", True)}
    texts = [s.text or "" for s in found.samples if s.row in asking]
    parse = dialects.get(checkpoint.dialect).parse
    calling = sum(bool(parse(t).calls) for t in texts)
    if not texts or calling > 0.1 * len(texts):
        return
    said, cause = _cause(texts, [s.stop for s in found.samples if s.row in asking])
    raise GateError(
        f"{checkpoint.path}: {calling} of {len(texts)} questions get a function call, {said}: {texts[0][:80]!r}",
        f"{cause}; nothing was converted; with --unproven it is, unseen",
    )


def _cause(texts: list[str], stops: list[str | None]) -> tuple[str, str]:
    whole = "".join(texts)
    most = len(texts) / 2
    if sum("<pad>" in t or "<unused" in t for t in texts) > most:
        return "most write <pad>", "weights computed in float16 overflow to that: tune in bfloat16 or float32"
    if sum(not t.strip() for t in texts) > most:
        return "most write nothing", "it was tuned to stop at once: look at the completions of the training rows"
    if _foreign(whole) > 0.5:
        return "most in another script than the questions", "the tokenizer is not the one that it was trained with"
    if sum(s == "length" for s in stops) > most:
        return "most never stop", "it was not tuned on calls that end in the stop token, or has random weights"
    return (
        "most answer in words",
        "it was not tuned for function calls in this dialect, or not with declarations like these (--rows)",
    )


def _foreign(text: str) -> float:
    """The share of letters that are neither Latin nor Hangul."""
    letters = [c for c in text if c.isalpha()]
    other = sum(not unicodedata.name(c, "").startswith(("LATIN", "HANGUL")) for c in letters)
    return other / len(letters) if letters else 0.0
