"""What a device says of itself: one shell script for ssh and adb alike, what its lines mean, and what can't run there.

    done = device.run(["env", "EDGE_FOLDER=/data/local/tmp", "sh", "-c", probe.SCRIPT])
    facts = {"name": …, "kind": "adb", **probe.parse_facts(done.out)}
    vitals = probe.parse_vitals(done.out)                    or, in a third of the time and without the disk:
    vitals = probe.parse_vitals(device.run(["sh", "-c", probe.VITALS_SCRIPT]).out)
    why_not = probe.lacks(facts, "litert_lm")                None: it runs

The scripts are POSIX sh as dash, mksh, toybox and busybox speak it, with no single quote and no backslash in them, so that
every shell passes them on as one quoted word. They print `key=value` lines between two marks; a text without the last mark
was cut short (a cable, a banner that ends the session), and reading it raises DeviceError. What is absent prints nothing
and reads as None, never as 0.

EDGE_FOLDER is where the free space is asked for (default: the home), EDGE_PYTHON a Python to take before those in the path.
Parsing is pure: tests feed it text that was recorded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from packaging.specifiers import SpecifierSet

from edge import environments
from edge.errors import DeviceError, MissingError

_BEGIN, _END = "edge-probe=1", "edge-probe=end"
_HELPERS = """
PATH=$PATH:/usr/bin:/bin:/usr/sbin:/sbin
file() { [ -r "$2" ] && { printf %s= "$1"; cat "$2"; echo; } 2>/dev/null; }
each() { while read -r line; do echo "$1=$line"; done; }
tell() { k=$1; shift; command -v "$1" >/dev/null 2>&1 && "$@" 2>/dev/null </dev/null | each "$k"; }
"""
_VITALS = """
tell mem grep -E "^Mem(Total|Available):" /proc/meminfo
file load /proc/loadavg
for z in /sys/class/thermal/thermal_zone*; do
[ -r "$z/temp" ] && echo "zone=$(cat "$z/type" 2>/dev/null):$(cat "$z/temp" 2>/dev/null)"
done
for f in /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq; do file khz "$f"; done
tell vc vcgencmd get_throttled
tell vc vcgencmd measure_temp
tell pmic vcgencmd pmic_read_adc
file rapl /sys/class/powercap/intel-rapl:0/energy_uj
tell thermal dumpsys thermalservice
tell battery dumpsys battery
"""
_FACTS = """
echo "uname=$(uname -s) $(uname -r)"
echo "machine=$(uname -m)"
tell bits getconf LONG_BIT
tell libc getconf GNU_LIBC_VERSION
tell page getconf PAGESIZE
tell release grep -E "^PRETTY_NAME=" /etc/os-release
file dt /proc/device-tree/model
file dt /sys/firmware/devicetree/base/model
file dmi /sys/devices/virtual/dmi/id/product_name
tell cpu grep -m 1 -E "^(Features|flags)" /proc/cpuinfo
tell cpu grep -m 1 -E "^model name" /proc/cpuinfo
tell cpu grep -E "^CPU (implementer|part)" /proc/cpuinfo
file present /sys/devices/system/cpu/present
tell online getconf _NPROCESSORS_ONLN
for f in /sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list; do file siblings "$f"; done
for f in /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor; do file governor "$f"; done
for f in /sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq; do file max_khz "$f"; done
for p in ro.product.manufacturer ro.product.model ro.soc.manufacturer ro.soc.model ro.product.cpu.abi ro.build.version.release \
ro.hardware ro.kernel.qemu ro.boot.qemu ro.edge.standin; do tell "$p" getprop "$p"; done
[ -e /etc/edge-standin ] && echo standin=1
printf "self="; head -c 200 "/proc/$$/cmdline" 2>/dev/null; echo
seen=:
for c in "$EDGE_PYTHON" python3 python3.13 python3.12 python3.11; do
case "$c" in "~/"*) c=$HOME/${c#??} ;; esac
p=$(command -v "$c" 2>/dev/null) || continue
r=$(readlink -f "$p" 2>/dev/null)
case "$seen" in *":$r:"*) continue ;; esac
seen=$seen$r:
echo "python=$("$p" -I -c "import sys; print(sys.version.split()[0], 64 if sys.maxsize > 2**32 else 32)" 2>/dev/null) $p"
done
d=${EDGE_FOLDER:-$HOME}
while [ -n "$d" ] && [ ! -d "$d" ]; do d=${d%/*}; done
tell df df -P -k "${d:-/}"
""".replace("\\\n", "")
VITALS_SCRIPT = f"{_HELPERS}echo {_BEGIN}\n{_VITALS}echo {_END}"
SCRIPT = f"{_HELPERS}echo {_BEGIN}\n{_FACTS}{_VITALS}echo {_END}"

# (implementer, part) of /proc/cpuinfo -> name, as Linux's arch/arm64/include/asm/cputype.h has them.
_ARM = {
    0xB76: "ARM1176", 0xC07: "Cortex-A7", 0xC0F: "Cortex-A15", 0xD03: "Cortex-A53", 0xD04: "Cortex-A35",
    0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72", 0xD09: "Cortex-A73", 0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77", 0xD40: "Neoverse-V1", 0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510", 0xD47: "Cortex-A710", 0xD48: "Cortex-X2",
    0xD49: "Neoverse-N2", 0xD4B: "Cortex-A78C", 0xD4C: "Cortex-X1C", 0xD4D: "Cortex-A715", 0xD4E: "Cortex-X3",
    0xD4F: "Neoverse-V2", 0xD80: "Cortex-A520", 0xD81: "Cortex-A720", 0xD82: "Cortex-X4", 0xD85: "Cortex-X925",
    0xD87: "Cortex-A725",
}  # fmt: skip
_QUALCOMM = {
    0x001: "Oryon", 0x800: "Kryo 2xx Gold", 0x801: "Kryo 2xx Silver", 0x802: "Kryo 3xx Gold", 0x803: "Kryo 3xx Silver",
    0x804: "Kryo 4xx Gold", 0x805: "Kryo 4xx Silver",
}  # fmt: skip
_PARTS = {0x41: _ARM, 0x51: _QUALCOMM}
_CPU_ZONE = re.compile(r"cpu|soc|core|pkg|bcm2835|big|mid|little", re.IGNORECASE)
_VIRTUAL = "linux,dummy-virt"  # the device tree's model in qemu's own machine
_NOW, _SINCE_BOOT = 0xF, 0xF0000  # of vcgencmd's get_throttled: under-voltage, capped, throttled, soft limit

ON_DEVICES = ("llama_server", "litert", "litert_lm", "litert_lm_chat", "onnxruntime")
_LSE = ("litert_lm", "litert_lm_chat")  # their library has LSE atomics in it and asks nobody
# What the smallest model takes there with the system beside it: no figure of a model, only what is hopeless below it.
_FLOOR_BYTES = {
    "llama_server": 200e6,
    "litert": 400e6,
    "onnxruntime": 400e6,
    "litert_lm": 700e6,
    "litert_lm_chat": 700e6,
}


class Python(NamedTuple):
    """An interpreter there."""

    path: str
    version: str
    bits: int


def parse_facts(text: str) -> dict[str, Any]:
    """What does not change by itself; `name` and `kind` are the caller's. Raises DeviceError for a text that was cut short.

    Besides the contract's: bits (of the userland: a Pi's 32-bit system may have a 64-bit kernel), libc ("glibc 2.36"),
    page_bytes, governor, max_clock_hz, python (version), soc and android (of a phone).
    """
    told = _read(text)
    first = {key: values[0] for key, values in told.items()}
    machine = first.get("machine")
    logical = _count(first.get("present")) or _number(first.get("online"))
    siblings = len(set(told.get("siblings", ())))
    interpreter = python(text)
    android = first.get("ro.build.version.release")
    return {
        "model": _model(first),
        "cpu": _cpu(told),
        "machine": machine,
        "cores": logical if _is_arm(machine) else siblings or logical,  # phones and Pis have one thread a core
        "logical_cores": logical,
        "memory_bytes": _memory(told, "MemTotal"),
        "os": _system(first, android),
        "features": _features(told),
        "emulated": _emulated(first),
        "bits": _number(first.get("bits")) or _bits_of(first.get("ro.product.cpu.abi")),
        "libc": first.get("libc"),
        "page_bytes": _number(first.get("page")),
        "governor": " ".join(sorted(set(told.get("governor", ())))) or None,
        "max_clock_hz": max((1e3 * float(k) for k in told.get("max_khz", ()) if k.isdigit()), default=None),
        "python": interpreter.version if interpreter else None,
        "soc": _joined(first.get("ro.soc.manufacturer"), first.get("ro.soc.model")),
        "android": android,
    }


def python(text: str, requires: str = ">=3.11,<3.14") -> Optional[Python]:
    """The interpreter to take: the first that the runtimes can use, else the first of all; None if there is none."""
    found = []
    for line in _read(text).get("python", ()):
        version, _, rest = line.partition(" ")
        bits, _, path = rest.partition(" ")
        if re.fullmatch(r"\d+\.\d+\.\d+\S*", version) and bits.isdigit() and path:
            found.append(Python(path, version, int(bits)))
    return next((p for p in found if SpecifierSet(requires).contains(p.version)), found[0] if found else None)


def free_of(lines: Sequence[str]) -> Optional[int]:
    """From what `df -P -k FOLDER` prints."""
    words = lines[-1].split() if lines else []
    return int(words[-3]) * 1024 if len(words) >= 6 and words[-3].isdigit() else None


def parse_vitals(text: str) -> dict[str, Any]:
    """edge.devices.VITALS; `power_w`, of the whole board now, which a Pi 5 tells instead of joules; `disk_free_bytes`.

    SCRIPT alone asks for the disk. temperature_c is the hottest of the processor's sensors, of a phone that hides them its
    battery's. clock_hz is the fastest core's. energy_j is a counter where there is one; a phone's charge counter is none: its
    steps are too coarse for a run, and on USB it charges.
    """
    told = _read(text)
    first = {key: values[0] for key, values in told.items()}
    clocks = [int(k) * 1e3 for k in told.get("khz", ()) if k.isdigit() and int(k)]
    energy = _number(first.get("rapl"))
    return {
        "load_average": _float(first.get("load", "").split(" ")[0]),
        "temperature_c": _temperature(told),
        "clock_hz": max(clocks, default=None),
        "throttled": _throttled(told),
        "throttled_since_boot": _throttled(told, _SINCE_BOOT),
        "energy_j": energy / 1e6 if energy else None,
        "available_bytes": _memory(told, "MemAvailable"),
        "power_w": _power(told),
        "disk_free_bytes": free_of(told.get("df", ())),
    }


def lacks(facts: dict[str, Any], runtime: str) -> Optional[str]:
    """Why a runtime can't run on a device with these facts, with the remedy; None if it can, as far as they tell.

    Of an adb device only llama_server runs without Python, a binary that adb.py knows.
    """
    if runtime not in ON_DEVICES:
        return "runs on this machine only; GGUF goes through llama_server on a device"
    if runtime == "llama_server":
        return _lacks_python(facts, ">=3.9") or _too_small(facts, runtime) or _lacks_runner(facts)
    if facts.get("kind") == "adb":
        return "needs Python, which Android has not; llama_server runs there"
    spec = environments.spec(environments.script(runtime))
    return (
        _lacks_wheels(facts, spec.platforms)
        or _lacks_atomics(facts, runtime)
        or _lacks_python(facts, spec.requires_python)
        or _too_small(facts, runtime)
    )


# --- why not ----------------------------------------------------------------------------------------------------------


def _lacks_wheels(facts: dict[str, Any], platforms: Sequence[str]) -> Optional[str]:
    machine = facts.get("machine")
    if facts.get("bits") == 32 or machine in ("armv7l", "armv6l", "armv8l", "i686"):
        return "a 32-bit system, for which there are no packages: install the 64-bit one (a Pi 3 and later can run it)"
    if machine and f"Linux {machine}" not in (platforms or ("Linux x86_64", "Linux aarch64")):
        return f"there are no packages of it for {machine}"
    if facts.get("python") and not facts.get("libc"):
        return "its packages need glibc, which this system has not (musl?): take Debian, Ubuntu or Raspberry Pi OS"
    return None


def _lacks_atomics(facts: dict[str, Any], runtime: str) -> Optional[str]:
    features = facts.get("features")
    if runtime in _LSE and _is_arm(facts.get("machine")) and features and "atomics" not in features:
        cpu = facts.get("cpu") or "this processor"
        return f"LiteRT-LM would die with SIGILL: {cpu} has no LSE atomics (a Pi 4 has not, a Pi 5 has); use llama_server or litert"
    return None


def _lacks_python(facts: dict[str, Any], requires: str) -> Optional[str]:
    if facts.get("kind") == "adb":
        return None
    version = facts.get("python")
    if not version:
        return 'no Python there: sudo apt install python3 (3.11 to 3.13), or name one in devices.toml: python = "/path"'
    if not SpecifierSet(requires).contains(version, prereleases=True):
        return f'its Python is {version}, and this needs {requires}: install one and name it in devices.toml: python = "/path"'
    return None


def _too_small(facts: dict[str, Any], runtime: str) -> Optional[str]:
    memory = facts.get("memory_bytes")
    if memory and memory < _FLOOR_BYTES[runtime]:
        return f"too little memory: {memory / 1e6:.0f} MB, and it takes {_FLOOR_BYTES[runtime] / 1e6:.0f} MB with the smallest model"
    return None


def _lacks_runner(facts: dict[str, Any]) -> Optional[str]:
    from edge.devices import runners

    system = "android" if facts.get("kind") == "adb" else "linux"
    try:
        runners.require(runners.class_of(set(facts.get("features") or ())), system=system)
    except MissingError as error:
        return f"{error.message}: {error.hint}"
    return None


# --- reading lines ----------------------------------------------------------------------------------------------------


def _read(text: str) -> dict[str, list[str]]:
    """Key -> values, in their order. NULs, of which the device tree has one, become spaces."""
    lines = [line.strip() for line in text.replace("\0", " ").splitlines()]
    if _BEGIN not in lines or _END not in lines:
        raise DeviceError(
            "the device's answer to the probe was cut short" + (f": {text.strip()[-200:]!r}" if text.strip() else ""),
            "try it again; if it stays so, run `sh -c true` there by hand",
        )
    told: dict[str, list[str]] = {}
    for line in lines[lines.index(_BEGIN) + 1 : lines.index(_END)]:
        key, mark, value = line.partition("=")
        if mark and value.strip():
            told.setdefault(key, []).append(value.strip())
    return told


def _number(text: Optional[str]) -> Optional[int]:
    return int(text) if text and text.isdigit() else None


def _float(text: Optional[str]) -> Optional[float]:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _count(ranges: Optional[str]) -> Optional[int]:
    """ "0-3,5" -> 5"""
    if not ranges or not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", ranges):
        return None
    pairs = [part.split("-") for part in ranges.split(",")]
    return sum(int(pair[-1]) - int(pair[0]) + 1 for pair in pairs)


def _is_arm(machine: Optional[str]) -> bool:
    return bool(machine) and str(machine).startswith(("aarch64", "arm"))


def _bits_of(abi: Optional[str]) -> Optional[int]:
    return None if not abi else 64 if "64" in abi else 32


def _joined(*words: Optional[str]) -> Optional[str]:
    return " ".join(w for w in words if w) or None


def _model(first: dict[str, str]) -> Optional[str]:
    maker, phone = first.get("ro.product.manufacturer"), first.get("ro.product.model")
    if phone:
        return phone if not maker or phone.lower().startswith(maker.lower()) else f"{maker} {phone}"
    return first.get("dt") or first.get("dmi")


def _system(first: dict[str, str], android: Optional[str]) -> Optional[str]:
    name = f"Android {android}" if android else re.sub(r'^PRETTY_NAME="?|"$', "", first.get("release", ""))
    return ", ".join(part for part in (name, first.get("uname")) if part) or None


def _cpu(told: dict[str, list[str]]) -> Optional[str]:
    """ "Cortex-A510 + Cortex-A715", each kind of core once, in the kernel's order; of x86 the model's name."""
    fields = [[part.strip() for part in line.split(":", 1)] for line in told.get("cpu", ()) if ":" in line]
    names: list[str] = []
    said, maker = None, 0  # Arm's kernels say "ARMv8 Processor" of every core
    for key, value in fields:
        if key == "model name":
            said = value
        elif key == "CPU implementer":
            maker = int(value, 16)
        elif key == "CPU part":
            part = int(value, 16)
            names.append(_PARTS.get(maker, {}).get(part, f"implementer {maker:#x} part {part:#x}"))
    return " + ".join(dict.fromkeys(names)) or said


def _features(told: dict[str, list[str]]) -> list[str]:
    found = [line.split(":", 1)[1] for line in told.get("cpu", ()) if line.startswith(("Features", "flags"))]
    return sorted(found[0].split()) if found else []


def _memory(told: dict[str, list[str]], field: str) -> Optional[int]:
    line = next((m for m in told.get("mem", ()) if m.startswith(f"{field}:")), "")
    words = line.split()
    return int(words[1]) * 1024 if len(words) > 1 and words[1].isdigit() else None


def _emulated(first: dict[str, str]) -> bool:
    """Marked as a stand-in, an Android emulator, qemu's own machine, or a shell that qemu runs."""
    return bool(
        first.get("standin")
        or first.get("ro.edge.standin") == "1"
        or first.get("ro.kernel.qemu") == "1"
        or first.get("ro.boot.qemu") == "1"
        or first.get("ro.hardware") in ("goldfish", "ranchu")
        or first.get("dt") == _VIRTUAL
        or re.search(r"(^|/)qemu-[a-z0-9_-]+( |$)", first.get("self", ""))
    )


def _temperature(told: dict[str, list[str]]) -> Optional[float]:
    zones = [z.rpartition(":") for z in told.get("zone", ())]
    found = [int(t) / 1e3 for kind, _, t in zones if _CPU_ZONE.search(kind) and re.fullmatch(r"-?\d+", t)]
    found += [float(m[1]) for line in told.get("vc", ()) if (m := re.match(r"temp=([\d.]+)", line))]
    if not found:  # "Temperature{mValue=38.6, mType=0, mName=CPU0, mStatus=0}"; 0 is the processor's
        heat = " ".join(told.get("thermal", ()))
        found = [float(v) for v in re.findall(r"mValue=([\d.]+), mType=0,", heat)]
    if not found:
        found = [int(m[1]) / 10 for line in told.get("battery", ()) if (m := re.match(r"temperature: (\d+)", line))]
    return max((t for t in found if 0 < t < 150), default=None)


def _throttled(told: dict[str, list[str]], bits: int = _NOW) -> Optional[bool]:
    for line in told.get("vc", ()):
        if m := re.match(r"throttled=0x([0-9a-fA-F]+)", line):
            return bool(int(m[1], 16) & bits)
    for line in told.get("thermal", ()) if bits == _NOW else ():  # a phone tells of now alone
        if m := re.match(r"Thermal Status: (\d+)", line):
            return int(m[1]) > 0
    return None


def _power(told: dict[str, list[str]]) -> Optional[float]:
    """Volts times amperes over the rails that a Pi 5's power chip has both of."""
    rails: dict[str, dict[str, float]] = {}
    for line in told.get("pmic", ()):
        if m := re.match(r"(\w+)_([AV]) (?:current|volt)\(\d+\)=([\d.]+)[AV]", line):
            rails.setdefault(m[1], {})[m[2]] = float(m[3])
    watts = [r["A"] * r["V"] for r in rails.values() if len(r) == 2]
    return round(sum(watts), 3) if watts else None
