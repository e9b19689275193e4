"""Ask Ollama with the very prompt of the training, and read the calls from the text: /api/generate with "raw".

    python3 raw.py "Please grind 50 grams, finely." [--model NAME] [--url http://127.0.0.1:11434] [--system TEXT] [--show-prompt]

The one way without renderer skew: Ollama passes the prompt on as it is, and neither its renderer nor its parser takes part. `ask`
and `calls_in` are for your own code: they need prompt.json, which lies beside, and Python 3.9's standard library.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Optional

HERE = Path(__file__).resolve().parent
URL = "http://127.0.0.1:11434"
ESCAPE, OPEN, CLOSE = "<escape>", "<start_function_call>", "<end_function_call>"
STOPS = ("<end_of_turn>", "<start_function_response>", "<eos>")
_NAME = re.compile(r"[ \t\r\n]*call:[ \t\r\n]*([a-zA-Z_][a-zA-Z0-9_.-]*)[ \t\r\n]*\{")
_KEY, _WORD, _BLANK = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.-]*"), re.compile(r"[^,}\]]*"), " \t\r\n"
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?")


def prompt_for(text: str, system: Optional[str] = None) -> str:
    """What training wrote for these words. system: for models whose developer message changes, such as one with a date."""
    told = json.loads((HERE / "prompt.json").read_text(encoding="utf-8"))
    said = told["system"] if system is None else system.strip()
    return str(told["before_system"] + said + told["before_text"] + text.strip() + told["after_text"])


def ask(text: str, model: str, url: str = URL, system: Optional[str] = None) -> str:
    """What the model writes. Raises RuntimeError for what Ollama refuses, OSError if it isn't there."""
    options = json.loads((HERE / "prompt.json").read_text(encoding="utf-8"))["options"]
    body = {"model": model, "prompt": prompt_for(text, system), "raw": True, "stream": False, "options": options}
    return str(post(url, "/api/generate", body).get("response", ""))


def post(url: str, path: str, body: Optional[dict[str, Any]], timeout_s: float = 300) -> dict[str, Any]:
    """Raises RuntimeError for what Ollama refuses, and for what is no answer of Ollama's; OSError if nothing is there."""
    try:
        data = None if body is None else json.dumps(body).encode()  # without one it is a GET
        request = urllib.request.Request(url.rstrip("/") + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            told = json.loads(answer.read())
            if not isinstance(told, dict):
                raise ValueError("its answer is no JSON object")
            return told
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{path}: {error.code}: {error.read().decode('utf-8', 'replace')[:500]}") from None
    except (ValueError, http.client.HTTPException) as error:
        raise RuntimeError(f"{url}{path}: this is not Ollama: {error}") from None


# --- FunctionGemma's calls -----------------------------------------------------------------------------------------------


def calls_in(text: str) -> list[dict[str, Any]]:
    """[{"name", "arguments"}] in the order in which they stand; one that is cut short or malformed is left out."""
    found: list[dict[str, Any]] = []
    at = 0
    while True:
        start = text.find(OPEN, at)
        if start < 0:
            return found
        at = start + len(OPEN)
        head = _NAME.match(text, at)
        if head:
            try:
                arguments, at = _object(text, head.end())
                _end(text, at)
                found.append({"name": head[1], "arguments": arguments})
            except (ValueError, RecursionError):
                continue


def _end(text: str, at: int) -> None:
    """Behind the closing brace: the end tag, which a stop token may have eaten. Raises ValueError for anything else."""
    at = _blank(text, at)
    if at < len(text) and not text.startswith((CLOSE, OPEN, *STOPS), at):
        raise ValueError("more behind the closing brace")


def _object(text: str, at: int) -> tuple[dict[str, Any], int]:
    """What stands between braces, and where it ends; `at` is behind the opening one."""
    found: dict[str, Any] = {}
    at = _blank(text, at)
    while not text.startswith("}", at):
        if text.startswith(ESCAPE, at):
            key, at = _string(text, at)
        else:
            name = _KEY.match(text, at)
            if not name:
                raise ValueError("no key")
            key, at = name.group(), name.end()
        at = _blank(text, at)
        if not text.startswith(":", at):
            raise ValueError("no colon")
        value, at = _value(text, _blank(text, at + 1))
        found.setdefault(key, value)
        at = _next(text, at, "}")
    return found, at + 1


def _list(text: str, at: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    at = _blank(text, at)
    while not text.startswith("]", at):
        value, at = _value(text, at)
        found.append(value)
        at = _next(text, at, "]")
    return found, at + 1


def _next(text: str, at: int, end: str) -> int:
    at = _blank(text, at)
    if text.startswith(",", at):
        at = _blank(text, at + 1)
        if text.startswith(end, at):
            raise ValueError("a comma too many")
        return at
    if not text.startswith(end, at):
        raise ValueError("neither comma nor end")
    return at


def _value(text: str, at: int) -> tuple[Any, int]:
    if text.startswith(ESCAPE, at):
        return _string(text, at)
    if text.startswith("{", at):
        return _object(text, at + 1)
    if text.startswith("[", at):
        return _list(text, at + 1)
    bare = _WORD.match(text, at)
    stop = bare.end() if bare else at
    word = text[at:stop].strip(_BLANK)
    if not word or ESCAPE in word:
        raise ValueError("no value")
    known = {"true": True, "false": False, "null": None, "None": None}
    if word in known:
        return known[word], stop
    number = json.loads(word) if _NUMBER.fullmatch(word) else None
    return (word if number is None or number in (float("inf"), float("-inf")) else number), stop


def _string(text: str, at: int) -> tuple[str, int]:
    start = at + len(ESCAPE)
    end = text.find(ESCAPE, start)
    if end < 0:
        raise ValueError("a string without an end")
    return text[start:end], end + len(ESCAPE)


def _blank(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _BLANK:
        at += 1
    return at


def main() -> int:
    told = json.loads((HERE / "prompt.json").read_text(encoding="utf-8"))
    options = argparse.ArgumentParser(description="Ask Ollama with the prompt of the training (raw).")
    options.add_argument("text")
    options.add_argument("--model", default=told["model"])
    options.add_argument("--url", default=URL)
    options.add_argument("--system", help="the developer message, if it changes from request to request")
    options.add_argument("--show-prompt", action="store_true")
    given = options.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):  # what this terminal's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    if given.show_prompt:
        print(prompt_for(given.text, given.system), file=sys.stderr)
    try:
        text = ask(given.text, given.model, given.url, given.system)
    except urllib.error.URLError as error:
        print(f"raw.py: nothing answers at {given.url} ({error.reason}): start Ollama there (`ollama serve`, or its app; then once "
              "`sh create.sh`), or give its address: --url", file=sys.stderr)  # fmt: skip
        return 1
    except (RuntimeError, OSError) as error:
        print(f"raw.py: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"calls": calls_in(text), "text": text}, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
