"""Tuning, as `edge train` and `edge run` do it: rows to a tuned checkpoint, with a run folder that tells how it was made.

    from edge.console import Console
    from edge.train import tune
    made = tune.tune_files("edge-tiny", ["train.jsonl"], Path("tuned"), tools_file=Path("tools.py"),
                           options=tune.settings(preset="korean-lora", epochs=1), console=Console())

The run folder is `training/` in the checkpoint's folder: run.json (settings, base, data digests, seeds, environment, git
state, machine), metrics.jsonl and plot.svg. While it runs it lies in `NAME.worker/partial/training/`.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edge
from edge import archive, dialects, environments, kept, records, renderers, rows, worker
from edge.calls import Call
from edge.console import Console
from edge.environments import Environment, Spec
from edge.errors import EdgeError, MissingError, WorkerError
from edge.export import checkpoint as checkpoints
from edge.export import gate, job
from edge.records import Checkpoint, Json
from edge.renderers import jinja, token_ids
from edge.train import bases, fetching, presets, readers
from edge.train.data import datasets
from edge.train.trainer import LAST_GOOD, SAY

CODE = tuple(
    f"edge/train/{name}.py"
    for name in ("trainer", "encode", "batches", "device", "memory", "metrics", "watch", "carry")
)
HALF_VARIABLE = "FG_USE_FP16"  # the Korean guide's switch
TEMPLATE_ROWS = 4


@dataclass(frozen=True)
class Rows:
    """What is tuned on: files of {"id", "prompt", "completion"}, and what is known of where they came from."""

    training: Path
    watched: Path | None  # held-out rows whose loss is looked at
    facts: Json


def settings(**given: Any) -> Json:
    """Options of a run: the keys of [train] in edge.toml by name. Raises EdgeError for a key or value that isn't one."""
    from edge.project import check_training

    return check_training(given)


def tune(
    base: Checkpoint,
    given: Rows,
    options: Json,
    out: Path,
    name: str,
    console: Console,
    environment: Callable[[Spec], Environment],
    renderer: str = renderers.TRAINING,
) -> Checkpoint:
    """Tune `base` into `out`, unless that is what lies there; a stopped run of the same inputs goes on.

    Args:
        options: see `settings`.
        environment: from a spec to a built environment.
        renderer: who wrote the prompts.

    Raises: EdgeError for rows or settings that can't be trained on, MissingError for a machine that can't, WorkerError
    for a loss that is no number or jumps.
    """
    refuse_half(base)
    refuse_qlora(options["method"])
    script = environments.script("qlora" if options["method"] == "qlora" else "tune")
    digest = records.digest_file(given.training)
    key = kept.key(script, {"base": base.digest, "rows": digest, "options": options}, CODE)
    if kept.done(out, key):
        console.say("= tuned: trained already")
        return job.read_checkpoint(out, base.dialect)
    kept.forget_other(out, key)
    for line in template_findings(base, renderer):
        console.say(f"warning: {line}")
    built = environment(environments.spec(script))
    dialect = dialects.get(base.dialect)
    request = {
        "checkpoint": base.path,
        "rows": str(given.training),
        "watched": str(given.watched) if given.watched else None,
        "stop": list(dialect.STOP),
        "function_tokens": list(dialect.FUNCTION_TOKENS),
        "name": name,
        "options": {**options, "threads": options["threads"] or os.cpu_count() or 1},
    }
    desk = out.with_name(out.name + ".worker")
    partial = desk / "partial" / "training"
    records.save(_run(base, given, options, built, name), partial / "run.json")
    with console.task(f"tuning {base.source} on {_count(given.training)} rows") as progress:
        answer = _work(script, request, out, built, progress, console)
    tuned = Checkpoint(
        digest=records.digest_folder(out),
        path=str(out.absolute()),
        dialect=base.dialect,
        base=base.digest,
        source=name,
        training={**answer, "options": request["options"], "data": digest, **given.facts},
        environment=built.facts,
        notices=base.notices,
        renderer=renderer,
    )
    records.save(tuned, out / "checkpoint.json")
    kept.finish(out, key)
    shutil.rmtree(out.with_name(f"{out.name}.{LAST_GOOD}"), ignore_errors=True)
    return tuned


def tune_files(
    base: str,
    data: Sequence[str],
    out: Path,
    *,
    options: Json,
    console: Console,
    evaluation: Sequence[str] = (),
    tools_file: Path | None = None,
    dialect: str = "functiongemma",
    developer: str | None = None,
    renderer: str = renderers.TRAINING,
) -> Checkpoint:
    """Tune on data files in any of the three shapes, without a project.

    Args:
        base: edge-tiny, a folder, or a hub id.
        data: files, globs and hub datasets; rows that say that they are for evaluation are left out.
        evaluation: the same, held out: the loss of the first of them is looked at.
        tools_file: the tools of rows that bring none; None trains such rows as they are.
        developer: what a flat row says first; None for the usual sentence, "" for nothing.
    """
    from edge import tools
    from edge.train.data import source

    if out.is_dir() and any(out.iterdir()) and not (out / "config.json").is_file():
        raise EdgeError(f"{out}: what is there is no model, and would be replaced", "give a new or an empty folder")
    files, held_out = source.expand(data), source.expand(evaluation)
    declared = tools.load(tools_file, console.say).tools if tools_file else []
    manner = rows.Manner(dialect, readers.DEVELOPER if developer is None else developer or None, renderer)
    with contextlib.closing(environments.Builder(console)) as builder:
        client = fetching.Client(console, builder.get)
        checkpoint = bases.find(base, Path(), out.with_name(f"{out.name}.base"), dialect, client)
        if Path(checkpoint.path).resolve() == out.resolve():
            raise EdgeError(f"{out}: that is the base's own folder", "give another --out")
        rows.say_renderer(manner, console)
        desk = out.with_name(out.name + ".worker") / "data"
        given = _write(files, held_out, declared, manner, options["eval_rows"], desk, console)
        facts = {**given.facts, "tools_file": str(tools_file) if tools_file else None}
        given = Rows(given.training, given.watched, facts)
        return tune(checkpoint, given, options, out, out.resolve().name, console, builder.get, renderer)


def _write(
    files: Sequence[Any], held_out: Sequence[Any], declared: list[dialects.Tool], manner: rows.Manner, watched: int,
    folder: Path, console: Console,
) -> Rows:  # fmt: skip
    """Read and render; what was wrong is said, and lies in rejects.jsonl."""
    training, rejects = rows.read(files, "train", declared, manner, console)
    looked_at, also = rows.read(held_out, "eval", declared, manner, console) if held_out else ([], [])
    rejects += also
    readers.write_rejects(rejects, folder / "rejects.jsonl")
    for reason, count in readers.count_reasons(rejects).most_common():
        console.say(f"warning: {count} rows rejected: {reason} (see {folder / 'rejects.jsonl'})")
    if not training:
        raise EdgeError("no usable training rows", f"why each was rejected: {folder / 'rejects.jsonl'}")
    shared = readers.shared_rows(training, looked_at)
    if shared:
        console.say(f"warning: {len(shared)} held-out rows are also in training, so their loss flatters: {shared[0]} …")
    bare = sum(1 for row in training if not (declared if row.tools is None else row.tools))
    if bare:
        console.say(f"{bare} rows without tools are trained as given: declare none at inference either")
    rows.write_lines(folder / "train.jsonl", (rows.training_row(row, declared, manner) for row in training))
    rows.write_lines(folder / "eval.jsonl", (rows.training_row(row, declared, manner) for row in looked_at[:watched]))
    facts = {
        "train_rows": len(training),
        "eval_rows": len(looked_at),
        "rejected": len(rejects),
        "shared_with_training": len(shared),
        "tools": {
            "own": sum(1 for row in training if row.tools),
            "declared": sum(1 for row in training if row.tools is None and declared),
            "none": bare,
        },
        "files": {
            str(file): records.digest_file(file) for file in dict.fromkeys(r.file for r in [*training, *looked_at])
        },
        "datasets": datasets.facts([*files, *held_out]),
    }
    return Rows(folder / "train.jsonl", folder / "eval.jsonl" if looked_at and watched else None, facts)


def watched_rows(workload: Sequence[Json], count: int, dialect: dialects.Dialect, file: Path) -> Path | None:
    """The first of a project's evaluation rows that call something, as rows whose loss can be looked at."""
    calling = [row for row in workload if row["expected"]][:count]
    lines = (
        {
            "id": row["id"],
            "prompt": row["prompt"],
            "completion": dialect.completion(
                readers.answer([Call(c["name"], c["arguments"]) for c in row["expected"]])
            ),
        }
        for row in calling
    )
    rows.write_lines(file, lines)
    return file if calling else None


# --- what is refused, and what is only said -----------------------------------------------------------------------------


def refuse_half(base: Checkpoint) -> None:
    """The Korean guide's FG_USE_FP16=1 asks for float16. Raises EdgeError for a model that can't be tuned in it."""
    asked = os.environ.get(HALF_VARIABLE, "").strip().lower()
    family = str(checkpoints.inspect(Path(base.path)).config.get("model_type", ""))
    if asked not in ("", "0", "false", "no") and family.startswith("gemma"):
        raise EdgeError(f"{HALF_VARIABLE}={asked} is set: {presets.NO_HALF}", f"unset {HALF_VARIABLE}")


def refuse_qlora(method: str) -> None:
    """Raises MissingError for QLoRA without a CUDA GPU, before an environment is built for it."""
    if method == "qlora" and not cuda_gpus():
        raise MissingError(
            "method qlora needs a CUDA GPU, and this machine shows none (nvidia-smi): bitsandbytes' 4 bits are made for it",
            'use method = "lora" (the weights of a 270M model take 1.1 GB), or tune where there is a CUDA GPU',
        )


def cuda_gpus() -> list[str]:
    """The names of NVIDIA's GPUs, as nvidia-smi lists them; [] without it."""
    path = shutil.which("nvidia-smi")
    if not path:
        return []
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = [path, "--query-gpu=name", "--format=csv,noheader"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        return [line.strip() for line in told.splitlines() if line.strip()]
    return []


def template_findings(base: Checkpoint, renderer: str) -> list[str]:
    """Whether the base's own chat template writes prompts otherwise than training: who uses it feeds other prompts."""
    template = token_ids.template(Path(base.path))
    if not template:
        return [
            "the base has no chat template: prompts are the dialect's, and a runtime that needs a template has none"
        ]
    for row in gate.own_rows(base.dialect, TEMPLATE_ROWS, renderer):
        try:
            text = jinja.run(template, row["messages"], row["tools"])
        except MissingError:
            return []
        except EdgeError as error:
            return [f"{error.message}: whoever uses it can't write the prompts that are trained on"]
        if text != row["prompt"]:
            at = next(
                (i for i, (a, b) in enumerate(zip(text, row["prompt"])) if a != b), min(len(text), len(row["prompt"]))
            )
            return [
                f"the base's chat template writes other prompts than training: {text[at : at + 30]!r} where training has "
                f"{row['prompt'][at : at + 30]!r}; use edge's at inference, see `edge prompt compare`"
            ]
    return []


# --- the run ------------------------------------------------------------------------------------------------------------


def _work(script: Path, request: Json, out: Path, built: Environment, progress: Any, console: Console) -> Json:
    try:
        return worker.run(
            script, request, out, python=built.python, progress=listener(progress, console), keep_partial=True
        )
    except WorkerError as error:
        good = out.with_name(out.name + ".worker") / "partial" / LAST_GOOD
        if good.is_dir():
            place = out.with_name(f"{out.name}.{LAST_GOOD}")
            worker.replace_folder(good, place)
            adapter = (place / "adapter_config.json").exists()
            use = " (an adapter: `edge merge` makes it a checkpoint)" if adapter else ""
            error.hint = f"{error.hint}; the weights before that update are kept in {place}{use}"
        raise


def listener(progress: worker.Progress, console: Console) -> worker.Progress:
    """Passes a worker's progress on; what it says in lines that stay becomes such lines."""

    def told(done: float | None, total: float | None, what: str) -> None:
        if what.startswith(SAY):
            console.say("  " + what[len(SAY) :])
        else:
            progress(done, total, what)

    return told


def _run(base: Checkpoint, given: Rows, options: Json, built: Environment, name: str) -> Json:
    """What it takes to repeat the run."""
    return {
        "schema": 1,
        "name": name,
        "options": options,
        "seed": options["seed"],
        "base": {"source": base.source, "digest": base.digest, "path": base.path, "dialect": base.dialect},
        "rows": {"file": str(given.training), "digest": records.digest_file(given.training), "count": _count(given.training)},
        "watched": str(given.watched) if given.watched else None,
        "data": given.facts,
        "environment": built.facts,
        "edge": {"version": edge.__version__, "code": archive.digest(*CODE)},
        "git": git_state(given.training.parent),
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count(),
                    "gpus": cuda_gpus()},
    }  # fmt: skip


def git_state(folder: Path) -> Json | None:
    """{"commit", "changed": whether files differ from it} of the repository that a folder lies in; None outside one."""
    git = shutil.which("git")
    if not git:
        return None

    def ask(*words: str) -> str:
        done = subprocess.run([git, "-C", str(folder), *words], capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.strip()

    try:
        return {
            "commit": ask("rev-parse", "HEAD"),
            "changed": bool(ask("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _count(file: Path) -> int:
    with file.open("rb") as f:
        return sum(1 for _ in f)
