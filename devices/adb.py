"""A phone over adb: what runs there runs as the shell user under /data/local/tmp; there is no Python (but see bundle.py).

llama.cpp's server (`edge runners build`) runs there, behind a forwarded port; the agent runs here and asks it whole calls, so
what is timed from outside has the cable in it, and what the server times itself has not. adb's own exit status can't be
trusted (adb 29 says 0 when the device goes away in mid-command), so every command ends with a line that tells its status.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from edge import archive, environments, records
from edge.bench.runtimes import llama_server
from edge.console import Console
from edge.devices import Agent, Done, Full, Lost, Stopped, adb_binary, bundle, probe, runners, site
from edge.devices.local import AGENT, variables
from edge.errors import DeviceError, EdgeError, MissingError, WorkerCrash, WorkerError
from edge.worker import Channel, clean_environment, python_channel

FOLDER = "/data/local/tmp/edge"
SERVER = "llama_server"
_OURS = ("files", "marks", "sites", "home", "running")  # in that folder
_PART = 32 << 20  # bytes sent at once: what is there of a file that was cut off is kept by such parts
_STATUS = re.compile(r"\n?__EDGE_STATUS=(\d+)\s*$")
_TRIES, _BACK_OFF_S = 3, 2.0  # of what can be done twice without harm
_START_S = 180.0  # a server maps the model and warms up

# The command dies when the input ends, so that nothing is left there when the cable or the host goes.
_GUARD = """exec 3<&0
{command} </dev/null &
p=$!
echo $$ >{folder}/running
echo __EDGE_PID=$p
(cat <&3 >/dev/null; kill -9 $p) 2>/dev/null &
wait $p
s=$?
rm -f {folder}/running
echo __EDGE_STATUS=$s"""
# adbd keeps the shell of a connection that was cut: its whole group is ended, if it is still ours.
_END_LEFT = """f={folder}/running
[ -f $f ] || exit 0
read -r g <$f
rm -f $f
grep -q llama-server "/proc/$g/cmdline" 2>/dev/null && kill -9 -- -"$g"
true"""

_ENDS = {
    132: "it was built for another processor (SIGILL): `edge devices` says what this one lacks",
    137: "this is what running out of memory looks like: a smaller quantisation, or less context",
}
_STATES = {
    "unauthorized": "unlock it and accept this computer's key (Allow USB debugging?); if it doesn't ask: "
    "Developer options, Revoke USB debugging authorisations, and plug it in again",
    "offline": "plug it in again; over the network: `adb disconnect {serial}`, then again",
    "no permissions": "udev rules are missing (Debian: apt install android-sdk-platform-tools-common), then plug it in again",
    "authorizing": "wait a moment, and look whether it asks something",
    "recovery": "it is in recovery mode: start it normally",
    "sideload": "it is in sideload mode: start it normally",
    "bootloader": "it is in its bootloader: start it normally",
}
_BACK = "plug it in again, or wait until it is up; then run the same command: what is finished is kept"
_PASSING = ("offline", "authorizing", "bootloader", "recovery")


class Adb:
    """One phone by its serial, as `adb devices` shows it (`28271FDH2004FV`, or `host:port` of one on the network)."""

    kind = "adb"

    def __init__(
        self, name: str, serial: str, folder: str = FOLDER, adb: str | None = None, python: str | None = None
    ) -> None:
        self.name, self.serial, self.folder, self._python = name, serial, folder, python
        self._adb = str(Path(adb).expanduser()) if adb else ""
        self._facts: dict[str, Any] | None = None
        self.tries = _TRIES  # after a lost connection
        self.stop = threading.Event()

    def __enter__(self) -> Adb:
        self._adb = self._adb or adb_binary.find(Console(quiet=True))
        if not shutil.which(self._adb):
            raise MissingError(
                f"{self.name}: there is no program {self._adb}", "mend `adb` in devices.toml, or take it out"
            )
        self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    # --- commands -----------------------------------------------------------------------------------------------------

    def run(self, argv: Sequence[str], timeout_s: float = 60.0) -> Done:
        """A command there, tried again after a lost connection: give only what can be done twice."""
        return self.shell(shlex.join(argv), timeout_s)

    def shell(self, command: str, timeout_s: float = 60.0) -> Done:
        """The same for a line of its shell."""
        done: Done = self._again(lambda: self._shell(command, timeout_s))
        return done

    def _shell(self, command: str, timeout_s: float) -> Done:
        wrapped = f"({command}\n) </dev/null; s=$?; echo; echo __EDGE_STATUS=$s"
        done = self._call(["shell", wrapped], timeout_s)
        if done.status is None:
            return done
        told = _STATUS.search(done.out)
        if not told:
            raise self._lost(done.err or done.out)
        return Done(int(told[1]), done.out[: told.start()], done.err)

    def _call(self, arguments: Sequence[str], timeout_s: float, serial: bool = True) -> Done:
        command = [self._adb, *(["-s", self.serial] if serial else []), *arguments]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as late:
            return Done(
                None, (late.stdout or b"").decode(errors="replace"), (late.stderr or b"").decode(errors="replace")
            )
        out, err = (text.decode(errors="replace").replace("\r\n", "\n") for text in (done.stdout, done.stderr))
        return Done(done.returncode, out, err)

    def _again(self, what: Any) -> Any:
        for attempt in range(self.tries):
            try:
                return what()
            except Lost:
                if attempt == self.tries - 1:
                    raise
                if self.stop.wait(_BACK_OFF_S * 2**attempt):
                    raise Stopped from None
                with contextlib.suppress(DeviceError):
                    self._reconnect()
        raise AssertionError  # the loop returns or raises

    def _lost(self, said: str) -> Lost:
        tail = said.strip().splitlines()[-1] if said.strip() else "nothing was said"
        return Lost(f"{self.name}: the connection was lost in mid-command ({tail})", _BACK)

    def _reconnect(self) -> None:
        """Of a phone on the network adb keeps a dead connection for as long as the kernel does: it is closed first."""
        if ":" in self.serial:
            self._call(["disconnect", self.serial], 20, serial=False)
        self._connect()

    def _connect(self) -> None:
        """Raises DeviceError naming the state that it is in, or those that are there."""
        known = self._states()
        if self.serial not in known and re.fullmatch(r"[^\s:]+:\d+", self.serial):
            self._call(["connect", self.serial], 20, serial=False)
            known = self._states()
        elif known.get(self.serial) == "offline" and ":" in self.serial:
            self._call(["disconnect", self.serial], 20, serial=False)  # adb 29 never finds back by itself
            self._call(["connect", self.serial], 20, serial=False)
            known = self._states()
        state = known.get(self.serial)
        if state != "device":
            raise not_ready(self.name, self.serial, state, known)

    def _states(self) -> dict[str, str]:
        done = self._call(["devices", "-l"], 30, serial=False)
        if done.status != 0:
            raise DeviceError(f"adb devices failed: {(done.err or done.out).strip()[-300:]}", "try `adb kill-server`")
        return parse_devices(done.out)

    # --- what it is ---------------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        if self._facts is None:
            self._facts = {"name": self.name, "kind": self.kind, **probe.parse_facts(self._probe(probe.SCRIPT))}
        return self._facts

    def vitals(self) -> dict[str, Any]:
        return probe.parse_vitals(self._probe(probe.VITALS_SCRIPT, 30))

    def disk_free_bytes(self) -> int | None:
        """Where our folder is or would be."""
        free: int | None = probe.parse_vitals(self._probe(probe.SCRIPT))["disk_free_bytes"]
        return free

    def _probe(self, script: str, timeout_s: float = 120.0) -> str:
        line = shlex.join(["env", f"EDGE_FOLDER={self.folder}", "sh", "-c", script])

        def ask() -> str:
            done = self._shell(line, timeout_s)
            if done.status is None:
                raise Lost(f"{self.name}: it does not answer any more", _BACK)
            return done.out

        told: str = self._again(ask)
        return told

    def lacks(self, runtime: str) -> str | None:
        if runtime == SERVER:
            return probe.lacks(self.facts(), runtime)
        if self._python != bundle.NAME:
            return f'needs Python, which Android has not: {SERVER} runs there, for GGUF (or try python = "bundle" in devices.toml)'
        return probe.lacks({**bundle.facts(self.facts()), "kind": "ssh"}, runtime)  # as a computer with that Python

    # --- files --------------------------------------------------------------------------------------------------------

    def push(self, path: Path, digest: str) -> str:
        """Sent in parts, which a second attempt goes on from; the sha256 of the whole is asked for there."""
        home = f"{self.folder}/files/{digest[:16]}"
        there = f"{home}/{path.name}"
        if path.is_dir():
            for file in sorted(f for f in path.iterdir() if f.is_file()):
                self._send(file, f"{there}/{file.name}", records.digest_file(file))
        else:
            self._send(path, there, records.digest_file(path))
        return there

    def _send(self, file: Path, there: str, digest: str) -> None:
        marks = f"{self.folder}/marks"  # not beside the file: what lies in a folder is the artifact
        mark = f"{marks}/{records.digest_value(there)[:16]}"  # written last
        if self._ok(f'test -f {shlex.quote(there)} && test "$(cat {mark})" = {digest}'):
            return
        for _ in range(2):
            try:
                self._again(lambda: self._send_parts(file, f"{there}.partial"))
            except Full:  # what needs less has room again
                self.shell(f"rm -f {shlex.quote(there)}.partial*")
                raise
            if self._digest(f"{there}.partial") == digest:
                here = shlex.quote(there)
                self._must(
                    f"chmod 755 {here}.partial && mv -f {here}.partial {here} && mkdir -p {marks} && echo {digest} > {mark}"
                )
                return
            self.shell(f"rm -f {shlex.quote(there)}.partial")
        raise DeviceError(
            f"{self.name}: {file.name} arrives altered, twice", "another cable or port; then the same command again"
        )

    def _send_parts(self, file: Path, partial: str) -> None:
        size, quoted = file.stat().st_size, shlex.quote(partial)
        have = int(self.shell(f"stat -c %s {quoted} 2>/dev/null").out.strip() or 0)
        start = 0 if have > size else have if have == size else have // _PART * _PART
        self._refuse_full(file, start)
        folder = shlex.quote(str(Path(partial).parent))
        self._must(f"mkdir -p {folder} && touch {quoted} && truncate -s {start} {quoted}")
        with file.open("rb") as whole, tempfile.TemporaryDirectory() as desk:
            part = Path(desk) / "part"
            whole.seek(start)
            while block := whole.read(_PART):
                if self.stop.is_set():
                    raise Stopped
                part.write_bytes(block)
                done = self._call(["push", str(part), f"{partial}.part"], 60 + len(block) / 200_000)
                if done.status != 0:
                    raise self._push_failed(file, done)
                same = f"test $(stat -c %s {quoted}.part) = {len(block)}"
                self._must(f"{same} && cat {quoted}.part >> {quoted} && rm {quoted}.part")

    def _push_failed(self, file: Path, done: Done) -> EdgeError:
        said = (done.err + done.out).strip()
        if "No space left" in said:
            return self._full(file)
        return self._lost(said)

    def _refuse_full(self, file: Path, have: int) -> None:
        free = self.disk_free_bytes()
        if free is not None and free < file.stat().st_size - have + 2 * _PART:
            raise self._full(file, free)

    def _full(self, file: Path, free: int | None = None) -> Full:
        left = "" if free is None else f", and {free / 1e6:.0f} MB are free"
        return Full(f"{self.name}: its disk is full: {file.name} takes {file.stat().st_size / 1e6:.0f} MB there{left}",
                    f"free some, or `edge devices clean {self.name}`")  # fmt: skip

    def _digest(self, there: str) -> str:
        return self._must(f"sha256sum {shlex.quote(there)}", 600).out.split(" ")[0].strip()

    def _ok(self, command: str) -> bool:
        return self.shell(command).status == 0

    def _must(self, command: str, timeout_s: float = 60.0) -> Done:
        done: Done = self.shell(command, timeout_s)
        if done.status == 0:
            return done
        said = (done.err + done.out).strip()
        if "No space left" in said:
            raise Full(f"{self.name}: its disk is full", f"free some, or `edge devices clean {self.name}`")
        late = f"took over {timeout_s:g} s" if done.status is None else f"ended with {done.status}"
        raise DeviceError(f"{self.name}: `{command[:80]}` {late}: {said[-300:]}", "look at it there with adb shell")

    def pull(self, there: str, here: Path) -> None:
        done = self._call(["pull", there, str(here)], 600)
        if done.status != 0:
            raise DeviceError(f"{self.name}: {there} can't be fetched: {(done.err + done.out).strip()[-300:]}")

    def pushed(self) -> list[tuple[str, int]]:
        """Everything that lies there of ours: path, bytes; of unpacked packages the folder."""
        found = f'for e in {self.folder}/files/*/* {self.folder}/sites/*; do [ -e "$e" ] && du -sk "$e"; done; true'
        lines = [line.split(None, 1) for line in self.shell(found, 120).out.splitlines()]
        return [(name, int(kib) * 1024) for kib, name in lines]

    def clean(self) -> list[tuple[str, int]]:
        """Remove all of it, and nothing else of a folder that holds more; returns what it was. What runs there of ours is ended."""
        self.shell(_END_LEFT.format(folder=self.folder))
        gone = self.pushed()
        ours = " ".join(f"{self.folder}/{name}" for name in _OURS)
        self._must(f"rm -rf {ours} && {{ rmdir {self.folder} 2>/dev/null; true; }}")
        return gone

    # --- running ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def forward(self, port: int) -> Iterator[int]:
        done = self._call(["forward", "tcp:0", f"tcp:{port}"], 30)
        if done.status != 0 or not done.out.strip().isdigit():
            raise self._lost(done.err or done.out)
        try:
            yield int(done.out)
        finally:
            self._call(["forward", "--remove", f"tcp:{done.out.strip()}"], 30)

    def environment(self, runtime: str, console: Console) -> environments.Environment:
        """For llama.cpp's server the agent's, which runs here, and the program's digest; else the bundle, unpacked there."""
        if lack := self.lacks(runtime):
            raise DeviceError(f"{self.name}: {runtime}: {lack}", f"what runs there: edge devices {self.name}")
        if runtime == SERVER:
            packages = [f"{SERVER}=={records.digest_file(self._server())[:16]}"]
            return environments.Environment(Path(sys.executable), {"name": SERVER, "key": None, "packages": packages})
        made = site.ensure(environments.spec(environments.script(runtime)), bundle.facts(self.facts()), console)
        home = self._unpack(*bundle.ensure(console), console)
        self._unpack(made.packed, made.digest, console)
        return environments.Environment(Path(home), {**made.facts, "site": made.digest[:16]})

    def _unpack(self, packed: Path, digest: str, console: Console) -> str:
        """The folder there that holds what the archive does."""
        there = f"{self.folder}/sites/{digest[:16]}"
        if self._ok(f"test -d {there}"):
            return there
        with console.task(f"{self.name}: {packed.name} ({packed.stat().st_size / 1e6:.0f} MB)"):
            archived = self.push(packed, digest)
            self._must(f"rm -rf {there}.partial && mkdir -p {there}.partial && tar -xzf {archived} -C {there}.partial"
                       f" && mv {there}.partial {there} && rm -f {archived}", 900)  # fmt: skip
        return there

    def _server(self) -> Path:
        return runners.require(runners.class_of(set(self.facts().get("features") or ())), system="android")

    def _program(self) -> list[str]:
        """The words that start the server there, pushed if need be."""
        server = self._server()
        if not runners.libraries(server):
            return [self.push(server, records.digest_file(server))]
        # A release of the user's, linked to libraries of its own.
        folder = self.push(server.parent, records.digest_folder(server.parent))
        return ["env", f"LD_LIBRARY_PATH={folder}", f"{folder}/{server.name}"]

    @contextlib.contextmanager
    def agent(
        self, runtime: str, path: str, options: dict[str, Any], environment: environments.Environment, log: IO[bytes]
    ) -> Iterator[Agent]:
        if runtime == SERVER:
            with self._served(path, options, environment, log) as agent:
                yield agent
            return
        code, script = (self.push(f, records.digest_file(f)) for f in (archive.path(), AGENT))
        self._must(f"mkdir -p {self.folder}/home")
        home = str(environment.python)
        variables_there = {
            "EDGE_CODE": code,
            "EDGE_SITE": f"{self.folder}/sites/{environment.facts['site']}",
            "PYTHONHOME": bundle.home(home),
            "HOME": f"{self.folder}/home",
            "TMPDIR": f"{self.folder}/home",
            **variables(runtime),
        }
        words = ["env", *(f"{k}={v}" for k, v in variables_there.items()), *bundle.command(home)]
        line = "exec " + shlex.join([*words, "-P", "-s", "-B", "-X", "utf8", script])
        command = [self._adb, "-s", self.serial, "shell", line]
        name = f"{runtime} on {self.name}"
        with Channel(command, name=name, log=log, env=clean_environment(), guess=self._guess) as channel:
            yield Agent(channel, path, options)

    @contextlib.contextmanager
    def _served(
        self, path: str, options: dict[str, Any], environment: environments.Environment, log: IO[bytes]
    ) -> Iterator[Agent]:
        """llama.cpp's server there with the model in it, and an agent here that asks it."""
        port = 20000 + int(time.monotonic() * 1000) % 20000
        self.shell(_END_LEFT.format(folder=self.folder))
        command = _GUARD.format(
            folder=self.folder, command=shlex.join([*self._program(), *llama_server.arguments(path, options, port)])
        )
        with (
            _Guarded([self._adb, "-s", self.serial, "shell", command], self.name, log) as server,
            self.forward(port) as here,
        ):
            url = f"http://127.0.0.1:{here}"
            told = {**options, "url": url, "tokenizer": None, "load_s": server.wait_until_up(url)}
            with python_channel(AGENT, python=environment.python, log=log, env={}) as channel:
                try:
                    yield Agent(channel, path, told, lambda: self._peak(server.pid))
                except WorkerError as error:  # the agent here tells only that the server answers no more
                    raise (server.fault() or self._gone() or error) from None

    def _guess(self, status: int) -> EdgeError | None:
        """Of an agent there that ended without a word."""
        if status in _ENDS:
            return WorkerCrash(f"{self.name}: the agent there was ended ({status})", _ENDS[status])
        return self._gone()

    def _gone(self) -> DeviceError | None:
        """Why it can't be reached, if it can't."""
        try:
            self._connect()
        except DeviceError as gone:
            return gone
        return None

    def _peak(self, pid: str | None) -> int | None:
        told = self.shell(f"cat /proc/{pid}/status") if pid else Done(1, "", "")
        found = re.search(r"VmHWM:\s+(\d+) kB", told.out)
        return int(found[1]) * 1024 if found else None


class _Guarded:
    """A command on the phone that ends with its `with`: its input is kept open here, and what guards it there waits for the end."""

    def __init__(self, command: list[str], name: str, log: IO[bytes]) -> None:
        self._name, self._log = name, log
        self.pid: str | None = None
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        self._status: int | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> _Guarded:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()
        self._reader.join(10)
        if self._process.stdout:
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout
        for raw in self._process.stdout:
            line = raw.decode(errors="replace")
            if line.startswith("__EDGE_PID="):
                self.pid = line.partition("=")[2].strip()
            elif told := _STATUS.search(line):
                self._status = int(told[1])
            with contextlib.suppress(ValueError):  # the log is closed: nobody reads on
                self._log.write(raw)

    def wait_until_up(self, url: str) -> float:
        """Seconds until it answers. Raises WorkerCrash if it ends first, DeviceError if it never does."""
        began = time.monotonic()
        while time.monotonic() < began + _START_S:
            if fault := self.fault(0):
                raise fault
            with (
                contextlib.suppress(urllib.error.URLError, OSError),
                urllib.request.urlopen(f"{url}/health", timeout=5),
            ):
                return time.monotonic() - began
            time.sleep(0.05)
        raise DeviceError(
            f"{self._name}: llama.cpp's server did not come up within {_START_S:g} s", f"the log is {self._log.name}"
        )

    def fault(self, wait_s: float = 2.0) -> EdgeError | None:
        """What it ended of, if it does within that time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(wait_s)
            self._reader.join(1)
        if self._status is None and self._process.poll() is None:
            return None
        if self._status is None:
            return Lost(f"{self._name}: the connection was lost while llama.cpp's server ran there", _BACK)
        hint = _ENDS.get(self._status, f"the log is {self._log.name}")
        return WorkerCrash(f"{self._name}: llama.cpp's server ended (status {self._status})", hint)


def parse_devices(text: str) -> dict[str, str]:
    """Serial -> state, of what `adb devices -l` prints."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("List of devices", "*"))]
    found = {}
    for line in lines:
        serial, state, *_ = [*line.split(None, 1), "unknown"]
        found[serial] = "no permissions" if state.startswith("no permissions") else state.split()[0]
    return found


def not_ready(name: str, serial: str, state: str | None, known: dict[str, str]) -> DeviceError:
    """Why a phone can't be used now, and what to do."""
    if state is None:
        there = ", ".join(f"{s} ({k})" for s, k in known.items()) or "none"
        return Lost(f"{name}: no phone {serial} is there; adb sees: {there}",
                           "plug it in with USB debugging on, or `edge devices add` with one of those")  # fmt: skip
    hint = _STATES.get(state, "look at it, and at `adb devices -l`").format(serial=serial)
    kind = Lost if state in _PASSING else DeviceError  # a phone that starts again is all of them, one after the other
    return kind(f"{name} ({serial}) is there, but {state}", hint)
