"""Ask Ollama through /api/chat with tools: its renderer writes the prompt, its parser reads the calls.

    python3 chat.py "Please grind 50 grams, finely." [--model NAME] [--url http://127.0.0.1:11434] [--system TEXT]

Python 3.9's standard library and tools.json, which lies beside. What Ollama's renderer does otherwise than training did
stands in README.md; raw.py is the way around it.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Optional

HERE = Path(__file__).resolve().parent
URL = "http://127.0.0.1:11434"


def chat(messages: list[dict[str, Any]], model: str, url: str = URL, timeout_s: float = 300) -> dict[str, Any]:
    """The model's message: {"role", "content", "tool_calls": [{"function": {"name", "arguments"}}]}.

    Raises RuntimeError for what Ollama refuses, and for what is no answer of Ollama's; OSError if nothing is there.
    """
    tools = json.loads((HERE / "tools.json").read_text(encoding="utf-8"))["tools"]
    try:
        body = json.dumps({"model": model, "messages": messages, "tools": tools, "stream": False}).encode()
        request = urllib.request.Request(url.rstrip("/") + "/api/chat", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return dict(json.loads(answer.read())["message"])
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"/api/chat: {error.code}: {error.read().decode('utf-8', 'replace')[:500]}") from None
    except (ValueError, TypeError, KeyError, http.client.HTTPException) as error:  # not of Ollama's form
        raise RuntimeError(f"{url}/api/chat: this is not Ollama: {error!r}") from None


def conversation(text: str, system: Optional[str] = None) -> list[dict[str, Any]]:
    """The developer message of the training, without which the model may call nothing, and the user's words."""
    told = json.loads((HERE / "tools.json").read_text(encoding="utf-8"))
    said = told["system"] if system is None else system
    return [{"role": "system", "content": said}, {"role": "user", "content": text}]


def answer_with(message: dict[str, Any], results: list[Any]) -> list[dict[str, Any]]:
    """What is sent next: the model's calls, and what your functions returned for them, in their order."""
    calls = message.get("tool_calls") or []
    return [message, *({"role": "tool", "tool_name": call["function"]["name"],
                        "content": result if isinstance(result, str) else json.dumps(result)}
                       for call, result in zip(calls, results))]  # fmt: skip


def main() -> int:
    told = json.loads((HERE / "tools.json").read_text(encoding="utf-8"))
    options = argparse.ArgumentParser(description="Ask Ollama through /api/chat with tools.")
    options.add_argument("text")
    options.add_argument("--model", default=told["model"])
    options.add_argument("--url", default=URL)
    options.add_argument("--system", help="the developer message, if it changes from request to request")
    given = options.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):  # what this terminal's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        message = chat(conversation(given.text, given.system), given.model, given.url)
    except urllib.error.URLError as error:
        print(f"chat.py: nothing answers at {given.url} ({error.reason}): start Ollama there (`ollama serve`, or its app; then once "
              "`sh create.sh`), or give its address: --url", file=sys.stderr)  # fmt: skip
        return 1
    except (RuntimeError, OSError) as error:
        print(f"chat.py: {error}", file=sys.stderr)
        return 1
    calls = [call["function"] for call in message.get("tool_calls") or []]
    print(json.dumps({"calls": [{"name": c["name"], "arguments": c["arguments"]} for c in calls],
                      "text": message.get("content", "")}, ensure_ascii=False))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
