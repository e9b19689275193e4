"""A computer over ssh: what is said when the way fails; and (slow) a Raspberry Pi with a real sshd, files, agents, faults."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from standins import requires_standins

from edge import environments, records
from edge.bench import measure
from edge.console import Console
from edge.devices import Full, Stopped, probe, runners, site
from edge.devices import ssh as module
from edge.devices.local import Local
from edge.devices.ssh import Ssh
from edge.devices.ssh_failures import Lost, failure
from edge.dialects import functiongemma
from edge.errors import DeviceError, EdgeError, WorkerCrash, WorkerError
from edge.export import onnx
from edge.export.job import read_checkpoint
from edge.train import tiny

QUIET = Console(quiet=True)
AGENT = r"qemu-aarch64 /usr/bin/python3 .*agent\.py$"  # as the stand-in sees it; the shell that guards it is another


# ---- what ssh says


@pytest.mark.parametrize(
    ("said", "passes", "words", "remedy"),
    [
        ("@@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@@@@\nIT IS POSSIBLE THAT SOMEONE IS DOING "
         "SOMETHING NASTY!\nOffending ED25519 key in /home/me/.ssh/known_hosts:3\nHost key verification failed.\n",
         False, "another one than last time, so nothing is sent there (/home/me/.ssh/known_hosts:3)", "ssh-keygen -R '[h]:2222'"),
        ("No ED25519 host key is known for [h]:2222 and you have requested strict checking.\nHost key verification failed.\n",
         False, "its host key is not known here", "run `ssh -p 2222 pi@h` once"),
        ("pi@h: Permission denied (publickey,password).\n", False, "refuses our keys", "ssh-copy-id -p 2222 pi@h"),
        ("Received disconnect from 10.0.0.7 port 22:2: Too many authentication failures\n", False, "too many keys", "IdentitiesOnly"),
        ("/home/me/x: line 3: Bad configuration option: foo\n/home/me/x: terminating, 1 bad configuration options\n",
         False, "line 3: Bad configuration option: foo", "EDGE_SSH_CONFIG"),
        ("ssh: Could not resolve hostname h: Name or service not known\n", True, "no host of that name", "mDNS"),
        ("ssh: connect to host h port 2222: Connection refused\n", True, "nothing answers on that port", "systemctl enable"),
        ("ssh: connect to host h port 2222: Connection timed out\n", True, "does not answer", "is it on"),
        ("ssh: connect to host h port 2222: No route to host\n", True, "does not answer", "is it on"),
        ("Connection timed out during banner exchange\n", True, "does not answer", "is it on"),
        ("kex_exchange_identification: banner line contains invalid characters\n", False, "no ssh that this", "port"),
        ("Timeout, server h not responding.\n", True, "was lost (Timeout, server h not responding.)", "same command again"),
        ("Connection to h closed by remote host.\n", True, "closed by remote host", "what is finished is kept"),
        ("", True, "the connection was lost", "same command again"),
    ],
)  # fmt: skip
def test_what_is_said_when_the_way_fails(said, passes, words, remedy):
    error = failure("pi5", "pi@h", 2222, said)
    assert isinstance(error, DeviceError)
    assert isinstance(error, Lost) is passes
    assert error.message.startswith("pi5 (pi@h): ")
    assert words in error.message
    assert remedy in (error.hint or "")


def test_it_tries_again_only_what_may_pass(monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(module, "_pause", waits.append)
    with pytest.raises(Lost, match="nothing answers on that port"), Ssh("x", "127.0.0.1", 1):
        pass
    assert waits == [1, 2, 4]
    monkeypatch.setenv("EDGE_SSH_CONFIG", "/nowhere/config")
    waits.clear()
    with pytest.raises(DeviceError, match="Can't open user config file") as told, Ssh("x", "127.0.0.1", 1):
        pass
    assert not isinstance(told.value, Lost)
    assert waits == []


def test_what_the_guard_of_an_agent_does(tmp_path):
    """Here: it hands on input, output and status, and kills what hangs some time after the input ended."""
    (tmp_path / "running").mkdir()
    command = ["sh", "-c", module._GUARD, "edge", str(tmp_path), "id", "me:1:2"]
    done = subprocess.run(
        [*command, "sh", "-c", "cat; exit 7"], input="words", capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (7, "words")
    assert not list((tmp_path / "running").iterdir())
    killed = subprocess.run(
        [*command, "sh", "-c", "kill -ILL $$"], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert killed.returncode == 132
    started = time.monotonic()
    deaf = subprocess.run(
        [*command, "sleep", "100"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    assert deaf.returncode == 137
    assert 10 < time.monotonic() - started < 40


@pytest.mark.parametrize(
    ("libc", "machine", "named"),
    [("glibc 2.36", "aarch64", "aarch64-manylinux_2_36"), ("glibc 2.30", "x86_64", "x86_64-manylinux_2_28"),
     ("glibc 2.99", "aarch64", "aarch64-manylinux_2_40")],
)  # fmt: skip
def test_platforms(libc, machine, named):
    assert site.platform({"name": "x", "libc": libc, "machine": machine}) == named


@pytest.mark.parametrize(("libc", "machine"), [(None, "aarch64"), ("glibc 2.12", "x86_64"), ("glibc 2.36", "riscv64")])
def test_platforms_that_have_no_packages(libc, machine):
    with pytest.raises(DeviceError):
        site.platform({"name": "x", "libc": libc, "machine": machine})


@pytest.mark.slow
def test_a_package_without_a_wheel_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path))
    there = {"name": "pi5", "machine": "aarch64", "python": "3.11.2", "libc": "glibc 2.36"}
    with pytest.raises(DeviceError) as told:
        site.ensure(environments.spec(environments.script("llama_cpp")), there, QUIET)
    assert "no wheel of llama-cpp-python 0.3.36 for Python 3.11 on aarch64 (glibc 2.36)" in told.value.message
    with pytest.raises(DeviceError) as told:
        site.ensure(environments.spec(environments.script("litert")), {**there, "libc": "glibc 2.17"}, QUIET)
    assert "no wheel of ai-edge-litert 2.3.0" in told.value.message
    assert "manylinux_2_27_aarch64" in told.value.hint
    assert not [f for f in (tmp_path / "sites").iterdir() if f.suffix in (".gz", ".json", ".partial")]


# ---- a Pi

slow = [pytest.mark.slow, requires_standins]


def on_a_pi(test):
    for mark in slow:
        test = mark(test)
    return test


@pytest.fixture
def device(pi) -> Iterator[Ssh]:
    with Ssh(pi.host, pi.host, config=str(pi.config)) as it:
        yield it
        pi.mend()
        pi.empty_disk()
        pi.run("rm -f /usr/local/bin/dd ~/alter; rm -rf ~/.cache/edge/files ~/.cache/edge/marks")


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "a model's.bin"
    path.write_bytes(os.urandom(3_500_000))
    return path


def read(pi, path: str) -> bytes:
    words = [*pi.ssh, "-o", "BatchMode=yes", pi.host, f'cat "{path}"']
    return subprocess.run(words, capture_output=True, timeout=60, check=True).stdout


def push(device: Ssh, path: Path) -> str:
    return device.push(path, records.digest_path(path))


@on_a_pi
def test_what_it_is(device):
    told = device.facts()
    assert (told["name"], told["kind"], told["emulated"]) == ("pi5", "ssh", True)
    assert (told["cpu"], told["machine"], told["bits"], told["python"]) == ("Cortex-A76", "aarch64", 64, "3.11.2")
    assert "Raspberry Pi 5" in told["model"]
    assert told == device.facts()
    now = device.vitals()
    assert now["temperature_c"] == pytest.approx(48.3, abs=0.1)
    assert now["throttled"] is False
    assert now["available_bytes"] > 1e9
    assert device.disk_free_bytes() > 1e8
    assert device.lacks("litert_lm") is None


@on_a_pi
def test_commands(device):
    words = ["", " a  b ", "it's", '"q"', "$HOME;*", "back\\slash", "한국어", "-n", "line\nline"]
    done = device.run(["printf", "[%s]", *words])
    assert (done.status, done.out) == (0, "".join(f"[{w}]" for w in words))
    done = device.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.status, done.out, done.err) == (3, "out\n", "err\n")
    assert device.run(["no-such-program"]).status == 127
    started = time.monotonic()
    assert device.run(["sleep", "50"], timeout_s=1).status is None
    assert time.monotonic() - started < 20


@on_a_pi
def test_a_file_is_sent_once_and_again_only_when_it_changed(device, pi, file, tmp_path):
    there = push(device, file)
    assert there.endswith(f"/.cache/edge/files/{records.digest_file(file)[:16]}/{file.name}")
    assert read(pi, there) == file.read_bytes()
    pi.write("/usr/local/bin/dd", "#!/bin/sh\necho sent again >&2; exit 3\n", 0o755)
    assert push(device, file) == there
    pi.write("/usr/local/bin/dd", '#!/bin/sh\nexec /usr/bin/dd "$@"\n', 0o755)
    device.run(["sh", "-c", 'printf x >>"$1"', "sh", there])
    assert push(device, file) == there
    assert read(pi, there) == file.read_bytes()
    device.pull(there, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    with pytest.raises(DeviceError, match="No such file"):
        device.pull("/nowhere", tmp_path / "none")
    assert not (tmp_path / "none").exists()


@on_a_pi
def test_a_folder_is_sent_without_what_is_ours(device, pi, tmp_path):
    folder = tmp_path / "m_onnx"
    folder.mkdir()
    for name, text in {"model.onnx": "graph", "model.onnx.data": "weights", ".hidden": "no", "done.json": "no"}.items():
        (folder / name).write_text(text)
    there = push(device, folder)
    assert device.run(["ls", "-A", there]).out.split() == [
        "model.onnx",
        "model.onnx.data",
    ]
    assert read(pi, f"{there}/model.onnx.data") == b"weights"
    assert [Path(path).name for path, _ in device.pushed()] == ["m_onnx"]


@on_a_pi
def test_what_was_cut_off_goes_on(device, pi, file):
    """There is room for the rest alone. A part that was altered meanwhile is sent from its start."""
    there = push(device, file)
    beside = there.replace("/files/", "/marks/")
    device.run(
        ["sh", "-c", 'mv "$1" "$2.partial"; rm "$2.whole"; truncate -s 3200000 "$2.partial"', "sh", there, beside]
    )
    pi.fill_disk(leave_bytes=module._SPARE_BYTES + 1_500_000)
    push(device, file)
    assert read(pi, there) == file.read_bytes()
    pi.empty_disk()
    device.run(
        ["sh", "-c", 'mv "$1" "$2.partial"; rm "$2.whole"; truncate -s 3200000 "$2.partial"', "sh", there, beside]
    )
    device.run(["sh", "-c", 'printf x | dd of="$1.partial" conv=notrunc seek=1000 bs=1', "sh", beside])
    push(device, file)
    assert read(pi, there) == file.read_bytes()


@on_a_pi
def test_what_is_altered_on_the_way_is_sent_once_more(device, pi, file):
    once = '#!/bin/sh\n/usr/bin/dd "$@" || exit 1\n[ -e ~/alter ] || exit 0\n{forget}printf x | /usr/bin/dd "$1" conv=notrunc\n'
    pi.write("/usr/local/bin/dd", once.format(forget="rm ~/alter\n"), 0o755)
    pi.run("touch ~/alter")
    there = push(device, file)
    assert read(pi, there) == file.read_bytes()
    assert pi.run("ls ~/alter").returncode != 0, "the fault took place"
    device.run(["rm", f"{there.replace('/files/', '/marks/')}.whole"])
    pi.write("/usr/local/bin/dd", once.format(forget=""), 0o755)
    pi.run("touch ~/alter")
    with pytest.raises(DeviceError, match="arrives altered, twice"):
        push(device, file)


@on_a_pi
def test_a_full_disk_says_how_much_it_takes(device, pi, file):
    device.folder  # noqa: B018
    pi.fill_disk(leave_bytes=1_000_000)
    with pytest.raises(DeviceError) as told:
        push(device, file)
    assert "takes 3.5 MB" in told.value.message
    assert "MB are free" in told.value.message
    assert "edge devices clean pi5" in told.value.hint
    pi.empty_disk()
    push(device, file)


@on_a_pi
def test_a_transfer_survives_a_lost_connection(device, pi, tmp_path):
    """A byte of it arrives altered, which ends it: ssh tells by its checksums."""
    big = tmp_path / "big.bin"
    big.write_bytes(os.urandom(12_000_000))
    device.folder  # noqa: B018
    before = pi.received()
    pi.garble(after_bytes=5_000_000)
    there = push(device, big)
    assert read(pi, there) == big.read_bytes()
    assert pi.received() - before < 19_000_000, "what had arrived was not sent again"


@on_a_pi
def test_a_transfer_that_is_stopped_ends_at_once(device, pi, tmp_path):
    """As by Ctrl-C, on a network so slow that it would take for ever: nothing of it goes on, here or there."""
    big = tmp_path / "big.bin"
    big.write_bytes(os.urandom(12_000_000))
    device.folder  # noqa: B018
    pi.cut(after_bytes=5_000_000)
    stopper = threading.Timer(3, device.stop.set)
    stopper.start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        push(device, big)
    assert time.monotonic() - began < 8
    mine = psutil.Process().children(recursive=True)
    assert not [p for p in mine if p.name() == "ssh" and "dd of=" in " ".join(p.cmdline())]
    pi.mend()
    device.stop.clear()
    before = pi.received()
    assert read(pi, push(device, big)) == big.read_bytes()
    assert pi.received() - before < 11_000_000, "what had arrived was not sent again"


@on_a_pi
def test_what_had_no_room_leaves_none_taken(device, pi, file, tmp_path):
    """The disk fills up meanwhile: a small file has room afterwards, and the large one when there is more."""
    big = tmp_path / "big.bin"
    big.write_bytes(os.urandom(40_000_000))
    device.folder  # noqa: B018
    started = pi.received()

    def fill():
        while pi.received() - started < 3_000_000:
            time.sleep(0.01)
        pi.fill_disk(leave_bytes=12_000_000)

    filler = threading.Thread(target=fill)
    filler.start()
    try:
        with pytest.raises(Full, match=r"big\.bin takes 40\.0 MB"):
            push(device, big)
        filler.join()
        assert "big.bin" not in "".join(path for path, _ in device.pushed())
        assert read(pi, push(device, file)) == file.read_bytes()
    finally:
        filler.join()
        pi.empty_disk()
    assert read(pi, push(device, big)) == big.read_bytes()


@on_a_pi
def test_a_release_of_the_users_is_sent_with_its_libraries(device, tmp_path, monkeypatch):
    """Here a script in its place, which tells where it looks for them."""
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path / "cache"))
    release = runners._added("armv8.2")
    release.mkdir(parents=True)
    (release / "llama-server").write_text('#!/bin/sh\ncd "$LD_LIBRARY_PATH" && echo "beside it: $(ls)"\nexit 3\n')
    (release / "libllama.so.0").write_text("a library")
    facts = {"programs": {"llama-server": {"system": "linux"}}, "libraries": ["libllama.so.0"]}
    records.save(facts, release / runners.MARKER)
    subject = measure.Subject("m", tmp_path / "m.gguf", "0" * 64, "artifact", "gguf")
    subject.path.write_text("a model")
    settings = measure.Settings("llama_server", 1, 256, 24, functiongemma.STOP)
    run = measure.Session(subject, settings, device, device.environment("llama_server", QUIET), tmp_path / "log")
    with pytest.raises(WorkerError, match=r"(?s)beside it: .*libllama\.so\.0\s+llama-server"), run.loaded():
        pass


@on_a_pi
def test_clean_removes_all_of_ours_and_nothing_else(device, pi, file):
    pi.run("mkdir -p ~/full; touch ~/full/mine ~/.cache/other")
    there = push(device, file)
    assert device.pushed() == [(there, pytest.approx(3_500_000, rel=0.01))]
    assert device.clean() == [(there, pytest.approx(3_500_000, rel=0.01))]
    assert device.pushed() == []
    assert device.run(["ls", "-A", ".cache"]).out.split() == ["other"]
    with Ssh("other", pi.host, folder="~/full", config=str(pi.config)) as taken:
        with pytest.raises(DeviceError, match="/home/pi/full there is not empty, and not ours"):
            push(taken, file)
        assert taken.clean() == []
    assert pi.run("ls ~/full").stdout == "mine\n"
    assert push(device, file) == there, "and it can be used again"


@on_a_pi
def test_forwarded_ports(device):
    with device.forward(2222) as port, socket.create_connection(("127.0.0.1", port), 10) as s:
        assert s.recv(8) == b"SSH-2.0-"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 2)


@on_a_pi
@pytest.mark.parametrize("fault", ["unknown", "changed", "key"])
def test_strangers_are_refused(pi, tmp_path, fault):
    """Its host key is unknown, or was another; it does not know our key."""
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(other)], check=True)
    known = tmp_path / "known_hosts"
    key = other.with_suffix(".pub").read_text() if fault == "changed" else ""
    known.write_text(f"[127.0.0.1]:{pi.port} {key}" if key else "")
    before = known.read_text()
    text = pi.config.read_text()
    text = (
        text.replace(str(pi.identity), str(other)) if fault == "key" else text.replace(str(pi.known_hosts), str(known))
    )
    (tmp_path / "config").write_text(text)
    words = {"unknown": "not known here", "changed": "another one than last time", "key": "refuses our keys"}[fault]
    with pytest.raises(DeviceError, match=words) as told, Ssh("pi5", pi.host, config=str(tmp_path / "config")):
        pass
    assert not isinstance(told.value, Lost), "trying again would not help"
    assert known.read_text() == before, "no key is taken on trust"
    if fault == "changed":
        assert f"{known}:1" in told.value.message
        assert "ssh-keygen -R" in told.value.hint


# ---- agents


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    record = read_checkpoint(tiny.SHIPPED, "functiongemma")
    exported = onnx.export(record, ["int8"], folder, "m", QUIET, lambda spec: environments.ensure(spec, QUIET))
    return Path(exported.artifacts[0].path)


def rows() -> list[dict]:
    tool = {"name": "grind", "description": "Grinds beans.", "parameters": {
        "type": "OBJECT", "properties": {"grams": {"type": "NUMBER", "description": "How much."}}, "required": ["grams"]}}  # fmt: skip
    developer = "You are a model that can do function calling with the following functions"
    ask = [{"role": "developer", "content": developer}, {"role": "user", "content": "grind 20 grams"}]
    prompt = functiongemma.render(ask, [{"type": "function", "function": tool}])
    return [{"id": "a", "prompt": prompt}, {"id": "b", "prompt": prompt.replace("20", "35")}]


def session(device, path: Path, log: Path) -> measure.Session:
    subject = measure.Subject("m", path, records.digest_path(path), "artifact", "onnx")
    settings = measure.Settings("onnxruntime", 1, 256, 24, functiongemma.STOP)
    return measure.Session(subject, settings, device, device.environment("onnxruntime", QUIET), log)


@on_a_pi
def test_the_same_agent_answers_the_same_there(device, pi, made, tmp_path):
    """What the emulated processor answers may differ in rounding; the calls of so small a model here do not."""
    texts = []
    for it in (Local(), device):
        partial = measure.Partial(tmp_path / f"{it.name}.samples", "")
        run = session(it, made, tmp_path / f"{it.name}.log")
        run.run(rows(), partial, lambda *_: None)
        texts.append([s.text for s in partial.samples.values()])
        assert len(partial.samples) == 2
        assert run.facts["runtime_version"] == "onnxruntime 1.31.1"
        assert run.facts["file_bytes"] == records.size_path(made)
        assert run.peak_rss_bytes and run.peak_rss_bytes > 5e7
    assert texts[0] == texts[1]
    assert "grind" in texts[0][0]
    assert wait_until(lambda: not agents(pi), 10)
    assert device.run(["ls", "-A", f"{device.folder}/running"]).out == ""
    kinds = {Path(path).parent.name for path, _ in device.pushed()}
    assert "sites" in kinds
    assert not [p for p, _ in device.pushed() if p.endswith(".tar.gz")], "what was unpacked does not lie there twice"


def agents(pi) -> list[str]:
    return [command for command in pi.processes() if "agent.py" in command]


def wait_until(true, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.5)
    return False


@contextlib.contextmanager
def idle_agent(device, log: Path):
    """An agent that has answered, so is up; it has loaded nothing."""
    environment = device.environment("onnxruntime", QUIET)
    with log.open("wb") as out, device.agent("onnxruntime", "/none", {}, environment, out) as agent:
        agent.channel.send({"id": 1, "do": "nonsense"})
        assert agent.channel.receive(120)["error"]["message"].startswith("ValueError: no such request")
        yield agent


@on_a_pi
@pytest.mark.parametrize(
    ("how", "words"), [(signal.SIGKILL, "running out of memory"), (signal.SIGILL, "ended by SIGILL")]
)
def test_an_agent_that_dies_says_of_what(device, pi, tmp_path, how, words):
    with idle_agent(device, tmp_path / "log") as agent:
        assert pi.kill(AGENT, how) == 1
        with pytest.raises(WorkerCrash, match=words):
            agent.channel.receive(60)


@on_a_pi
def test_a_lost_connection_is_the_devices_fault_and_leaves_nothing(device, pi, tmp_path):
    with idle_agent(device, tmp_path / "log") as agent:
        assert pi.kill(AGENT, signal.SIGSTOP) == 1, "so that it can't end by itself"
        assert pi.kill(r"sshd .* -R$") > 0, "the connections, and not what listens"
        with pytest.raises(Lost, match="the connection was lost"):
            agent.channel.receive(60)
    with idle_agent(device, tmp_path / "log2"):
        assert len([a for a in agents(pi) if "python3 -I" in a and "sh -c" not in a]) == 1
    assert wait_until(lambda: not agents(pi), 30)


@on_a_pi
def test_what_hangs_there_ends_when_this_computer_is_gone(device, pi, tmp_path):
    """A process of ours that is killed with an agent open which hears nothing any more."""
    device.environment("onnxruntime", QUIET)
    code = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from edge.console import Console
        from edge.devices.ssh import Ssh
        with Ssh("pi5", {pi.host!r}, config={str(pi.config)!r}) as device:
            environment = device.environment("onnxruntime", Console(quiet=True))
            with open({str(tmp_path / "log")!r}, "wb") as log, device.agent("onnxruntime", "/none", {{}}, environment, log) as agent:
                agent.channel.send({{"id": 1, "do": "nonsense"}})
                agent.channel.receive(120)
                print("up", flush=True)
                time.sleep(1000)
        """)
    host = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, "EDGE_SSH_CONFIG": ""}
    )
    assert host.stdout
    try:
        assert host.stdout.readline() == "up\n"
        with pytest.raises(DeviceError, match=rf"another run here \(process {host.pid}\) measures there now"):
            device.refuse_busy()
        assert pi.kill(AGENT, signal.SIGSTOP) == 1
    finally:
        host.kill()
        host.communicate()
    assert agents(pi)
    assert wait_until(lambda: not agents(pi), 60), "its guard there ended it"
    device.refuse_busy()


@on_a_pi
def test_a_cut_network_ends_in_a_device_error(device, pi, tmp_path):
    started = time.monotonic()
    try:
        with idle_agent(device, tmp_path / "log") as agent:
            pi.cut()
            with pytest.raises(Lost):
                agent.channel.receive(90)
            pi.mend()
    finally:
        pi.mend()
    assert time.monotonic() - started < 120
    with idle_agent(device, tmp_path / "log2"):
        pass


@on_a_pi
def test_what_a_gone_process_left_there_is_ended(device, pi):
    """By whose it is: a living process of this computer's is left alone, as is another computer's."""
    device.folder  # noqa: B018
    alive = subprocess.Popen(["sleep", "1000"])
    try:
        mine = f"{socket.gethostname()}:{alive.pid}:{psutil.Process(alive.pid).create_time():.0f}"
        start = "cd ~/.cache/edge/running; EDGE_RUN={0} nohup sleep 1000 >/dev/null 2>&1 </dev/null & cd; "
        start += "echo $! '{1}' >.cache/edge/running/{0}"
        pi.run(start.format("aa", mine))
        with pytest.raises(DeviceError, match="another run here"):
            device.refuse_busy()
    finally:
        alive.kill()
        alive.wait()
    device.refuse_busy()
    assert wait_until(lambda: not [p for p in pi.processes() if "sleep 1000" in p], 20)
    pi.run(start.format("bb", "elsewhere:1:2"))
    with pytest.raises(DeviceError, match=r"elsewhere \(process \d+ there\) measures there now"):
        device.clean()
    assert pi.kill("sleep 1000") >= 1
    device.refuse_busy()


@on_a_pi
def test_what_can_not_run_there_is_refused_before(device, monkeypatch):
    facts = {**device.facts(), "features": ["asimd"], "cpu": "Cortex-A72"}
    monkeypatch.setattr(device, "facts", lambda: facts)
    with pytest.raises(DeviceError, match="no LSE atomics") as told:
        device.environment("litert_lm", QUIET)
    assert "edge devices list pi5" in told.value.hint
    assert probe.lacks(facts, "onnxruntime") is None


@on_a_pi
def test_the_commands(pi, tmp_path, monkeypatch, file):
    from click.testing import CliRunner

    from edge.commands.devices import devices

    monkeypatch.setenv("EDGE_CONFIG", str(tmp_path))
    monkeypatch.setenv("EDGE_SSH_CONFIG", str(pi.config))
    run = CliRunner().invoke
    told = run(devices, ["-q", "add", "pi", f"ssh:{pi.host}"])
    assert told.exit_code == 0, told.output
    assert "Raspberry Pi 5" in told.output
    assert "emulated" in told.output
    assert "runs " in told.output
    (found,) = json.loads(run(devices, ["list", "pi", "--json", "-q"]).stdout)
    assert found["facts"]["emulated"] is True
    assert found["runtimes"]["onnxruntime"] is None
    with Ssh("pi", pi.host, config=str(pi.config)) as device:
        push(device, file)
    told = run(devices, ["-q", "doctor", "pi"])
    assert told.exit_code == 0, told.output
    assert "governor ondemand" in told.output
    assert "things of ours lie there" in told.output
    told = run(devices, ["-q", "clean", "--dry-run"])
    assert file.name in told.output
    told = run(devices, ["-q", "clean", "pi"])
    assert file.name in told.output
    assert "nothing of ours" in run(devices, ["-q", "clean", "pi"]).output


def test_an_error_is_an_error_of_ours():
    assert issubclass(Lost, EdgeError)
    assert Lost("x").exit_code == 5
