"""What speaks against handing an artifact over: never to be overcome, or only with a reason, which the contract keeps.

never           the file is not the one of its manifest, or damaged; its proof refused it; Gemma's weights without Gemma's
                notice; a format that the target doesn't load; a dialect that it doesn't speak
with a reason   degraded; never proven; an error of `edge lint`; prompts that the target writes otherwise than training
                did; tools that it was not tuned on
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge import archive, dialects, records, renderers
from edge.dialects import Message, Tool
from edge.errors import EdgeError, GateError, MissingError
from edge.export import inspect, lint
from edge.export.gate import class_of
from edge.export.handoff import TARGETS, Target, origin, target
from edge.export.handoff.origin import CASES, Lesson
from edge.export.handoff.shapes import learned
from edge.export.inspect.found import Found
from edge.export.job import GEMMA_NOTICE, manifest_of, refused_of
from edge.records import Artifact, Json
from edge.renderers import jinja, parity

NEVER = frozenset({"damaged", "digest", "proof-refused"})  # rules of lint that no reason overcomes
OTHER_PROMPTS = frozenset(
    {"prompt-affixes"}
)  # warnings of lint that say what an error does: it was exported for another renderer
GEMMA_PIECES = range(262_144, 262_210)  # the size of Gemma 3's vocabulary, with the few tokens that families add
REFUSED = refused_of(Path("x")).name[1:]
_WORD = "hand it over all the same: --accept REASON; the contract keeps the reason"


@dataclass(frozen=True)
class Doubt:
    """what: one sentence for the contract. hint: what would dispel it."""

    what: str
    hint: str


def artifact(file: Path) -> Artifact:
    """An artifact that may be handed over as far as its manifest goes.

    Raises: EdgeError for what is missing or has no manifest, GateError for what was refused, or is another file by now.
    """
    if not file.exists():
        other = refused_of(file)
        if other.exists():
            raise GateError(f"{file}: refused, it lies there as {other.name}: {_reasons(other)}", _ANOTHER)
        raise EdgeError(f"{file}: no such file or folder", "export it first: edge export, or edge run")
    manifest = manifest_of(file)
    if file.suffix == ".json" and file.with_suffix("").exists():
        raise EdgeError(f"{file}: a manifest, not an artifact", f"name the file: {file.with_suffix('')}")
    if not manifest.is_file():
        inside = sorted(f.name.removesuffix(".json") for f in file.glob("*.json")) if file.is_dir() else []
        named = [name for name in inside if (file / name).exists()]
        if named:
            raise EdgeError(f"{file}: a folder of artifacts", f"name one: {', '.join(named)}")
        raise EdgeError(
            f"{file}: no manifest beside it ({manifest.name})",
            "take it as one of ours first: edge import, with --checkpoint FOLDER to prove it",
        )
    found = replace(records.load(Artifact, manifest), path=str(file.absolute()))
    if (found.proof or {}).get("verdict") == "refused" or file.name.endswith(REFUSED):
        raise GateError(f"{file}: refused, so it is not handed over: {_reasons(file)}", _ANOTHER)
    if records.digest_path(file) != found.digest:
        raise GateError(f"{file}: not the file of its manifest: it was altered since", "export or import it again")
    return found


_ANOTHER = "hand over another quantisation: more bits lose fewer calls"


def _reasons(file: Path) -> str:
    manifest = manifest_of(file)
    proof = (records.load(Artifact, manifest).proof if manifest.is_file() else None) or {}
    return "; ".join(proof.get("why", [])) or "by its name"


def other_format(name: str, module: Target, record: Artifact) -> None:
    """Raise EdgeError for a format that the target's runtime doesn't load, naming those targets that do."""
    if record.format in module.FORMATS:
        return
    able = [n for n in TARGETS if record.format in _formats(n)]
    who = f"; a {record.format} goes to: {', '.join(able)}" if able else ""
    hint = " or ".join(f"edge export {f} CHECKPOINT" for f in module.FORMATS)
    raise EdgeError(
        f"{Path(record.path).name}: {name} loads {' or '.join(module.FORMATS)}, not {record.format}{who}", hint
    )


def _formats(name: str) -> tuple[str, ...]:
    try:
        return target(name).FORMATS
    except ImportError:
        return ()


def other_dialect(name: str, module: Target, record: Artifact) -> None:
    """Raise EdgeError for a dialect that nothing in this target can read."""
    spoken: tuple[str, ...] = getattr(module, "DIALECTS", ("functiongemma",))
    if record.dialect not in spoken:
        raise EdgeError(
            f"{Path(record.path).name}: {name} is written for {', '.join(spoken)}, and this model speaks {record.dialect}",
            "edge serve and edge call run it here",
        )


def odd_name(file: Path) -> None:
    """Raise EdgeError for a name that not every receiver's file system, or build, can hold."""
    odd = sorted({c for c in file.name if c in _ODD or not c.isprintable()})
    if odd:
        raise EdgeError(
            f"{file.name}: its name holds {' '.join(map(repr, odd))}, which other systems' files can't be called",
            f"rename it, and its manifest {manifest_of(file).name} with it",
        )


_ODD = '\\/:*?"<>|'  # what Windows refuses


# --- what may be accepted -----------------------------------------------------------------------------------------------


def doubts(record: Artifact, lesson: Lesson, served: Sequence[Json], findings: Sequence[lint.Finding]) -> list[Doubt]:
    """Everything that a reason is needed for. Raises GateError for what no reason overcomes."""
    errors = [f for f in findings if f.severity == lint.ERROR or f.rule in OTHER_PROMPTS]
    never = [f for f in errors if f.rule in NEVER]
    if never:
        raise GateError(f"{record.path}: {never[0].rule}: {never[0].seen}", never[0].fix)
    found = [Doubt(f"lint, {f.rule}: {f.seen}; on the device: {f.happens}", f.fix) for f in errors]
    return [*found, *_unproven(record), *_untaught(lesson), *_other_prompts(served)]


def _unproven(record: Artifact) -> list[Doubt]:
    file, kind = Path(record.path).name, class_of(record.quantisation)
    if not record.proof:
        near = origin.find(record, Path(record.path)).checkpoint
        folder = near.path if near else "FOLDER"
        hint = f"prove it: edge import {record.path} --checkpoint {folder}, or export it again without --unproven"
        return [Doubt(f"{file} was not proven beside its checkpoint ({kind})", hint)]
    if record.proof["verdict"] == "degraded":
        return [Doubt(f"{file} is degraded: {'; '.join(record.proof.get('why', []))}", _ANOTHER)]
    if (record.proof.get("calls") or {}).get("right_before") == 0:
        return [
            Doubt(
                f"{file} was proven on no calls: its checkpoint had none right",
                "prove it on rows that it was tuned for: --rows FILE",
            )
        ]
    return []


def _untaught(lesson: Lesson) -> list[Doubt]:
    if lesson.doubt is None:
        return []
    return [
        Doubt(
            f"its tools are not those that it was tuned on: {lesson.doubt}", "leave --tools out, or tune on these tools"
        )
    ]


def _other_prompts(served: Sequence[Json]) -> list[Doubt]:
    found = []
    for told in served:
        if told["differ"]:
            kinds = ", ".join(told["classes"]) or "it can't render them"
            what = f"{told['renderer']} writes {told['differ']} of {told['rows']} prompts otherwise than training did: {kinds}"
            hint = (
                f'tune for it: renderer = "{told["renderer"]}" in [model]; edge prompt compare shows where they differ'
            )
            found.append(Doubt(what, hint))
    return found


def accept(name: str, found: Sequence[Doubt], reason: str | None) -> list[Json]:
    """The contract's `accepted`. Raises GateError naming all of them if there is no reason."""
    if found and not (reason or "").strip():
        raise GateError(
            f"{name}: {'; '.join(d.what for d in found)}",
            f"{'; or '.join(dict.fromkeys(d.hint for d in found))}; or {_WORD}",
        )
    return [{"what": d.what, "reason": str(reason).strip()} for d in found]


# --- prompts ------------------------------------------------------------------------------------------------------------


def renders(module: Target, record: Artifact, found: Found) -> list[str]:
    """Who writes the prompts for this artifact there, by their names in edge/renderers.

    flutter_gemma writes those of a `.task`; of a `.litertlm` the engine does, but on iOS. A `.litertlm` without a template is
    given the engine's own format.
    """
    if module.RENDERS is None:
        return []
    engine = "litert_lm" if found.template else "litert_lm_builtin"
    if record.format == "litertlm":
        return [engine, "flutter_gemma"] if module.RENDERS == "flutter_gemma" else [engine]
    return [module.RENDERS]


def served(names: Sequence[str], lesson: Lesson, record: Artifact, trained: str, found: Found) -> list[Json]:
    """How each of these writes the lesson's prompts, for the contract. Text is compared: equal texts are equal tokens."""
    rows = [r for r in lesson.cases if _names(r["tools"]) == _names(lesson.tools)][:CASES] or [_own(lesson)]
    result = []
    for name in names:
        renderer, differ, kinds = renderers.get(name), 0, Counter[str]()
        for row in rows:
            ours = renderers.prompt(trained, record.dialect, row["messages"], row["tools"])
            # Apps declare the properties as they were learned; of Ollama's clients anyone writes the tools.
            given = row["tools"] if name == "ollama" else learned(row["tools"], record.dialect, trained)
            theirs = _render(name, record.dialect, row["messages"], given, found)
            if theirs != ours:
                differ += 1
                kinds.update(parity.classify(ours, theirs) if theirs else ["can't be rendered"])
        told: Json = {"renderer": name, "follows": renderer.FOLLOWS, "verified": renderer.VERIFIED}
        result.append({**told, "unknown": list(renderer.UNKNOWN), "rows": len(rows), "differ": differ,
                       "classes": dict(kinds.most_common())})  # fmt: skip
    return result


def _render(name: str, dialect: str, messages: list[Message], tools: list[Tool], found: Found) -> str | None:
    try:
        if name == "litert_lm" and found.template:  # what the engine runs is the file's own
            start = "<bos>" if dialect == "functiongemma" else ""
            return start + jinja.run(found.template, messages, tools)
        return renderers.get(name).render(messages, tools, found.template or "")
    except MissingError:
        raise
    except EdgeError:
        return None


def _own(lesson: Lesson) -> Json:
    start = [{"role": "developer", "content": lesson.system}] if lesson.system else []
    return {"messages": [*start, {"role": "user", "content": "Please do it."}], "tools": lesson.tools}


def _names(tools: Sequence[Tool]) -> list[str]:
    return [tool["function"]["name"] for tool in tools]


def version(trained: str) -> Json:
    """Which code wrote the prompts of training."""
    own = "edge/dialects/" if trained == renderers.TRAINING else f"edge/renderers/{trained}.py"
    return {
        "follows": renderers.get(trained).FOLLOWS,
        "code_sha256": archive.digest(own, "edge/renderers/writing.py", "edge/dialects/"),
    }


# --- licences -----------------------------------------------------------------------------------------------------------


def notices(record: Artifact, given: Sequence[str], found: Found) -> list[str]:
    """The sentences that go with the weights. Raises GateError for Gemma's weights without Gemma's, or none known at all."""
    told = list(dict.fromkeys([*record.notices, *(n.strip() for n in given if n.strip())]))
    file = Path(record.path).name
    if found.vocabulary in GEMMA_PIECES and not any("gemma" in n.lower() for n in told):
        raise GateError(
            f"{file}: derived from Gemma by its vocabulary of {found.vocabulary:,} tokens, and no notice of Gemma's terms is known",
            f'--notice "{GEMMA_NOTICE}"',
        )
    if not told and found.manifest is None:
        raise GateError(
            f"{file}: neither the file nor a manifest names a licence", '--notice "…", the terms that it comes under'
        )
    return told


def look(file: Path) -> tuple[Found, list[lint.Finding]]:
    """What is in the artifact, and what lint says of it. Raises GateError for what is damaged."""
    try:
        found = inspect.read(file)
    except inspect.Damaged as error:
        raise GateError(error.message, error.hint) from None
    return found, lint.check_found(found)


def declarations_fit(tools: Sequence[Tool], dialect: str) -> list[str]:
    """Warnings of the dialect about these tools. Raises EdgeError for what it can't express."""
    findings = dialects.get(dialect).check(list(tools))
    dialects.refuse(findings)
    return [str(f) for f in findings if f.level == "warning"]
