"""Several processes for one training: torchrun under our worker, or the worker's script under a torchrun of the user's.

    EDGE_CODE=… torchrun --nproc-per-node 2 train/workers/tune.py build/tuned.worker/request.json

`accelerate launch` starts it likewise (on a CPU one process, since there its own launcher wants MPI). A rank
writes JSON lines as a worker does (`edge/worker.py`); the first writes all, the others an error or their peak memory.
torchrun puts each into a session of its own, so a rank ends by itself when its standard input does, if the worker has
started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

from edge.errors import WorkerCrash, from_json
from edge.records import write_text
from edge.worker import Reply, answer, peak_rss_bytes, serve, tail_of

Json = dict[str, Any]
_WATCH = "EDGE_RANK_WATCHES_INPUT"


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def launch(request: Json, reply: Any, script: Path) -> Json:
    """Run `script` in as many processes as the options say; returns the first one's answer.

    Raises the error that a rank reported first, or WorkerCrash.
    """
    count = request["options"]["processes"]
    out = Path(request["out"])
    file = out.parent / "request.ranks.json"
    file.write_text(json.dumps(request), encoding="utf-8")
    _answer_of(file).unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={count}",
        str(script),
        str(file),
    ]
    environment = {
        **os.environ,
        "PYTHONSAFEPATH": "1",  # else the workers' folder goes before every installed package
        "OMP_NUM_THREADS": str(max(1, request["options"]["threads"] // count)),
        _WATCH: "1",
    }
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        last = _listen(process, reply)
        if "error" in last:
            process.send_signal(signal.SIGTERM)  # the others wait for the one that failed
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=60)
        process.kill()
    file.unlink(missing_ok=True)
    if "error" in last:
        raise from_json(last["error"])
    if not _answer_of(file).exists():
        log = out.parent / "worker.log"
        raise WorkerCrash(f"a process of {count} ended without a last word:\n{tail_of(log)}", f"the log is {log}")
    told = json.loads(_answer_of(file).read_text(encoding="utf-8"))
    _answer_of(file).unlink()
    return {**told, "ranks_peak_rss_bytes": last["peaks"]}


def _answer_of(request: Path) -> Path:
    """Where the first rank leaves its answer: a long line would mix with another rank's on the same pipe."""
    return request.with_suffix(".answer")


def _listen(process: subprocess.Popen[bytes], reply: Any) -> Json:
    """Pass on what the first rank says until all are done, or the first error; the peaks of all ranks."""
    peaks: Json = {}
    assert process.stdout
    for line in process.stdout:
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if "error" in message:
            return dict(message)
        if "peak" in message:
            peaks[str(message["rank"])] = message["peak"]
        else:
            reply.send(message)
    return {"peaks": peaks}


class Silent:
    """The voice of a rank that isn't the first."""

    def progress(self, *_: object) -> None: ...
    def log(self, *_: object) -> None: ...
    def send(self, *_: object) -> None: ...


def work(script: Path) -> None:
    """What a tuning worker is: the first process, or with a request's file as its argument one of several."""

    def main(request: Json, reply: Any) -> Json:
        if request["options"]["processes"] > 1 and "RANK" not in os.environ:
            return launch(request, reply, script)
        from edge.train import trainer

        return trainer.train(request, reply)

    if len(sys.argv) > 1:
        _serve_rank(main, Path(sys.argv[1]))
    else:
        serve(main)


def _serve_rank(main: Callable[[Json, Any], Json], file: Path) -> None:
    """One process of several: reads the request from a file."""
    voice = Reply()
    if os.environ.get(_WATCH):
        threading.Thread(target=_die_with_input, daemon=True).start()
    request = json.loads(file.read_text(encoding="utf-8"))
    last = answer(lambda: main(request, voice if rank() == 0 else Silent()))
    sys.stdout.flush()
    sys.stderr.flush()
    if "error" in last:
        voice.send(last)
        os._exit(4)
    if rank() == 0:
        write_text(_answer_of(file), json.dumps(last["ok"]))
    voice.send({"rank": rank(), "peak": peak_rss_bytes()})
    os._exit(0)


def _die_with_input() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(1)


def backend() -> Optional[str]:
    """gloo where there is no GPU; None leaves the choice to torch."""
    import torch

    return None if torch.cuda.is_available() or processes() == 1 else "gloo"
