"""The worker mechanism, with a real worker that behaves in every way that a worker can."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from edge import worker
from edge.errors import MissingError, WorkerCrash, WorkerError

DUMMY = Path(__file__).parent / "workers" / "dummy.py"


def run(do: str, out: Path, **kwargs):
    return worker.run(DUMMY, {"do": do}, out, **kwargs)


def test_success(tmp_path):
    told = []
    result = run("succeed", tmp_path / "out", progress=lambda *p: told.append(p))
    assert result["answer"] == 42
    assert result["flags"] == [1, True]  # isolated: no PYTHONPATH, no script folder on the path
    assert result["peak_rss_bytes"] > 1e6 and result["wall_s"] > 0
    assert told == [(1, 3, "step"), (2, 3, "step"), (3, 3, "step")]
    assert (tmp_path / "out" / "made.txt").read_text() == "made"
    desk = tmp_path / "out.worker"
    assert json.loads((desk / "request.json").read_text())["do"] == "succeed"
    assert json.loads((desk / "reply.json").read_text())["ok"]["answer"] == 42
    assert (desk / "worker.log").exists() and not (desk / "partial").exists()


def test_a_failed_run_leaves_what_was_there_before(tmp_path):
    run("succeed", tmp_path / "out")
    with pytest.raises(WorkerError):
        run("stumble", tmp_path / "out")
    assert (tmp_path / "out" / "made.txt").read_text() == "made"


def test_typed_failure(tmp_path):
    with pytest.raises(MissingError, match="no widget") as caught:
        run("fail", tmp_path / "out")
    assert caught.value.hint == "buy a widget" and caught.value.exit_code == 3


def test_unforeseen_failure_names_the_log(tmp_path):
    with pytest.raises(WorkerError, match="RuntimeError: not foreseen") as caught:
        run("stumble", tmp_path / "out")
    assert "worker.log" in caught.value.hint
    assert "Traceback" in (tmp_path / "out.worker" / "worker.log").read_text()


def test_crash_gives_signal_and_tail(tmp_path):
    with pytest.raises(WorkerCrash, match=r"(?s)SIGABRT.*about to crash"):
        run("crash", tmp_path / "out")


def test_silent_exit(tmp_path):
    with pytest.raises(WorkerCrash, match="status 3"):
        run("quit_early", tmp_path / "out")


def test_killed_for_memory(tmp_path):
    with pytest.raises(WorkerCrash, match="SIGKILL") as caught:
        run("be_killed", tmp_path / "out")
    assert "memory" in caught.value.hint


def test_out_of_memory(tmp_path):
    with pytest.raises(WorkerError, match="out of memory"):
        run("exhaust_memory", tmp_path / "out")


def test_hang(tmp_path):
    started = time.monotonic()
    with pytest.raises(WorkerCrash, match="did not finish within 1 s"):
        run("hang", tmp_path / "out", timeout_s=1)
    assert time.monotonic() - started < 30


def test_chatter_on_stdout_reaches_the_log_only(tmp_path):
    assert run("chatter", tmp_path / "out")["honest"] is True
    log = (tmp_path / "out.worker" / "worker.log").read_text()
    assert "forged" in log and "from Python" in log and "from a child" in log


def test_a_worker_that_closes_its_output_is_not_waited_for(tmp_path):
    started = time.monotonic()
    with pytest.raises(WorkerCrash, match="closed its output"):
        run("close_output", tmp_path / "out")
    assert time.monotonic() - started < 30


def test_killed_while_its_child_holds_the_pipe(tmp_path):
    with pytest.raises(WorkerCrash, match="SIGKILL"):
        run("die_with_a_child_on_the_pipe", tmp_path / "out")


@pytest.mark.parametrize(
    ("do", "message"),
    [("answer_nothing", "ok is None"), ("send_nonsense", "error is 'text'"), ("answer_nan", "no JSON")],
)
def test_broken_replies_are_errors_of_the_worker(tmp_path, do, message):
    with pytest.raises(WorkerError, match=message):
        run(do, tmp_path / "out")


def test_text_that_utf8_can_not_carry_is_kept(tmp_path):
    assert run("answer_half_a_surrogate", tmp_path / "out")["text"] == "a\ud800b"
    assert json.loads((tmp_path / "out.worker" / "reply.json").read_text())["ok"]["text"] == "a\ud800b"


def test_half_a_file_never_arrives(tmp_path):
    with pytest.raises(WorkerCrash):
        run("leave_half", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.worker" / "partial").exists()


def test_a_partial_result_is_kept_for_a_worker_that_resumes(tmp_path):
    with pytest.raises(WorkerCrash):
        run("resume", tmp_path / "out", keep_partial=True)
    assert run("resume", tmp_path / "out", keep_partial=True)["resumed"] is True


def test_replay_by_hand(tmp_path):
    run("succeed", tmp_path / "out")
    (tmp_path / "out.worker" / "partial").mkdir()
    request = (tmp_path / "out.worker" / "request.json").read_bytes()
    again = subprocess.Popen(
        [sys.executable, "-I", str(DUMMY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "EDGE_CODE": str(worker.archive.path())},
        start_new_session=True,
    )
    assert again.stdin and again.stdout
    again.stdin.write(request)
    again.stdin.flush()
    last = [json.loads(line) for line in again.stdout][-1]
    again.communicate()
    assert last["ok"]["answer"] == 42


def test_dies_with_its_host_and_so_do_its_children(tmp_path):
    code = (
        "import sys; from edge import worker\n"
        "worker.run(sys.argv[1], {'do': 'hang_with_child'}, sys.argv[2],"
        " progress=lambda a, b, _: print(a, b, flush=True))"
    )
    host = subprocess.Popen([sys.executable, "-c", code, str(DUMMY), str(tmp_path / "out")], stdout=subprocess.PIPE)
    assert host.stdout
    pids = [int(n) for n in host.stdout.readline().split()]
    host.kill()
    host.wait()
    host.stdout.close()
    deadline = time.monotonic() + 20
    while any(_alive(p) for p in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(p) for p in pids)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
