# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""A worker for the tests of the mechanism: `request["do"]` says how it behaves."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, os.environ["EDGE_CODE"])


def main(request, reply):
    return globals()[request["do"]](request, reply)


def succeed(request, reply):
    for i in range(3):
        reply.progress(i + 1, 3, "step")
    Path(request["out"], "made.txt").write_text("made")
    return {"answer": 42, "python": sys.version_info[:2], "flags": [sys.flags.isolated, sys.flags.safe_path]}


def fail(request, reply):
    from edge.errors import MissingError

    raise MissingError("no widget in this machine", "buy a widget")


def stumble(request, reply):
    raise RuntimeError("not foreseen")


def crash(request, reply):
    print("about to crash", file=sys.stderr, flush=True)
    os.abort()


def quit_early(request, reply):
    os._exit(3)


def be_killed(request, reply):
    os.kill(os.getpid(), signal.SIGKILL)


def exhaust_memory(request, reply):
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
    return {"bytes": len(bytearray(1 << 32))}


def hang(request, reply):
    time.sleep(600)


def hang_with_child(request, reply):
    child = subprocess.Popen(["sleep", "600"])
    reply.progress(os.getpid(), child.pid, "pids")
    time.sleep(600)


def chatter(request, reply):
    libc = ctypes.CDLL(None)
    libc.printf(b'{"ok": {"forged": true}}\n')
    libc.fflush(None)
    print("from Python")
    os.system("echo from a child")
    return {"honest": True}


def leave_half(request, reply):
    Path(request["out"], "half.bin").write_bytes(b"0" * 1000)
    os._exit(9)


def resume(request, reply):
    seen = Path(request["out"], "seen")
    if seen.exists():
        return {"resumed": True}
    seen.write_text("1")
    os._exit(9)


def close_output(request, reply):
    reply._out.close()
    time.sleep(600)


def die_with_a_child_on_the_pipe(request, reply):
    if os.fork() == 0:
        time.sleep(600)
    os.kill(os.getpid(), signal.SIGKILL)


def answer_nothing(request, reply):
    return None


def answer_nan(request, reply):
    return {"loss": float("nan")}


def answer_half_a_surrogate(request, reply):
    return {"text": "a\ud800b"}


def send_nonsense(request, reply):
    reply._out.write("[" * 200_000 + "\n")
    reply.send({"error": "text"})


def numpy_version(request, reply):
    import numpy

    return {"numpy": numpy.__version__}


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
