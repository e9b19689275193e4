# ruff: noqa: F811  (fixtures)
"""The stand-ins do what their names say: real sshd, real adbd, aarch64 programs, and faults that are felt from outside.

Every order is seen by its effect on a client, not by its answer."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import standins
from standins import Pi, build, phone, pi, pi4, requires_standins, standin, standins_allowed  # noqa: F401

from edge.errors import MissingError

PYTHON = "python3 -c 'import platform, sys; print(platform.machine(), sys.version_info[:2] >= (3, 9))'"


# what they are


@pytest.mark.slow
@requires_standins
@pytest.mark.parametrize("kind, part, atomics", [("pi", "0xd0b", True), ("pi4", "0xd08", False)])
def test_a_pi_runs_aarch64_python_by_ssh(request, kind, part, atomics):
    pi = request.getfixturevalue(kind)
    assert pi.run(PYTHON).stdout == "aarch64 True\n"
    assert pi.run("exit 7").returncode == 7
    told = pi.run("id -un; cat /proc/cpuinfo /sys/firmware/devicetree/base/model; vcgencmd get_throttled; nproc").stdout
    assert told.startswith("pi\n") and f"CPU part\t: {part}" in told and "throttled=0x0" in told
    assert (" atomics " in told) == atomics  # what LiteRT-LM needs
    assert f"Raspberry Pi {'5' if atomics else '4'} Model B" in told
    memory_kib = int(pi.run("grep MemTotal /proc/meminfo").stdout.split()[1])
    assert memory_kib == pi.memory_mb << 10
    assert pi.run("cat /etc/edge-standin").returncode == 0


@pytest.mark.slow
@requires_standins
def test_nothing_of_the_users_ssh_is_touched(pi, tmp_path):
    told = subprocess.run([*pi.ssh, "-G", pi.host], capture_output=True, text=True, check=True).stdout
    names = ("identityfile ", "userknownhostsfile ", "globalknownhostsfile ")
    files = [w for line in told.splitlines() if line.startswith(names) for w in line.split()[1:]]
    assert len(files) == 3 and all(f.startswith((str(pi.folder), "/dev/null")) for f in files)
    sent = tmp_path / "a"
    sent.write_bytes(os.urandom(3 << 20))
    subprocess.run([*pi.scp, "-q", str(sent), f"{pi.host}:b"], check=True)
    assert pi.run("sha256sum b").stdout.split()[0] == hashlib.sha256(sent.read_bytes()).hexdigest()


@pytest.mark.slow
@requires_standins
def test_a_phone_answers_adb(phone, tmp_path):
    listed = [line.split() for line in phone.server("devices").stdout.splitlines()[1:] if line]
    assert listed == [[phone.serial, "device"]]
    told = phone.run("id -u; getprop ro.product.cpu.abi; getprop ro.edge.standin; getprop no.such; uname -m")
    assert told.stdout.split("\n") == ["2000", "arm64-v8a", "1", "", "aarch64", ""]
    failed = phone.run("echo out; echo err >&2; exit 3")
    assert (failed.returncode, failed.stdout, failed.stderr) == (3, "out\n", "err\n")
    sent, back = tmp_path / "a", tmp_path / "b"
    sent.write_bytes(os.urandom(8 << 20))
    assert phone.adb("push", str(sent), "/data/local/tmp/a").returncode == 0
    assert phone.run("sha256sum /data/local/tmp/a").stdout.split()[0] == hashlib.sha256(sent.read_bytes()).hexdigest()
    assert phone.adb("pull", "/data/local/tmp/a", str(back)).returncode == 0
    assert back.read_bytes() == sent.read_bytes()
    assert "temperature: 289" in phone.run("dumpsys battery").stdout
    assert phone.run("dumpsys nothing").returncode == 1


@pytest.mark.slow
@requires_standins
def test_devices_of_one_disk_do_not_see_each_other(pi):
    with standin("pi") as other:
        assert other.run("echo mine > ~/note; cat ~/note").stdout == "mine\n"
        assert pi.run("cat ~/note").returncode == 1
        assert other.port != pi.port
    assert not list((build.folder() / "pi" / "home").rglob("note"))


# faults


@pytest.fixture(scope="module")
def broken(standins_allowed):
    """A Pi to do harm to."""
    with standin("pi", disk_mb=64) as device:
        yield device


@pytest.mark.slow
@requires_standins
def test_a_cut_link_hangs_and_comes_back(broken):
    talk = subprocess.Popen([*broken.ssh, broken.host, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert talk.stdin and talk.stdout
    print("before", file=talk.stdin, flush=True)
    assert talk.stdout.readline() == "before\n"
    broken.cut()
    new = subprocess.run([*broken.ssh, "-o", "ConnectTimeout=2", broken.host, "true"], capture_output=True, text=True)
    assert new.returncode == 255 and "timed out" in new.stderr
    print("during", file=talk.stdin, flush=True)
    assert talk.poll() is None
    broken.mend()
    assert talk.stdout.readline() == "during\n"  # by the same connection
    talk.communicate()
    assert talk.returncode == 0 and broken.run("true").returncode == 0


@pytest.mark.slow
@requires_standins
def test_a_reboot_ends_processes_and_keeps_the_disk(broken):
    before = broken.run("cat /proc/sys/kernel/random/boot_id; echo x > ~/kept; echo x > /tmp/lost").stdout
    talk = subprocess.Popen([*broken.ssh, broken.host, "sleep 600"], stderr=subprocess.DEVNULL)
    while not any("sleep 600" in p for p in broken.processes()):
        time.sleep(0.05)
    port = broken.port
    broken.reboot(down_s=0.2)
    assert talk.wait(20) == 255
    after = broken.run("cat /proc/sys/kernel/random/boot_id; ls ~/kept /tmp/lost")
    assert port == broken.port and after.stdout.splitlines()[1:] == ["/home/pi/kept"] and "/tmp/lost" in after.stderr
    assert after.stdout.splitlines()[0] != before.strip() and len(before) == 37
    assert not any("sleep 600" in p for p in broken.processes())


@pytest.mark.slow
@requires_standins
def test_a_new_host_key_is_refused_by_ssh(broken):
    known = broken.known_hosts.read_text()
    broken.new_host_key()
    told = broken.run("true")
    assert told.returncode == 255 and "REMOTE HOST IDENTIFICATION HAS CHANGED" in told.stderr
    key = (broken.folder / "host_key.pub").read_text()
    broken.known_hosts.write_text(f"[127.0.0.1]:{broken.port} {key}")
    assert broken.run("true").returncode == 0 and key not in known


@pytest.mark.slow
@requires_standins
def test_a_full_disk(broken):
    write = "head -c 1000000 /dev/zero > ~/big"
    assert broken.run("df -k --output=size / | tail -1").stdout.strip() == str(64 << 10)
    broken.fill_disk(leave_bytes=100_000)
    assert "No space left on device" in broken.run(write).stderr
    broken.empty_disk()
    assert broken.run(write).returncode == 0


@pytest.mark.slow
@requires_standins
def test_who_asks_for_too_much_memory_is_killed(broken):
    allocate = "python3 -c 'x = bytearray(200 << 20); import time; time.sleep(2); print(len(x) >> 20)'"
    assert broken.run(allocate).stdout == "200\n"
    broken.limit_memory(150)
    try:
        told = broken.run(f'sh -c "{allocate}; echo $?"'.replace("$?", r"\$?"))
        assert told.stdout == "137\n"
    finally:
        broken.limit_memory(None)


@pytest.mark.slow
@requires_standins
def test_a_hung_process_and_a_killed_one(broken):
    counting = "python3 -c 'import time\nwhile True: print(1, flush=True); time.sleep(0.1)'; exit $?"
    talk = subprocess.Popen([*broken.ssh, broken.host, counting], stdout=subprocess.PIPE, bufsize=0)
    assert talk.stdout and talk.stdout.read(2) == b"1\n"
    assert broken.kill("python3 -c import", signal.SIGSTOP) == 1
    os.set_blocking(talk.stdout.fileno(), False)
    time.sleep(1)
    talk.stdout.read()
    time.sleep(1)
    assert talk.stdout.read() is None and talk.poll() is None
    broken.kill("python3 -c import")  # and not the shell above it, of whose end by a signal ssh tells 255 alone
    assert talk.wait(20) == 137
    assert broken.kill("while True") == 0
    talk.stdout.close()


@pytest.mark.slow
@requires_standins
def test_the_wall_clock_jumps_and_the_steady_one_does_not(broken):
    clocks = "python3 -c 'import time\nwhile True: print(time.time(), time.monotonic(), flush=True); input()'"
    broken.jump_clock(0)
    command = [*broken.ssh, broken.host, clocks]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as talk:
        assert talk.stdin and talk.stdout
        wall, steady = map(float, talk.stdout.readline().split())
        assert abs(wall - time.time()) < 60
        broken.jump_clock(7200)
        later, end = wall, time.monotonic() + 30
        while later - wall < 3600 and time.monotonic() < end:  # it looks once a second
            time.sleep(0.2)
            print(file=talk.stdin)
            later, steady_later = map(float, talk.stdout.readline().split())
        talk.kill()
    assert 7190 < later - wall < 7260 and 0 < steady_later - steady < 60
    broken.write("/etc/ld.so.preload", "")


@pytest.mark.slow
@requires_standins
def test_a_phone_that_reboots_is_offline_or_gone_until_it_is_connected_again():
    with standin("phone") as phone:
        phone.reboot(down_s=0.2)
        assert f"{phone.serial}\tdevice" not in phone.server("devices").stdout or phone.run("echo x").stdout == "x\n"
        phone.server("disconnect", phone.serial)
        phone.connect()
        assert phone.run("echo x").stdout == "x\n"
        phone.cut()
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(["adb", "-s", phone.serial, "shell", "true"], env={**os.environ, **phone.env}, timeout=3)
        phone.mend()
        assert phone.run("echo x").stdout == "x\n"


# their end


@pytest.mark.slow
@requires_standins
def test_nothing_is_left_even_if_its_process_is_killed():
    with standin("pi") as device:
        assert device.run("nohup sleep 600 > /dev/null 2>&1 &").returncode == 0
        folder, there = device.folder, _descendants(device)
        assert any("sleep" in words for words in map(_words, there))
    _, alive = psutil.wait_procs(there, timeout=10)
    assert not alive and not folder.exists()
    with standin("pi") as device:
        there = _descendants(device)
        there[0].kill()
        _, alive = psutil.wait_procs(there, timeout=10)
        assert len(there) > 2 and not alive
        with pytest.raises((RuntimeError, BrokenPipeError)):
            device.cut()


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # ended, or is about to
        return ""


def _descendants(device: Pi) -> list[psutil.Process]:
    """The process of the stand-in, first, and all below it."""
    assert device._process
    top = psutil.Process(device._process.pid)
    return [top, *top.children(recursive=True)]


# where they can't be


@pytest.mark.slow
@requires_standins
def test_forbidden_namespaces_are_named_as_the_reason(tmp_path):
    """In a user namespace of its own this test may forbid any further one."""
    probe = f"exec {sys.executable} -I {standins.DEVICE} probe {tmp_path}"
    forbidden = f"echo 0 > /proc/sys/user/max_user_namespaces; {probe}"
    told = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", forbidden], capture_output=True, text=True
    )
    assert told.returncode == 1 and told.stderr.strip() == "namespaces (unshare): No space left on device"


def test_an_absent_program_is_named_with_its_package(monkeypatch, tmp_path):
    (tmp_path / "ssh").symlink_to("/bin/true")
    (tmp_path / "ssh-keygen").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    if sys.platform == "linux":
        assert standins.why_not.__wrapped__() == (
            "stand-ins need adb (Debian: apt install adb; or, as root, make standins)"
        )


def test_who_may_not_install_is_told_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingError, match="need no-such-package") as caught:
        build.install({"no-such-program": "no-such-package", "sh": "dash"}, standins.Console(quiet=True))
    assert caught.value.hint and caught.value.hint.endswith("--no-install-recommends no-such-package")


def test_disks_are_built_anew_when_anything_that_makes_them_changes(monkeypatch, tmp_path):
    copy = tmp_path / "standins"
    shutil.copytree(Path(build.__file__).parent, copy)
    monkeypatch.setattr(build, "_HERE", copy)
    before = build.folder()
    with (copy / "files" / "phone" / "system" / "build.prop").open("a") as file:
        file.write("ro.more=1\n")
    assert build.folder() != before


@pytest.mark.slow
@requires_standins
def test_a_build_that_was_killed_is_begun_again(monkeypatch, tmp_path):
    """What lies there without its marker doesn't count."""
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path))
    (build.folder() / "pi").mkdir(parents=True)
    (build.folder() / "pi" / "half").touch()
    there = build.ensure(standins.Console(quiet=True))
    assert (there / build.MARKER).exists() and not (there / "pi" / "half").exists()
    assert (there / "phone" / "system" / "bin" / "sha256sum").is_symlink()
