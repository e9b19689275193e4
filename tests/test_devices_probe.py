"""What a device says of itself: the script in the shells that are here, its lines as devices print them, what can't run there."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

import pytest

from edge import records
from edge.devices import probe, runners
from edge.errors import DeviceError

# A Raspberry Pi 5 over ssh, with the lines of its power chip.
PI5 = """Welcome to the Pi
edge-probe=1
uname=Linux 6.12.34+rpt-rpi-2712
machine=aarch64
bits=64
libc=glibc 2.36
page=16384
release=PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
dt=Raspberry Pi 5 Model B Rev 1.0\0
cpu=Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
cpu=model name\t: ARMv8 Processor rev 1 (v8l)
cpu=CPU implementer\t: 0x41
cpu=CPU part\t: 0xd0b
cpu=CPU implementer\t: 0x41
cpu=CPU part\t: 0xd0b
present=0-3

online=4
governor=ondemand
governor=ondemand
max_khz=2400000
self=sh\0-c\0
PATH=$PATH:/usr/bin
python=3.11.2 64 /usr/bin/python3
python= /opt/broken/python3.12
df=Filesystem     1024-blocks     Used Available Capacity Mounted on
df=/dev/mmcblk0p2    30358728 12345678  16738312      43% /
mem=MemTotal:        8245552 kB
mem=MemAvailable:    6193152 kB
load=0.42 0.15 0.10 1/278 5221
zone=cpu-thermal:48312
zone=nvme:61000
khz=1500000
khz=2400000
vc=throttled=0x50005
vc=temp=49.4'C
pmic=3V7_WL_SW_A current(0)=0.10000000A
pmic=VDD_CORE_A current(7)=2.00000000A
pmic=3V7_WL_SW_V volt(8)=3.70000000V
pmic=VDD_CORE_V volt(15)=0.80000000V
pmic=EXT5V_V volt(24)=5.10000000V
edge-probe=end
"""
PHONE = """edge-probe=1
uname=Linux 5.15.110-android14
machine=aarch64
page=4096
cpu=Features\t: fp asimd aes atomics asimdhp asimddp i8mm bf16
cpu=CPU implementer\t: 0x41
cpu=CPU part\t: 0xd46
cpu=CPU implementer\t: 0x41
cpu=CPU part\t: 0xd4d
cpu=CPU implementer\t: 0x41
cpu=CPU part\t: 0xd4e
present=0-8
ro.product.manufacturer=Google
ro.product.model=Pixel 8
ro.soc.manufacturer=Google
ro.soc.model=Tensor G3
ro.product.cpu.abi=arm64-v8a
ro.build.version.release=14
ro.hardware=shiba
self=sh
mem=MemTotal:        7864320 kB
mem=MemAvailable:    3000000 kB
thermal=Thermal Status: 2
thermal=Temperature{mValue=34.1, mType=3, mName=VIRTUAL-SKIN, mStatus=0}
thermal=Temperature{mValue=41.0, mType=0, mName=BIG, mStatus=0}
thermal=Temperature{mValue=40.0, mType=0, mName=LITTLE, mStatus=0}
battery=temperature: 289
edge-probe=end
"""
LAPTOP = """edge-probe=1
uname=Linux 6.8.0
machine=x86_64
bits=64
libc=glibc 2.39
dmi=20XW
cpu=flags\t\t: fpu avx avx2
cpu=model name\t: AMD Ryzen 7
present=0-3
siblings=0-1
siblings=0-1
siblings=2-3
siblings=2-3
python=3.12.3 64 /usr/bin/python3
rapl=52000000
edge-probe=end
"""


def facts(text: str, **changed):
    return {"name": "x", "kind": "ssh", **probe.parse_facts(text), **changed}


def test_a_pi():
    told = probe.parse_facts(PI5)
    assert told["model"] == "Raspberry Pi 5 Model B Rev 1.0", "without the device tree's NUL"
    assert told["cpu"] == "Cortex-A76"
    assert (told["machine"], told["bits"], told["libc"], told["page_bytes"]) == ("aarch64", 64, "glibc 2.36", 16384)
    assert (told["cores"], told["logical_cores"]) == (4, 4)
    assert told["memory_bytes"] == 8245552 * 1024
    assert told["os"] == "Debian GNU/Linux 12 (bookworm), Linux 6.12.34+rpt-rpi-2712"
    assert "atomics" in told["features"]
    assert told["features"] == sorted(told["features"])
    assert (told["python"], told["governor"], told["max_clock_hz"]) == ("3.11.2", "ondemand", 2.4e9)
    assert told["emulated"] is False


def test_a_pi_now():
    assert probe.parse_vitals(PI5) == {
        "load_average": 0.42,
        "temperature_c": 49.4,  # the hotter of the processor's two sensors; the disk's is none of them
        "clock_hz": 2.4e9,
        "throttled": True,  # under-voltage and throttled now
        "throttled_since_boot": True,  # the upper bits
        "energy_j": None,
        "available_bytes": 6193152 * 1024,
        "power_w": pytest.approx(0.1 * 3.7 + 2.0 * 0.8),  # a voltage without a current counts for nothing
        "disk_free_bytes": 16738312 * 1024,
    }
    cool = probe.parse_vitals(PI5.replace("0x50005", "0x50000"))
    assert (cool["throttled"], cool["throttled_since_boot"]) == (False, True)
    assert probe.parse_vitals(PI5.replace("0x50005", "0x0"))["throttled_since_boot"] is False


def test_a_phone():
    told = probe.parse_facts(PHONE)
    assert (told["model"], told["soc"], told["android"]) == ("Google Pixel 8", "Google Tensor G3", "14")
    assert told["cpu"] == "Cortex-A510 + Cortex-A715 + Cortex-X3"
    assert (told["cores"], told["bits"], told["os"]) == (9, 64, "Android 14, Linux 5.15.110-android14")
    assert told["python"] is None
    now = probe.parse_vitals(PHONE)
    assert (now["throttled"], now["temperature_c"]) == (True, 41.0)
    hidden = "\n".join(line for line in PHONE.splitlines() if not line.startswith("thermal="))
    assert probe.parse_vitals(hidden)["temperature_c"] == 28.9, "its battery's where it tells no other"
    assert probe.parse_vitals(hidden)["throttled"] is None


def test_a_laptop():
    told = probe.parse_facts(LAPTOP)
    assert (told["cpu"], told["cores"], told["logical_cores"], told["model"]) == ("AMD Ryzen 7", 2, 4, "20XW")
    assert probe.parse_vitals(LAPTOP)["energy_j"] == 52.0


def test_what_is_absent_is_none_and_never_zero():
    bare = "edge-probe=1\nedge-probe=end\n"
    told, now = probe.parse_facts(bare), probe.parse_vitals(bare)
    assert told.pop("features") == []
    assert told.pop("emulated") is False
    assert set(told.values()) == {None}
    assert set(now.values()) == {None}


@pytest.mark.parametrize(
    "text", ["", PI5[: len(PI5) // 2], PI5.replace("edge-probe=1\n", ""), "This account is not available.\n"]
)
def test_a_text_that_was_cut_short_is_no_answer(text):
    for parse in (probe.parse_facts, probe.parse_vitals):
        with pytest.raises(DeviceError, match="cut short"):
            parse(text)


@pytest.mark.parametrize(
    ("line", "by"),
    [
        ("standin=1", "our own stand-in"),
        ("ro.edge.standin=1", "our own stand-in"),
        ("ro.hardware=ranchu", "Android's emulator"),
        ("ro.kernel.qemu=1", "Android's emulator"),
        ("dt=linux,dummy-virt", "qemu's machine"),
        ("self=/usr/libexec/qemu-binfmt/qemu-aarch64\0/bin/sh\0sh\0-c", "qemu-user"),
        ("self=qemu-aarch64-static\0/bin/sh", "qemu-user"),
    ],
)
def test_what_is_emulated(line, by):
    text = LAPTOP.replace("edge-probe=end", f"{line}\nedge-probe=end")
    assert probe.parse_facts(text)["emulated"] is True, by
    near = LAPTOP.replace("edge-probe=end", "self=sh\0-c\0qemu-not-me\nedge-probe=end")
    assert probe.parse_facts(near.replace("qemu-not-me", "run-qemu"))["emulated"] is False


@pytest.mark.parametrize(
    ("lines", "path"),
    [
        (["3.9.2 64 /usr/bin/python3", "3.11.9 64 /opt/a b/python3.11"], "/opt/a b/python3.11"),
        (["3.13.1 64 /usr/bin/python3", "3.11.9 64 /opt/python3.11"], "/usr/bin/python3"),
        (["3.9.2 64 /usr/bin/python3"], "/usr/bin/python3"),
        ([" /usr/bin/python3"], None),
    ],
)
def test_which_python_is_taken(lines, path):
    text = "edge-probe=1\n" + "".join(f"python={line}\n" for line in lines) + "edge-probe=end\n"
    found = probe.python(text)
    assert (found and found.path) == path


@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "mksh", "busybox", "zsh"])
def test_the_script_runs_in_this_shell(shell):
    """Through the word that ssh and adb pass on."""
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    words = [shell, *(["sh"] if shell == "busybox" else []), "-c"]
    done = subprocess.run([*words, probe.SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    told = probe.parse_facts(done.stdout)
    assert told["machine"]
    assert told["logical_cores"]
    assert told["memory_bytes"]
    assert told["python"]
    assert probe.parse_vitals(done.stdout)["disk_free_bytes"]
    short = subprocess.run([*words, probe.VITALS_SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert probe.parse_vitals(short.stdout)["available_bytes"]


@pytest.mark.parametrize("given", ["/py 3/bin/python", "~/py 3/bin/python"])
def test_a_python_that_is_named_goes_before_those_in_the_path(tmp_path, given):
    place = tmp_path / "py 3" / "bin" / "python"
    place.parent.mkdir(parents=True)
    place.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    place.chmod(0o755)
    variables = {**os.environ, "HOME": str(tmp_path), "EDGE_PYTHON": given if given[0] == "~" else f"{tmp_path}{given}"}
    done = subprocess.run(
        ["sh", "-c", probe.SCRIPT], env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert probe.python(done.stdout, ">=3").path == str(place)


def test_every_shell_passes_the_script_on_as_it_is():
    assert not set("'\\") & set(probe.SCRIPT + probe.VITALS_SCRIPT)


# ---- what can't run there


@pytest.mark.parametrize("runtime", ["litert", "litert_lm", "litert_lm_chat", "onnxruntime"])
def test_a_pi_5_runs_them_all(runtime):
    assert probe.lacks(facts(PI5), runtime) is None


@pytest.mark.parametrize("runtime", ["litert_lm", "litert_lm_chat"])
def test_a_pi_4_has_no_lse_atomics(runtime):
    features = ["aes", "asimd", "cpuid", "crc32", "evtstrm", "fp"]
    pi4 = facts(PI5, features=features, cpu="Cortex-A72")
    assert "SIGILL" in probe.lacks(pi4, runtime)
    assert "Cortex-A72" in probe.lacks(pi4, runtime)
    assert probe.lacks(pi4, "litert") is None
    assert probe.lacks(facts(PI5, features=[]), runtime) is None, "what it does not tell is not held against it"
    assert probe.lacks(facts(LAPTOP), runtime) is None, "x86 has other words for them"


@pytest.mark.parametrize(
    ("changed", "runtime", "words"),
    [
        ({"bits": 32}, "litert", "32-bit"),
        ({"machine": "armv7l", "bits": 32}, "onnxruntime", "32-bit"),
        ({"machine": "riscv64"}, "litert", "no packages of it for riscv64"),
        ({"machine": "riscv64"}, "onnxruntime", "no packages of it for riscv64"),
        ({"python": None}, "litert", "no Python"),
        ({"python": "3.9.2"}, "litert", "3.9.2, and this needs >=3.11,<3.14"),
        ({"python": "3.14.0"}, "litert", "3.14.0"),
        ({"python": "3.8.10"}, "llama_server", "3.8.10"),
        ({"libc": None}, "onnxruntime", "glibc"),
        ({"memory_bytes": 300_000_000}, "litert_lm", "too little memory: 300 MB"),
        ({"machine": "armv7l", "features": ["neon", "vfpv4"]}, "llama_server", "64-bit Arm"),
        ({}, "transformers", "this machine only"),
        ({}, "llama_cpp", "llama_server"),
        ({"kind": "adb", "python": None}, "litert", "needs Python"),
    ],
)
def test_what_is_missing_is_said(changed, runtime, words):
    assert words in (probe.lacks(facts(PI5, **changed), runtime) or "")


def test_llama_server_needs_a_runner_of_its_class(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path))
    assert "edge runners build --for armv8.2" in probe.lacks(facts(PI5), "llama_server")
    assert "edge runners build --for armv8.0" in probe.lacks(facts(PI5, features=["asimd", "fp"]), "llama_server")


@pytest.mark.parametrize(("system", "kind", "other"), [("linux", "ssh", "adb"), ("android", "adb", "ssh")])
def test_a_release_of_the_users_runs_on_its_own_system(tmp_path, monkeypatch, system, kind, other):
    """Linked to libraries beside it, as upstream's are."""
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path))
    folder = runners._added("armv8.2")
    folder.mkdir(parents=True)
    (folder / "llama-server").touch()
    records.save({"programs": {"llama-server": {"system": system}}, "libraries": []}, folder / runners.MARKER)
    assert probe.lacks(facts(PI5, kind=kind), "llama_server") is None
    assert "edge runners build" in probe.lacks(facts(PI5, kind=other), "llama_server")
