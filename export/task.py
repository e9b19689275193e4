"""`.task` artifacts: a TFLite, its tokenizer and its stop tokens, as MediaPipe and flutter_gemma load them.

profile          the runtime puts around what an app sends
flutter_gemma    nothing: the app's own code writes every turn marker
turns            a user turn before, the opening of a model turn after: for apps that send bare text

bundler          environment
current          mediapipe 0.10.35, the last with this bundler, numpy 2
legacy           mediapipe 0.10.21 with numpy 1.26, the generation of published notebooks; same worker, same checks
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge.console import Console
from edge.environments import Environment, Spec
from edge.errors import EdgeError
from edge.export import tflite
from edge.export.job import Exported, Job, only_one
from edge.records import Checkpoint

FORMAT = "task"
PROFILES = ("flutter_gemma", "turns")
_CODE = ("edge/export/workers/task", "edge/export/inspect/wire.py")
BUNDLERS = {"current": "task", "legacy": "task_legacy"}  # name -> worker


def export(
    checkpoint: Checkpoint,
    quantisations: list[str],
    out: Path,
    name: str,
    console: Console,
    environment: Callable[[Spec], Environment],
    *,
    prefill: tuple[int, ...] = tflite.PREFILL,
    cache: int = tflite.CACHE,
    profile: str = "flutter_gemma",
    bundler: str = "current",
) -> Exported:
    """Make `out/NAME_TAG_ekvCACHE.task` for each, unless it is there already, and the TFLite that it carries.

    Files of another profile or bundler than the usual say so: `…_ekv1024_turns_legacy.task`.

    Raises: EdgeError for a checkpoint, option or shape that can't be exported, WorkerError when a worker fails.
    """
    wanted, shape = tflite.parse_all(quantisations), tflite.shape_of(prefill, cache)
    for word, known, what in ((profile, PROFILES, "profile"), (bundler, tuple(BUNDLERS), "bundler")):
        if word not in known:
            raise EdgeError(f"no {what} {word!r}", f"there are: {' '.join(known)}")
    if profile == "turns" and checkpoint.dialect != "functiongemma":
        raise EdgeError(f"no turn markers are known for the dialect {checkpoint.dialect}", "take the other profile")
    words = [w for w, usual in ((profile, PROFILES[0]), (bundler, "current")) if w != usual]
    ending = "".join(f"_{w}" for w in words) + ".task" if words else "task"
    job = Job(checkpoint, FORMAT, out, name, console, environment)
    it = tflite.Bundle(BUNDLERS[bundler], ending, {"profile": profile}, _CODE)
    with only_one(out, console, "litert"):
        return tflite.bundle(job, it, wanted, shape)
