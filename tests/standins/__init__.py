"""A Raspberry Pi and a phone to talk to: real sshd and real adbd, aarch64 programs under qemu-user, no root, no hardware.

    from standins import requires_standins, standin
    pytestmark = [pytest.mark.slow, requires_standins]   # skips with the reason where namespaces are forbidden

    def test_x(pi, pi4, phone): …                # fixtures (tests/conftest.py), one device a session; or one's own, in half a second:

    with standin("pi", cpu="cortex-a72", disk_mb=200, memory_mb=1024) as pi:
        pi.run("python3 -c 'print(1)'")      # CompletedProcess, by ssh; of a phone by adb shell
        pi.ssh, pi.scp                       # ["ssh", "-F", CONFIG]; the host's name in that file is pi.host ("pi5", "pi4")
        pi.config, pi.port, pi.identity, pi.known_hosts
        pi.cut(); pi.mend()                  # the network link: connections hang, as when a cable is pulled
        pi.cut(after_bytes=1 << 20); pi.garble(after_bytes=1 << 20); pi.received()    # in mid-transfer, on the way there
        pi.reboot(down_s=1)                  # all processes end, the disk stays; same port
        pi.fill_disk(leave_bytes=0); pi.empty_disk()
        pi.limit_memory(300)                 # MB: while all together (pi.used_mb()) have more, the largest is killed (137)
        pi.kill("llama-server", signal.SIGSTOP)   # a regular expression on the command line -> how many it hit
        pi.processes()                       # command lines of all that runs there
        pi.write("/etc/vcgencmd/get_throttled", "throttled=0x4\n")    # any file, such as what vcgencmd and dumpsys answer
        pi.new_host_key(); pi.jump_clock(3600)    # a Pi alone

    with standin("phone") as phone:
        phone.adb("push", "a", "/data/local/tmp/a")   # with its serial, at an adb server of the device's own
        phone.serial, phone.env              # {"ANDROID_ADB_SERVER_PORT": …}: os.environ wants it where other code calls adb

Both have a file /etc/edge-standin, the phone also the property ro.edge.standin=1: what is measured there is `emulated`.
`make standins` builds the disks beforehand; the first test builds them otherwise. Their speed means nothing.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.console import Console
from standins import build

DEVICE = Path(__file__).with_name("device.py")
# The name in ssh's configuration, /sys/firmware/devicetree/base/model, memory.
PIS = {
    "cortex-a76": ("pi5", "Raspberry Pi 5 Model B Rev 1.0 (stand-in)", 8064),
    "cortex-a72": ("pi4", "Raspberry Pi 4 Model B Rev 1.4 (stand-in)", 3792),
}
FAKETIME = "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"
TIMEOUT_S = 60.0


class Standin:
    """What both kinds have. All orders go to `device.py`, so they work when the network is cut."""

    kind = ""

    def __init__(self, folder: Path, cpu: str, disk_mb: int, memory_mb: int) -> None:
        self.folder, self.cpu, self.disk_mb, self.memory_mb = folder, cpu, disk_mb, memory_mb
        self.log = folder / "device.log"
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    # on and off

    def start(self) -> None:
        disks = build.ensure(Console())
        settings = {
            "kind": self.kind,
            "root": str(disks / self.kind),
            "qemu": str(disks / "qemu-aarch64"),
            "cpu": self.cpu,
            "folder": str(self.folder),
            "disk_mb": self.disk_mb,
            "memory_mb": self.memory_mb,
            "model": self.model(),
            "files": self.files(),
            "port": 0,
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(DEVICE)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.port = self._order(settings)["port"]

    def stop(self) -> None:
        if self._process:
            with self._process:
                assert self._process.stdin
                with contextlib.suppress(BrokenPipeError):  # it is gone already
                    self._process.stdin.close()
                try:
                    self._process.wait(20)
                except subprocess.TimeoutExpired:
                    self._process.kill()
            self._process = None

    def model(self) -> str:
        return ""

    def files(self) -> dict[str, tuple[str, int]]:
        return {}

    # faults

    def cut(self, after_bytes: int = 0) -> None:
        self._ask("cut", after_bytes=after_bytes)

    def garble(self, after_bytes: int) -> None:
        self._ask("garble", after_bytes=after_bytes)

    def received(self) -> int:
        return int(self._ask("received"))

    def mend(self) -> None:
        self._ask("mend")

    def reboot(self, down_s: float = 1.0) -> None:
        self._ask("reboot", down_s=down_s)

    def fill_disk(self, leave_bytes: int = 0) -> None:
        self._ask("fill", leave_bytes=leave_bytes)

    def empty_disk(self) -> None:
        self._ask("empty")

    def limit_memory(self, mb: int | None) -> None:
        self._ask("memory", mb=mb)

    def kill(self, pattern: str, how: signal.Signals = signal.SIGKILL) -> int:
        return int(self._ask("kill", pattern=pattern, signal=int(how)))

    def processes(self) -> list[str]:
        return [command for command, _ in self._ask("processes")]

    def used_mb(self) -> int:
        return sum(rss for _, rss in self._ask("processes")) >> 20

    def largest_mb(self) -> int:
        return max(rss for _, rss in self._ask("processes")) >> 20

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        self._ask("write", path=path, text=text, mode=mode)

    def _ask(self, do: str, **more: Any) -> Any:
        return self._order({"do": do, **more})

    def _order(self, order: dict[str, Any]) -> Any:
        assert self._process and self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the {self.kind} is gone:\n{self.log.read_text(errors='replace')[-2000:]}")
        told = json.loads(line)
        if "error" in told:
            raise RuntimeError(f"{told['error']}\n{self.log.read_text(errors='replace')[-2000:]}")
        return told["ok"]


class Pi(Standin):
    kind = "pi"

    def __init__(self, folder: Path, cpu: str, disk_mb: int, memory_mb: int) -> None:
        self.host, self._model, memory = PIS[cpu]
        super().__init__(folder, cpu, disk_mb, memory_mb or memory)
        self.config, self.identity, self.known_hosts = (folder / n for n in ("config", "identity", "known_hosts"))
        self.ssh = ["ssh", "-F", str(self.config)]
        self.scp = ["scp", "-F", str(self.config)]

    def start(self) -> None:
        _keygen(self.identity)
        _keygen(self.folder / "host_key")
        super().start()
        key = (self.folder / "host_key.pub").read_text()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {key}")
        lines = {
            "HostName": "127.0.0.1",
            "Port": self.port,
            "User": "pi",
            "IdentityFile": self.identity,
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
        }
        self.config.write_text(f"Host {self.host}\n" + "".join(f"  {k} {v}\n" for k, v in lines.items()))

    def model(self) -> str:
        return self._model

    def files(self) -> dict[str, tuple[str, int]]:
        return {
            "/etc/ssh/ssh_host_ed25519_key": ((self.folder / "host_key").read_text(), 0o600),
            "/home/pi/.ssh/authorized_keys": (self.identity.with_suffix(".pub").read_text(), 0o600),
        }

    def run(self, command: str, timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        words = [*self.ssh, "-o", "BatchMode=yes", self.host, command]
        return subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False)

    def new_host_key(self) -> None:
        """As after somebody wrote the card anew, or sits in between."""
        (self.folder / "host_key").unlink()
        _keygen(self.folder / "host_key")
        self.write("/etc/ssh/ssh_host_ed25519_key", (self.folder / "host_key").read_text(), 0o600)
        self.reboot(0)

    def jump_clock(self, seconds: float) -> None:
        """The wall clock, for processes begun after the first use; 0 prepares. They notice within about a second."""
        self.write("/etc/faketimerc", f"{seconds:+}\n")
        self.write("/etc/ld.so.preload", f"{FAKETIME}\n")


class Phone(Standin):
    kind = "phone"

    def __init__(self, folder: Path, cpu: str, disk_mb: int, memory_mb: int) -> None:
        super().__init__(folder, cpu, disk_mb, memory_mb or 7680)
        self.env: dict[str, str] = {}

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        super().start()
        self.env = {"ANDROID_ADB_SERVER_PORT": str(_free_port())}
        self.server("start-server", HOME=str(self.folder))  # adb keeps its key at home
        self.connect()

    def stop(self) -> None:
        if self.env:
            self.server("kill-server")
        super().stop()

    def connect(self) -> None:
        told = self.server("connect", self.serial).stdout
        if "connected" not in told:
            raise RuntimeError(f"adb connect {self.serial}: {told}")
        self.adb("wait-for-device")

    def server(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """adb without a serial."""
        env = {**os.environ, **self.env, **variables}
        return subprocess.run(
            ["adb", *arguments], env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )

    def adb(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.server("-s", self.serial, *arguments)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return self.adb("shell", command)


KINDS = {"pi": Pi, "phone": Phone}


@contextlib.contextmanager
def standin(kind: str, cpu: str = "cortex-a76", *, disk_mb: int = 4096, memory_mb: int = 0) -> Iterator[Any]:
    """A `Pi` or a `Phone` while the block lasts. What it writes lies in memory, `disk_mb` at most."""
    with tempfile.TemporaryDirectory(prefix=f"edge-{kind}-") as name:
        device = KINDS[kind](Path(name), cpu, disk_mb, memory_mb)
        try:
            device.start()
            yield device
        finally:
            device.stop()


@functools.cache
def why_not() -> str | None:
    """What forbids stand-ins here, as a sentence; None if nothing does."""
    if sys.platform != "linux":
        return "stand-ins need Linux"
    for program, package in build.HOST.items():
        if not shutil.which(program):
            return f"stand-ins need {program} (Debian: apt install {package}; or, as root, make standins)"
    lack = build.missing()
    if lack:
        return lack
    with tempfile.TemporaryDirectory(prefix="edge-probe-") as name:
        command = [sys.executable, "-I", str(DEVICE), "probe", name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        return f"stand-ins need user namespaces with a binfmt_misc of their own (Linux 6.7 or newer): {said}"
    return None


requires_standins = pytest.mark.usefixtures("standins_allowed")


@pytest.fixture(scope="session")
def standins_allowed() -> None:
    reason = why_not()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def pi(standins_allowed: None) -> Iterator[Pi]:
    with standin("pi", "cortex-a76") as device:
        yield device


@pytest.fixture(scope="session")
def pi4(standins_allowed: None) -> Iterator[Pi]:
    with standin("pi", "cortex-a72") as device:
        yield device


@pytest.fixture(scope="session")
def phone(standins_allowed: None) -> Iterator[Phone]:
    with standin("phone") as device:
        yield device


def _keygen(file: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(file)], check=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return int(s.getsockname()[1])
