"""A computer over ssh, such as a Raspberry Pi: the system's own `ssh`, so that its configuration, keys, agents and jump hosts hold.

Everything of ours lies in one folder there (FOLDER): `files/DIGEST/NAME` what was pushed, `marks/` a mark of each,
written last, `sites/KEY` the packages of a runtime, `running/ID` what runs. `pushed` lists it, `clean` removes it.

Commands share one connection; an agent has its own, so that it ends with that and not with another's. A lost connection is
a Lost (a DeviceError): `run` and `push` try again after a while, an agent never does, since what it had in memory is gone.
Host keys are checked as the user's ssh checks them; nobody is asked anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

import psutil

from edge import archive, environments, records
from edge.console import Console
from edge.devices import Agent, Done, Full, Lost, Stopped, probe, runners, site
from edge.devices.local import AGENT, variables
from edge.devices.ssh_failures import failure
from edge.errors import DeviceError, EdgeError, MissingError, WorkerCrash
from edge.worker import Channel, clean_environment, tail_of

T = TypeVar("T")
FOLDER = "~/.cache/edge"
_OPTIONS = ("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3", "LogLevel=INFO")
_TRANSPORT = 255
_SETTLE_S = 40.0  # more than ssh itself takes to see that nobody answers
_TRIES, _BACK_OFF_S = 4, 1.0
_BLOCK = 1 << 20
_STALL_S = 120.0  # of a file that is sent: no byte for so long
_SPARE_BYTES = 8 << 20  # of the disk there, for what else is written
_POLL_S, _LOOK_S = 0.05, 1.0
_SHOWN_AFTER_S = 1.0
_pause = time.sleep

# --- what runs there, in the sh of POSIX; $1… are its arguments -------------------------------------------------------

_QUIET = "LC_ALL=C; export LC_ALL\n"
_TIMED = 't=$1; shift; if command -v timeout >/dev/null 2>&1; then exec timeout -k 2 "$t" "$@"; fi; exec "$@"'
# Our folder, made if need be; one that holds other things is not taken, since `clean` would remove it.
_HOME = """
f=$1; case $f in "~/"*) f=$HOME/${f#??} ;; /*) ;; *) f=$HOME/$f ;; esac
mkdir -p "$f" && cd "$f" || exit 1
if [ ! -e .edge-folder ]; then [ -z "$(ls -A)" ] || { echo "$f"; exit 9; }; : >.edge-folder || exit 1; fi
mkdir -p files marks sites running && pwd"""
# A file's state: "whole", or the bytes of what is there of it and the disk. Of all four: $1 the file, $2 where its mark and a
# part of it lie, apart, so that a folder holds what was sent and nothing else.
_STATE = """
mkdir -p "$(dirname "$1")" "$(dirname "$2")" || exit 1
[ "$(cat "$2.whole" 2>/dev/null)" = "$3 $(stat -c "%s %Y" "$1" 2>/dev/null)" ] && { echo whole; exit 0; }
echo "$(stat -c %s "$2.partial" 2>/dev/null || echo 0)"
df -P -k "$(dirname "$1")\""""
_PART = 'head -c "$3" "$2.partial" | sha256sum'
_WRITE = 'exec dd of="$2.partial" bs=1048576 seek="$3" conv=notrunc'  # a late writer writes the same to the same place
_FINISH = """
[ -e "$2.partial" ] || [ "$(cat "$2.whole" 2>/dev/null)" != "$3 $(stat -c "%s %Y" "$1")" ] || exit 0
s=$(sha256sum <"$2.partial") || exit 1
[ "${s%% *}" = "$4" ] || { rm -f "$2.partial"; exit 7; }
chmod 755 "$2.partial" && mv -f "$2.partial" "$1" && echo "$3 $(stat -c "%s %Y" "$1")" >"$2.whole\""""
_UNPACK = """
cd "$1" || exit 1
[ -d "$2" ] && exit 0
rm -rf "$2.partial" && mkdir "$2.partial" && tar -xzf "$3" -C "$2.partial" && mv "$2.partial" "$2"
s=$?; rm -rf "$2.partial"; [ $s != 0 ] || rm -rf "$(dirname "$3")"; exit $s"""
_LIST = """
cd "$1" 2>/dev/null && [ -e .edge-folder ] || exit 0
for e in files/*/* sites/* marks/*/*.partial marks/*/*/*.partial; do [ -e "$e" ] && du -sk "$PWD/$e"; done; exit 0"""
_CLEAN = """
cd "$1" 2>/dev/null && [ -e .edge-folder ] || exit 0
rm -rf files marks sites running .edge-folder; cd ..; rmdir "$1" 2>/dev/null; exit 0"""
# $4…: the agent, which reads from a pipe of ours. When the input ends it has its own grace to end in; then it is killed,
# whatever it hangs in. A background job, since of a command that a signal ended ssh itself tells no more than 255.
_GUARD = """
cd "$1" || exit 1
f=running/$2; o=$3; shift 3
exec 3<&0
mkfifo "$f.in" || exit 1
"$@" <"$f.in" 3<&- &
p=$!
echo "$p $o" >"$f"
{ cat <&3 >"$f.in"; sleep 15; kill -9 "$p"; } >/dev/null 2>&1 &
g=$!
exec 3<&-
wait "$p"; s=$?
kill "$g" 2>/dev/null
rm -f "$f" "$f.in"
exit "$s\""""
_RUNNING = """
cd "$1/running" 2>/dev/null || exit 0
for f in *; do case $f in *.in|\\*) continue ;; esac
read -r p o <"$f" || continue
if grep -q -a "EDGE_RUN=$f" "/proc/$p/environ" 2>/dev/null; then echo "$f $p $o"; else rm -f "$f" "$f.in"; fi
done; exit 0"""
_END = """
cd "$1/running" 2>/dev/null || exit 0
read -r p o 2>/dev/null <"$2" || exit 0
for i in 1 2 3 4; do grep -q -a "EDGE_RUN=$2" "/proc/$p/environ" 2>/dev/null || break; [ $i = 4 ] && kill -9 "$p"; sleep 0.3; done
rm -f "$2" "$2.in"; exit 0"""

_LIVE: set[str] = set()  # agents that this process has open, on whatever device


class Ssh:
    """One computer by what ssh calls it: a host, `user@host`, or a name of ~/.ssh/config."""

    kind = "ssh"

    def __init__(
        self,
        name: str,
        host: str,
        port: int | None = None,
        folder: str | None = None,
        python: str | None = None,
        config: str | None = None,
    ) -> None:
        self.name, self.host, self.port = name, host, port
        self.console = Console(quiet=True)  # where a long transfer is shown
        self.tries = _TRIES  # after a lost connection
        self.stop = threading.Event()
        self._wanted, self._given_python = folder or FOLDER, python
        given = config or os.environ.get("EDGE_SSH_CONFIG")
        self._config = str(Path(given).expanduser()) if given else None
        self._desk: Path | None = None
        self._folder: str | None = None
        self._told: str | None = None  # what the probe said
        self._left: set[str] = set()  # agents that were not seen to end

    def __enter__(self) -> Ssh:
        if not shutil.which("ssh"):
            raise MissingError(f"{self.name}: there is no ssh here", "Debian: apt install openssh-client")
        short = "/tmp" if Path("/tmp").is_dir() else None  # a socket's path has at most 104 bytes
        self._desk = Path(tempfile.mkdtemp(prefix="edge-", dir=short))
        try:
            self.run(["true"])
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop = threading.Event()  # from here on it ends
        with contextlib.suppress(DeviceError):
            self._end_left(tries=1)
        self._close()

    def _close(self) -> None:
        self.stop = threading.Event()
        if self._desk and (self._desk / "c").exists():
            self._call(self._ssh(["-O", "exit"], ""), _SETTLE_S)
        if self._desk:
            shutil.rmtree(self._desk, ignore_errors=True)
        self._desk = None

    # --- commands -----------------------------------------------------------------------------------------------------

    def run(self, argv: Sequence[str], timeout_s: float = 60.0) -> Done:
        """A command there, tried again after a lost connection: give only what can be done twice."""
        done = self._script(_TIMED, [str(max(1, math.ceil(timeout_s))), *argv], timeout_s, prefix="")
        return Done(None, done.out, done.err) if done.status == 124 else done

    def _script(self, script: str, arguments: Sequence[str], timeout_s: float = 60.0, prefix: str = _QUIET) -> Done:
        """One of the scripts above. Raises DeviceError when the way there fails, at last."""
        remote = "exec " + shlex.join(["sh", "-c", prefix + script, "edge", *arguments])
        return self._again(lambda: self._once(remote, timeout_s))

    def _must(self, script: str, arguments: Sequence[str], timeout_s: float = 60.0) -> str:
        """What it printed. Raises DeviceError if it fails."""
        done = self._script(script, arguments, timeout_s)
        if done.status != 0:
            raise self._refused(done)
        return done.out

    def _refused(self, done: Done) -> DeviceError:
        said = (done.err.strip() or done.out.strip()).splitlines()[-1:] or ["nothing was said"]
        if "No space left" in done.err:
            hint = f"free some, or: edge devices clean {self.name}"
            return Full(f"{self.name}: its disk is full ({said[0][:160]})", hint)
        what = f"{self.name}: a command there ended with {done.status}: {said[0][:200]}"
        return DeviceError(what, f"look there: ssh {self.host}")

    def _once(self, remote: str, timeout_s: float) -> Done:
        done = self._call(self._ssh([], remote), timeout_s + _SETTLE_S)
        if done.status is None:
            raise Lost(f"{self.name} ({self.host}): it does not answer any more", "is it on, and on this network?")
        if done.status == _TRANSPORT:
            raise failure(self.name, self.host, self.port, done.err)
        return done

    def _again(self, what: Callable[[], T]) -> T:
        for attempt in range(self.tries - 1):
            try:
                return what()
            except Lost:
                _pause(_BACK_OFF_S * 2**attempt)
                if self.stop.is_set():
                    raise Stopped from None
        return what()

    def _ssh(self, options: Sequence[str], remote: str, shared: bool = True) -> list[str]:
        """The command line. An agent's own connection is not `shared`."""
        assert self._desk, "use it in a `with`"
        path = self._desk / "c"
        mux = ["ControlMaster=no", "ControlPath=none"]
        if shared:
            mux = ["ControlMaster=auto", f"ControlPath={path}", "ControlPersist=60"]
        words = ["ssh", *(["-F", self._config] if self._config else []), "-T"]
        words += [word for option in (*_OPTIONS, *mux) for word in ("-o", option)]
        words += [*(["-p", str(self.port)] if self.port else []), *options, "--", self.host]
        return [*words, remote] if remote else words

    def _call(self, command: list[str], timeout_s: float) -> Done:
        """Output goes through files: a connection that stays open in the background would hold a pipe."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                env=clean_environment(),
            )
            end = time.monotonic() + timeout_s
            try:
                while (status := _ended(process, min(_LOOK_S, end - time.monotonic()))) is None:
                    if self.stop.is_set():
                        raise Stopped
                    if time.monotonic() >= end:
                        break
            finally:
                process.kill()
                process.wait()
            return Done(status, _text(out), _text(err))

    # --- what it is ---------------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        return {"name": self.name, "kind": self.kind, **probe.parse_facts(self._probe())}

    def vitals(self) -> dict[str, Any]:
        return probe.parse_vitals(self._must(probe.VITALS_SCRIPT, []))

    def lacks(self, runtime: str) -> str | None:
        return probe.lacks(self.facts(), runtime)

    def disk_free_bytes(self) -> int | None:
        """Where our folder is or would be."""
        free: int | None = probe.parse_vitals(self._probe(anew=True))["disk_free_bytes"]
        return free

    def _probe(self, anew: bool = False) -> str:
        if self._told is None or anew:
            place = self._wanted if self._wanted.startswith("/") else ""
            given = [f"EDGE_FOLDER={place}", f"EDGE_PYTHON={self._given_python or ''}"]
            done = self.run(["env", *given, "sh", "-c", _QUIET + probe.SCRIPT])
            probe.parse_facts(done.out)  # a text that was cut short is not kept
            self._told = done.out
        return self._told

    # --- files --------------------------------------------------------------------------------------------------------

    @property
    def folder(self) -> str:
        """Our folder there, made if need be. Raises DeviceError for one that holds something else."""
        if self._folder is None:
            done = self._script(_HOME, [self._wanted])
            if done.status == 9:
                raise DeviceError(f"{self.name}: {done.out.strip()} there is not empty, and not ours",
                                  "name an empty one, or one that is not there yet, in devices.toml: folder = …")  # fmt: skip
            if done.status != 0:
                raise self._refused(done)
            self._folder = done.out.strip()
        return self._folder

    def push(self, path: Path, digest: str) -> str:
        """Where it lies there. Its sha256 is asked for there; what was cut off goes on, what lies there whole is not sent again.

        Raises DeviceError: the disk there is full (how much it takes, how much is free), or it arrives altered twice.
        """
        there = f"{self.folder}/files/{digest[:16]}/{path.name}"
        if path.is_dir():
            for file in sorted(f for f in path.iterdir() if f.is_file()):
                if not file.name.startswith(".") and file.name not in records.OWN:  # as records.digest_folder has it
                    self._send(file, f"{there}/{file.name}", digest)
        else:
            self._send(path, there, digest)
        return there

    def _send(self, file: Path, there: str, mark: str) -> None:
        sha = ""
        for _ in range(2):
            if self._again(lambda: self._transfer(file, there, mark)) is None:
                return
            sha = sha or records.digest_file(file)
            done = self._script(_FINISH, [there, self._beside(there), mark, sha], 600)
            if done.status == 0:
                return
            if done.status != 7:
                raise self._full(file, None) if "No space left" in done.err else self._refused(done)
        raise DeviceError(f"{self.name}: {file.name} arrives altered, twice",
                          "its disk, its memory or the network is at fault: `dmesg` there; then the same command again")  # fmt: skip

    def _transfer(self, file: Path, there: str, mark: str) -> int | None:
        """Bytes that lie there now; None if it lies there whole already."""
        size = file.stat().st_size
        places = [there, self._beside(there)]
        state = self._must(_STATE, [*places, mark]).strip().splitlines()
        if state[0] == "whole":
            return None
        start = self._kept(file, there, int(state[0]))
        free = probe.free_of(state[1:])
        if free is not None and free < size - start + _SPARE_BYTES:
            raise self._full(file, free)
        remote = "exec " + shlex.join(["sh", "-c", _QUIET + _WRITE, "edge", *places, str(start // _BLOCK)])
        with file.open("rb") as data, tempfile.TemporaryFile() as err, contextlib.ExitStack() as shown:
            data.seek(start)
            command, began = self._ssh([], remote), time.monotonic()
            process = subprocess.Popen(command, stdin=data, stdout=subprocess.DEVNULL, stderr=err, start_new_session=True,
                                       env=clean_environment())  # fmt: skip
            shown.callback(process.wait)
            shown.callback(process.kill)
            status, at, moved, task = None, start, began, None
            while status is None:
                status = _ended(process, _POLL_S)
                if self.stop.is_set():
                    raise Stopped
                now, place = time.monotonic(), os.lseek(data.fileno(), 0, os.SEEK_CUR)  # which ssh moves on
                if place != at:
                    at, moved = place, now
                elif now - moved > _STALL_S:
                    raise Lost(
                        f"{self.name}: no more of {file.name} is taken at {at / 1e6:.1f} MB", "its disk may hang"
                    )
                if task is None and now - began > _SHOWN_AFTER_S:
                    task = shown.enter_context(self.console.task(f"{self.name}: sending {file.name}, MB"))
                if task:
                    task(at / 1e6, size / 1e6)
            said = _text(err)
            if status == _TRANSPORT:
                raise failure(self.name, self.host, self.port, said)
            if "No space left" in said:
                full = self._full(file, None)
                self._script('rm -f "$2.partial"', places)  # what needs less has room again
                raise full
            if status != 0:
                raise self._refused(Done(status, "", said))
        return size

    def _beside(self, there: str) -> str:
        """Where the mark of a file lies."""
        return f"{self.folder}/marks/{there.removeprefix(f'{self.folder}/files/')}"

    def _kept(self, file: Path, there: str, have: int) -> int:
        """Where to go on: whole blocks of what lies there, if they are the file's."""
        start = min(have, file.stat().st_size) // _BLOCK * _BLOCK
        if not start:
            return 0
        sha = hashlib.sha256()
        with file.open("rb") as data:
            for _ in range(start // _BLOCK):
                sha.update(data.read(_BLOCK))
        told = self._must(_PART, [there, self._beside(there), str(start)], 600)
        return start if told.startswith(sha.hexdigest()) else 0

    def _full(self, file: Path, free: int | None) -> Full:
        free = self.disk_free_bytes() if free is None else free
        left = "" if free is None else f", and {free / 1e6:.1f} MB are free there"
        return Full(f"{self.name}: its disk is full: {file.name} takes {file.stat().st_size / 1e6:.1f} MB{left}",
                    f"free some, or: edge devices clean {self.name}")  # fmt: skip

    def pull(self, there: str, here: Path) -> None:
        """A file, checked by its sha256. Raises DeviceError if it can't be read."""
        partial = here.with_name(f".{here.name}.{os.getpid()}.partial")

        def fetch() -> None:
            with partial.open("wb") as out, tempfile.TemporaryFile() as err:
                remote = "exec " + shlex.join(["cat", there])
                process = subprocess.run(self._ssh([], remote), stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                         start_new_session=True, env=clean_environment(), check=False)  # fmt: skip
                if process.returncode == _TRANSPORT:
                    raise failure(self.name, self.host, self.port, _text(err))
                if process.returncode:
                    raise self._refused(Done(process.returncode, "", _text(err)))

        try:
            self._again(fetch)
            if not self._must('sha256sum <"$1"', [there], 600).startswith(records.digest_file(partial)):
                raise DeviceError(f"{self.name}: {there} arrives altered", "the same command again")
            partial.replace(here)
        finally:
            partial.unlink(missing_ok=True)

    def pushed(self) -> list[tuple[str, int]]:
        """Everything that lies there of ours: path, bytes."""
        lines = self._must(_LIST, [self._place()]).splitlines()
        return [(name, int(kib) * 1024) for kib, _, name in (line.partition("\t") for line in lines) if kib.isdigit()]

    def clean(self) -> list[tuple[str, int]]:
        """Remove all of it; returns what it was. Raises DeviceError while something of ours runs there."""
        self._end_left()
        self.refuse_busy()
        gone = self.pushed()
        self._must(_CLEAN, [self._place()], 600)
        self._folder = None
        return gone

    def _place(self) -> str:
        """Our folder there, whether it is there or not."""
        if not self._wanted.startswith("/"):
            self._wanted = f"{self._must('cd && pwd', []).strip()}/{self._wanted.removeprefix('~/')}"
        return self._wanted

    # --- running ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def forward(self, port: int) -> Iterator[int]:
        self.run(["true"])  # the shared connection is up
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            here = int(free.getsockname()[1])
        way = f"127.0.0.1:{here}:127.0.0.1:{port}"
        done = self._call(self._ssh(["-O", "forward", "-L", way], ""), _SETTLE_S)
        if done.status != 0:
            raise DeviceError(
                f"{self.name}: port {port} can't be forwarded: {done.err.strip()[-200:]}", "the same command again"
            )
        try:
            yield here
        finally:
            self._call(self._ssh(["-O", "cancel", "-L", way], ""), _SETTLE_S)

    def environment(self, runtime: str, console: Console) -> environments.Environment:
        """Packages chosen here for its Python and processor, unpacked there: the device itself needs no network."""
        self.console = console
        lack = self.lacks(runtime)
        if lack:
            raise DeviceError(f"{self.name}: {runtime}: {lack}", f"what runs there: edge devices list {self.name}")
        python = self._python()
        if runtime == "llama_server":
            packages = [f"llama-server=={records.digest_file(self._server())[:16]}"]
            return environments.Environment(
                Path(python.path), {"name": runtime, "key": None, "python": python.version, "packages": packages}
            )
        made = site.ensure(environments.spec(environments.script(runtime)), self.facts(), console)
        self._unpack(made, console)
        return environments.Environment(Path(python.path), made.facts)

    def _python(self) -> probe.Python:
        found = probe.python(self._probe())
        assert found, "lacks() has said so"
        return found

    def _server(self) -> Path:
        return runners.require(runners.class_of(set(self.facts()["features"])), system="linux")

    def _server_there(self) -> str:
        """The path of llama.cpp's server there, sent if need be; of a release of the user's with its libraries beside it."""
        server = self._server()
        if not runners.libraries(server):
            return self.push(server, records.digest_file(server))
        return f"{self.push(server.parent, records.digest_folder(server.parent))}/{server.name}"

    def _unpack(self, made: site.Site, console: Console) -> None:
        there = f"{self.folder}/sites/{made.name}"
        if self._script('[ -d "$1" ]', [there]).status == 0:
            return
        with console.task(f"{self.name}: packages of {made.facts['name']} ({made.packed.stat().st_size / 1e6:.0f} MB)"):
            free = self.disk_free_bytes()
            takes = made.bytes + made.packed.stat().st_size + _SPARE_BYTES
            if free is not None and free < takes:
                what = f"the packages of {made.facts['name']} take {takes / 1e6:.0f} MB, and {free / 1e6:.1f} MB are free there"
                raise Full(f"{self.name}: its disk is full: {what}", f"free some, or: edge devices clean {self.name}")
            packed = self.push(made.packed, made.digest)
            self._must(_UNPACK, [f"{self.folder}/sites", made.name, packed], 900)

    @contextlib.contextmanager
    def agent(
        self, runtime: str, path: str, options: dict[str, Any], environment: environments.Environment, log: IO[bytes]
    ) -> Iterator[Agent]:
        """Raises DeviceError if another computer's agent is at work there."""
        self._end_left()
        self.refuse_busy()
        code, script = (self.push(f, records.digest_file(f)) for f in (archive.path(), AGENT))
        number = secrets.token_hex(6)
        env = {"EDGE_CODE": code, "EDGE_RUN": number, **variables(runtime)}
        if environment.facts.get("key"):
            env["EDGE_SITE"] = f"{self.folder}/sites/{site.name(environment.facts)}"
        if runtime == "llama_server":
            options = {**options, "server": self._server_there()}
        words = ["env", *(f"{k}={v}" for k, v in env.items()), str(environment.python), "-I", "-X", "utf8", script]
        remote = "exec " + shlex.join(["sh", "-c", _GUARD, "edge", self.folder, number, _owner(), *words])
        _LIVE.add(number)
        self._left.add(number)
        try:
            with Channel(
                self._ssh([], remote, shared=False),
                name=f"{runtime} on {self.name}",
                log=log,
                env=clean_environment(),
                guess=lambda status: self._guess(status, runtime, Path(log.name)),
            ) as channel:
                yield Agent(channel, path, options)
        finally:
            _LIVE.discard(number)
            with contextlib.suppress(DeviceError, Stopped):  # the next agent there ends it, or the end of the `with`
                self._end_left(tries=1)

    def _guess(self, status: int, runtime: str, log: Path) -> EdgeError | None:
        if status == _TRANSPORT:
            return failure(self.name, self.host, self.port, tail_of(log, 12))
        if status == 132:
            return WorkerCrash(
                f"{runtime} on {self.name} was ended by SIGILL: it has instructions that this processor has not",
                self.lacks(runtime) or "llama_server may run there: edge runners build for its class of processor",
            )
        if status == 137:
            memory = self.facts().get("memory_bytes")
            of = f" (it has {memory / 1e6:.0f} MB)" if memory else ""
            return WorkerCrash(
                f"{runtime} on {self.name} was killed: this is what running out of memory looks like there{of}",
                f"a smaller quantisation or context; `dmesg` there tells; the log is {log}",
            )
        return None

    def _end_left(self, tries: int | None = None) -> None:
        """End the agents of this process that were not seen to end."""
        before, self.tries = self.tries, tries or self.tries
        try:
            for number in list(self._left - _LIVE):
                self._must(_END, [self._place(), number])
                self._left.discard(number)
        finally:
            self.tries = before

    def refuse_busy(self) -> None:
        """Raises DeviceError while another process's agent is at work there; what was left behind by one that is gone is ended."""
        for line in self._must(_RUNNING, [self._place()]).splitlines():
            number, pid, owner = line.split(" ", 2)
            if number in _LIVE:
                continue
            if not _alive(owner):
                self._must(_END, [self._place(), number])
                continue
            host, ours = owner.split(":")[:2]
            who = (
                f"another run here (process {ours})"
                if host == socket.gethostname()
                else f"{host} (process {pid} there)"
            )
            hint = f"wait until it is done; if that was given up: ssh {self.host} kill {pid}"
            raise DeviceError(f"{self.name}: {who} measures there now", hint)


def _owner() -> str:
    """Whose agent it is: this computer, this process, and when that began."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def _alive(owner: str) -> bool:
    """Whether it may still be at work. Of another computer nobody knows; of this process its agents are in _LIVE."""
    host, pid, began = [*owner.split(":"), "", ""][:3]
    if host != socket.gethostname() or not pid.isdigit():
        return True
    if owner == _owner():
        return False
    with contextlib.suppress(psutil.Error):
        return f"{psutil.Process(int(pid)).create_time():.0f}" == began
    return False


def _ended(process: subprocess.Popen[bytes], within_s: float) -> int | None:
    """Its status; None if it has not ended within that time."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(max(within_s, 0.0))
    return None


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
