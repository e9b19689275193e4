"""Ollama: a Modelfile that keeps the tools, a script that creates the model and proves that it did, and two clients.

From Ollama's sources (commit fb30760, August 2026: parser/parser.go, server/create.go, server/routes.go, model/renderers and
model/parsers/functiongemma.go). `ollama create` from a GGUF sets neither renderer nor parser for this family, so a model that is
created without them loses its tools and says nothing about it. Not run against a real Ollama: the scripts were tested against
a server that answers as Ollama's sources say (tests/test_handoff_ollama.py).
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from edge import renderers
from edge.dialects import Message
from edge.errors import EdgeError
from edge.export.handoff import Job
from edge.records import Json

FORMATS: tuple[str, ...] = ("gguf",)
RENDERS: str | None = "ollama"
ASSET = "{file}"
DIALECTS = ("functiongemma",)
NAME = "functiongemma"  # of renderer and parser, in Ollama
MINIMUM = "0.13.5"
CONTEXT = 4096  # tokens at most: Ollama reserves memory for all of them
CASES = 5
SCRIPTS = {"prove.py": "ollama_prove.py", "chat.py": "ollama_chat.py", "raw.py": "ollama_raw.py"}
_HERE = Path(__file__).parent
_SYSTEM, _TEXT = "What the developer says stands here.", "What the user says stands here."


def files(job: Job) -> dict[str, str]:
    """Raises EdgeError for a licence notice or a tool that Ollama can't be given."""
    _refuse_types(job)
    model, options = model_name(job), {"temperature": 0, "num_ctx": context(job), "num_predict": job.max_tokens}
    cases = _cases(job)
    stop = {"stop": job.stop_tokens}
    skew = any(
        s["differ"] for s in job.contract["prompt"]["served"]
    )  # then calls may be lost, and somebody has accepted it
    proof = {"model": model, "minimum": MINIMUM, "renderer": NAME, "parser": NAME, "options": {**options, **stop},
             "stop": job.stop_tokens, "at_least": {"chat": 0 if skew else len(cases), "raw": len(cases)},
             "tools": job.tools, "cases": cases}  # fmt: skip
    texts = {
        "Modelfile": modelfile(job),
        "create.sh": _CREATE.replace("MODEL", model),
        "tools.json": _json({"model": model, "system": job.system, "tools": job.tools}),
        "prompt.json": _json({"model": model, **_parts(job), "options": {**options, **stop}}),
        "proof.json": _json(proof),
        "README.md": _readme(job, model, len(cases)),
    }
    return {**texts, **{name: (_HERE / source).read_text(encoding="utf-8") for name, source in SCRIPTS.items()}}


def check(folder: Path, job: Job) -> list[str]:
    """The Modelfile as Ollama's own reader takes it: commands, quotes, and what it must say."""
    wrong = []
    try:
        told = read_modelfile((folder / "Modelfile").read_text(encoding="utf-8"))
    except ValueError as error:
        return [f"Modelfile: {error}"]
    for command in ("renderer", "parser"):
        if told.get(command) != [NAME]:
            wrong.append(f"Modelfile: {command} is {told.get(command)}")
    if told.get("stop") != job.stop_tokens:
        wrong.append(f"Modelfile: its stops are {told.get('stop')}")
    source = folder / str(told.get("from", [""])[0])
    if not source.is_file():
        wrong.append(f"Modelfile: FROM names {source.name}, which is not there")
    if told.get("license", []) != job.contract["notices"]:
        wrong.append("Modelfile: its LICENSE is not the contract's notices")
    for name in SCRIPTS:
        compile((folder / name).read_text(encoding="utf-8"), name, "exec")
    return wrong


def steps(job: Job) -> list[str]:
    return [
        f"copy the folder to where Ollama {MINIMUM} or newer runs, and check it: python3 verify.py",
        "sh create.sh: creates the model and proves that its tools survived",
        "call it as chat.py does (/api/chat with tools), or as raw.py does (the prompt of the training, no renderer between)",
    ]


def model_name(job: Job) -> str:
    """As Ollama takes names: lower case, letters, digits, dot, dash, underscore."""
    return re.sub(r"[^a-z0-9._-]+", "-", job.name.lower()).strip("-._")[:80] or "model"


def context(job: Job) -> int:
    return min(job.context_tokens, CONTEXT)


# --- the Modelfile ------------------------------------------------------------------------------------------------------


def modelfile(job: Job) -> str:
    """Values in Ollama's quotes, which know no escapes. Raises EdgeError for a notice that can't be quoted."""
    lines = [
        f"# {job.name}: written by edge, from what contract.json says. Creating it without RENDERER and PARSER loses the tools.",
        f"FROM ./{job.artifact.name}",
        f"RENDERER {NAME}",
        f"PARSER {NAME}",
        *(f'PARAMETER stop "{token}"' for token in job.stop_tokens),
        f"PARAMETER num_ctx {context(job)}",
        f"PARAMETER num_predict {job.max_tokens}",
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1",
        *(f"LICENSE {_quoted(notice)}" for notice in job.contract["notices"]),
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    if '"""' in text or text.endswith('"'):
        raise EdgeError(
            f"a Modelfile can't hold this notice, since it knows no escapes: {text[:60]!r}",
            'write it without """, and not ending in a quotation mark',
        )
    return f'"""{text}"""'


def read_modelfile(text: str) -> dict[str, list[str]]:
    """Commands in lower case, a parameter under its own name, with their values. As parser/parser.go reads: comments, quotes, three
    quotes over several lines. Raises ValueError."""
    found: dict[str, list[str]] = {}
    at = 0
    pattern = re.compile(
        r'[ \t]*(?:#[^\n]*|([A-Za-z]+)[ \t]+(?:("""(.*?)""")|("([^"\n]*)")|([^\n]*)))?[ \t]*(?:\n|$)', re.S
    )
    while at < len(text):
        match = pattern.match(text, at)
        if not match or match.end() == at:
            raise ValueError(f"not read at {text[at : at + 40]!r}")
        at = match.end()
        if match[1]:
            name, value = match[1].lower(), next(v for v in (match[3], match[5], match[6], "") if v is not None)
            if name not in ("from", "renderer", "parser", "parameter", "license", "template", "system"):
                raise ValueError(f"no command {match[1]}")
            if name == "parameter":
                name, _, value = value.strip().partition(" ")
                value = value.strip().strip('"')
            found.setdefault(name, []).append(value if match[3] is not None else value.strip())
    return found


# --- what clients need --------------------------------------------------------------------------------------------------


def _refuse_types(job: Job) -> None:
    """Ollama drops a declaration's `parameters` that are no object, and calls come back for another tool than was declared."""
    for tool in job.tools:
        kind = str((tool["function"].get("parameters") or {}).get("type", "object")).lower()
        if kind != "object":
            raise EdgeError(
                f"{tool['function']['name']}: its parameters are of type {kind}", "declare an object of parameters"
            )


def _parts(job: Job) -> Json:
    """The prompt of the training, cut where the developer's and the user's words stand."""
    start: list[Message] = [{"role": "developer", "content": _SYSTEM}]
    prompt = renderers.prompt(job.renderer, job.dialect, [*start, {"role": "user", "content": _TEXT}], job.tools)
    before, found, rest = prompt.partition(_SYSTEM)
    if not found:  # a renderer that leaves the developer's words out
        before, rest = "", prompt
    between, _, after = rest.partition(_TEXT)
    return {
        "before_system": before,
        "system": job.system.strip() if found else "",
        "before_text": between,
        "after_text": after,
    }


def _cases(job: Job) -> list[Json]:
    """Questions of one turn, one for each tool first, with the prompt as training wrote it and as Ollama is expected to."""
    found: list[Json] = []
    rest: list[Json] = []
    for case in job.options.get("cases", []):
        roles = [m["role"] for m in case["messages"]]
        if roles[-1:] != ["user"] or len([r for r in roles if r == "user"]) > 1 or not case.get("expected"):
            continue
        messages = [
            {"role": "system" if m["role"] == "developer" else m["role"], "content": m["content"]}
            for m in case["messages"]
        ]
        made = {
            "id": case["id"], "messages": messages, "expected": case["expected"],
            "prompt": renderers.prompt(job.renderer, job.dialect, case["messages"], job.tools),
            "ollama_prompt": renderers.get("ollama").render(case["messages"], job.tools, ""),
        }  # fmt: skip
        names = {c["name"] for c in case["expected"]}
        (rest if any(names <= {c["name"] for c in f["expected"]} for f in found) else found).append(made)
    return [*found, *rest][:CASES]


def _json(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


_CREATE = """#!/bin/sh
# Creates MODEL in Ollama and proves that its tools survived: sh create.sh [NAME]
set -eu
cd "$(dirname "$0")"
name="${1:-MODEL}"
python3 verify.py .
ollama create "$name" -f Modelfile
exec python3 prove.py "$name"
"""


def _readme(job: Job, model: str, cases: int) -> str:
    served = next((s for s in job.contract["prompt"]["served"] if s["renderer"] == "ollama"), None)
    skew = "It writes the prompts of the training." if served and not served["differ"] else (
        f"**It writes {served['differ']} of {served['rows']} prompts otherwise than training did** ({', '.join(served['classes'])})."
        if served else "How it writes this model's prompts was not compared.")  # fmt: skip
    dropped = _dropped(job.tools)
    loses = f"\n- Of these tools the model is not told: {', '.join(dropped)}." if dropped else ""
    notices = "\n".join(f"> {n}" for n in job.contract["notices"]) or "> No terms of others are known."
    strict = "It exits with 1 and says what is lost if they don't come back."
    if served and served["differ"]:
        strict = ("The raw ones must come back, or it exits with 1; those through `/api/chat` are counted, since other prompts were\n"
                  "accepted for it (`--at-least N` asks for more), and must be calls at all.")  # fmt: skip
    return _README.format(
        model=model, file=job.artifact.name, skew=skew, loses=loses, notices=notices, minimum=MINIMUM, strict=strict,
        question=f"{cases} question{'s' if cases != 1 else ''}",
        context=context(job), digest=job.record.digest,
    )  # fmt: skip


def _dropped(tools: list[Json]) -> list[str]:
    """Enums, items and nested properties: what Ollama's renderer leaves out of a declaration."""
    found = []
    for tool in tools:
        for name, schema in ((tool["function"].get("parameters") or {}).get("properties") or {}).items():
            lost = [word for word in ("enum", "items", "properties") if schema.get(word)]
            found += [f"`{tool['function']['name']}.{name}` ({', '.join(lost)})"] * bool(lost)
    return found


_README = """# {model} in Ollama

A small model that turns a sentence into calls of your functions. `contract.json` says what it was proven to do, `report.html` shows it.

```
python3 verify.py        # are all files as they were handed over?
sh create.sh             # ollama create, then a proof that the tools survived
python3 chat.py "…"      # /api/chat with tools
python3 raw.py "…"       # /api/generate with the prompt of the training
```

Needs Ollama {minimum} or newer and Python 3.9. **The scripts here were not run against a real Ollama**, only against a
server that answers as its sources (August 2026) say; `prove.py` is what tells on your machine.

## What `create.sh` proves

`ollama create` takes a GGUF without a word and, for this family, without its tools unless the Modelfile names RENDERER
and PARSER. So `prove.py` asks `/api/show` for renderer, parser, capabilities, stops, context ({context} tokens) and temperature,
asks for the prompt that Ollama would write, and puts {question} to the model through both ways below, whose calls were
recorded before. {strict}
The capability "tools" alone proves nothing: Ollama infers it from the parser's name.

## Two ways to call it

- **`/api/chat` with `tools`** (`chat.py`): Ollama's renderer writes the prompt, its parser reads the calls. {skew}
  It puts the sentence "You can do function calling with the following functions:" behind the developer message, sorts
  properties by bytes, and drops `enum`, `items` and nested properties; a tool's result goes in without a key.{loses}
- **`/api/generate` with `raw`** (`raw.py`, `prompt.json`): the prompt of the training, as it is, and the calls read from the text. No
  renderer between, so no skew. A function to build the prompt and one to read the calls are in `raw.py`.

Send the developer message of the training either way (`tools.json`): it switches function calling on.

## Limits

- `ollama run {model}` on the command line sends text without tools: it shows that the model loads, not that it calls.
- A call whose end is cut off is lost in `/api/chat` without a word; `done_reason` is then "length".
- Changing SYSTEM, TEMPLATE, stops or temperature changes what was measured. `ollama create` from this model (FROM {model}) keeps
  renderer and parser; from the GGUF alone it does not.

`{file}`, sha256 `{digest}`.

## Terms

{notices}
"""
