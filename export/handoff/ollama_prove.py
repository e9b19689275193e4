"""Do this model's tools still work in this Ollama? A tuned GGUF loses them silently: `ollama create` keeps what the Modelfile says
and nothing else, and a model without renderer and parser answers in plain text.

    python3 prove.py [NAME] [--url http://127.0.0.1:11434] [--at-least N] [--json]

Asks for: the version; /api/show (renderer, parser, capabilities, stops, context, temperature); the prompt that Ollama writes,
where it tells; and real calls, through /api/chat with tools and through /api/generate with the prompt of the training, each held
against the call that was recorded of this file. Exits with 0 if the tools survived, 1 if not, 2 if Ollama can't be asked.
Python 3.9's standard library; proof.json and raw.py, which lie beside.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import re
import sys
import urllib.error
from pathlib import Path
from typing import Any, Optional

HERE = Path(__file__).resolve().parent
URL = "http://127.0.0.1:11434"
NAME = "functiongemma"
Json = dict[str, Any]


def _raw() -> Any:
    file = next(f for f in (HERE / "raw.py", HERE / "ollama_raw.py") if f.is_file())
    spec = importlib.util.spec_from_file_location("raw", str(file))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


raw = _raw()


class Proof:
    """What was seen: `wrong` speaks against the tools having survived, `notes` don't."""

    def __init__(self, told: Json, model: str, url: str) -> None:
        self.told, self.model, self.url = told, model, url
        self.wrong: list[str] = []
        self.notes: list[str] = []
        self.rows: list[Json] = []

    def run(self, at_least: Optional[int]) -> None:
        self._version()
        self._show()
        cases = self.told["cases"]
        try:
            self._prompt()
            self.rows += [self._case(case) for case in cases]
        except RuntimeError as error:  # such as "does not support tools"
            self.wrong.append(str(error))
            return
        asked = self.told["at_least"] if at_least is None else {"chat": at_least, "raw": at_least}
        self._judge({way: min(count, len(cases)) for way, count in asked.items()})

    def _version(self) -> None:
        version = str(raw.post(self.url, "/api/version", None, timeout_s=10).get("version", ""))
        least = str(self.told["minimum"])
        if re.match(r"\d", version) and _numbers(version) < _numbers(least):
            self.wrong.append(f"Ollama is {version}; the renderer {NAME} came with {least}: update it")
        self.notes.append(f"Ollama {version or 'of unknown version'}")

    def _show(self) -> None:
        shown = raw.post(self.url, "/api/show", {"model": self.model})
        for key in ("renderer", "parser"):
            if shown.get(key) != NAME:
                self.wrong.append(
                    f"its {key} is {shown.get(key) or 'not set'}, not {NAME}: create it again from this Modelfile"
                )
        # Ollama infers this from parser or template alone, so it is no proof; without it /api/chat refuses tools.
        if "tools" not in (shown.get("capabilities") or []):
            self.wrong.append(f'it has no capability "tools" ({", ".join(shown.get("capabilities") or []) or "none"})')
        given = _parameters(str(shown.get("parameters") or ""))
        lost = [s for s in self.told["stop"] if s not in given.get("stop", [])]
        if lost:
            self.wrong.append(f"its stops lack {' '.join(lost)}: it may go on after a call")
        for key in ("num_ctx", "temperature"):
            found, wanted = given.get(key, []), self.told["options"][key]
            if not found or float(found[0]) != float(wanted):
                self.wrong.append(f"its {key} is {found[0] if found else 'not set'}, not {wanted}")

    def _prompt(self) -> None:
        """Newer ones tell the prompt that they would write; older ones take no notice of the question."""
        for case in self.told["cases"][:1]:
            body = {"model": self.model, "messages": case["messages"], "tools": self.told["tools"], "stream": False,
                    "_debug_render_only": True}  # fmt: skip
            told = (raw.post(self.url, "/api/chat", body).get("_debug_info") or {}).get("rendered_template")
            if told is None:
                self.notes.append("this Ollama doesn't tell the prompt that it writes")
            elif told == case["prompt"]:
                self.notes.append("Ollama writes the prompt of the training, letter by letter")
            else:
                known = (
                    "as this folder expects"
                    if told == case["ollama_prompt"]
                    else "and otherwise than this folder expects"
                )
                self.notes.append(
                    f"Ollama writes another prompt than training did, {known}: {_part(case['prompt'], told)}"
                )

    def _case(self, case: Json) -> Json:
        body = {"model": self.model, "messages": case["messages"], "tools": self.told["tools"], "stream": False}
        message = raw.post(self.url, "/api/chat", body).get("message") or {}
        calls = [
            {"name": c["function"]["name"], "arguments": c["function"]["arguments"]}
            for c in message.get("tool_calls") or []
        ]
        body = {
            "model": self.model,
            "prompt": case["prompt"],
            "raw": True,
            "stream": False,
            "options": self.told["options"],
        }
        text = str(raw.post(self.url, "/api/generate", body).get("response", ""))
        return {"id": case["id"], "expected": case["expected"], "chat": calls, "chat_text": str(message.get("content", "")),
                "raw": raw.calls_in(text), "raw_text": text}  # fmt: skip

    def _judge(self, at_least: dict[str, int]) -> None:
        """at_least: how many recorded calls each way must bring back."""
        count = len(self.rows)
        if not count:
            self.wrong.append("no recorded calls came with this folder, so no call was tried")
            return
        if not any(r["chat"] for r in self.rows):
            spoken = any("<start_function_call>" in r["chat_text"] or r["raw"] for r in self.rows)
            why = "calls come as plain text: its parser is lost" if spoken else "none comes in raw mode either"
            self.wrong.append(f"/api/chat with tools returned no call for any question; {why}")
        right = {way: sum(same(r[way], r["expected"]) for r in self.rows) for way in ("chat", "raw")}
        self.notes.append(f"/api/chat: {right['chat']} of {count} calls as recorded; raw: {right['raw']} of {count}")
        if right["chat"] < right["raw"]:
            self.notes.append("Ollama's renderer costs calls here: raw.py is the way without it")
        for way, path in (("chat", "/api/chat"), ("raw", "/api/generate raw")):
            if right[way] < at_least[way]:
                self.wrong.append(
                    f"{path}: {right[way]} of {count} calls are as recorded, and {at_least[way]} are asked for"
                )


def same(got: list[Json], expected: list[Json]) -> bool:
    """Names in order, arguments equal as JSON has it: 1 is 1.0, and true is no 1."""
    return len(got) == len(expected) and all(
        g["name"] == e["name"] and _equal(g["arguments"], e["arguments"]) for g, e in zip(got, expected)
    )


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


def _parameters(text: str) -> dict[str, list[str]]:
    """Lines of a name and a value; strings as Go quotes them."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition(" ")
        value = value.strip()
        if value.startswith('"'):
            try:
                value = json.loads(value)
            except ValueError:
                value = value.strip('"')
        found.setdefault(name, []).append(value)
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version.partition("-")[0])[:3])


def _part(ours: str, theirs: str) -> str:
    at = next((n for n, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    return f"at letter {at}, training {ours[at : at + 40]!r}, Ollama {theirs[at : at + 40]!r}"


def main(argv: Optional[list[str]] = None) -> int:
    told = json.loads((HERE / "proof.json").read_text(encoding="utf-8"))
    options = argparse.ArgumentParser(description="Do this model's tools still work in this Ollama?")
    options.add_argument("name", nargs="?", default=told["model"])
    options.add_argument("--url", default=URL)
    options.add_argument(
        "--at-least",
        type=int,
        metavar="N",
        help="how many recorded calls must come back each way [default: all, or as proof.json has it]",
    )
    options.add_argument("--json", action="store_true", help="print everything that was seen as JSON")
    given = options.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # what this terminal's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    proof = Proof(told, given.name, given.url)
    try:
        proof.run(given.at_least)
    except (RuntimeError, OSError, ValueError) as error:
        why = str(error)
        if isinstance(error, urllib.error.URLError):
            why = f"nothing answers ({error.reason}): start Ollama there (`ollama serve`, or its app), or give its address: --url"
        print(json.dumps({"ok": False, "error": why}) if given.json else f"prove.py: {given.url}: {why}")
        return 2
    if given.json:
        print(json.dumps({"ok": not proof.wrong, "wrong": proof.wrong, "notes": proof.notes, "rows": proof.rows}))
        return 1 if proof.wrong else 0
    for line in proof.notes:
        print(line)
    for line in proof.wrong:
        print(f"WRONG: {line}")
    print("the tools did NOT survive" if proof.wrong else "the tools survived")
    return 1 if proof.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
