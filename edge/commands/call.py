"""`edge call`: one sentence to any artifact, and the call that comes of it. The library is `edge/call.py`."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.bench.runtimes import COMPARES, READS
from edge.commands.options import AS_JSON, QUIET, together

if TYPE_CHECKING:
    from edge import call as calling
    from edge.console import Console
    from edge.dialects import Tool
    from edge.signatures import Function

Json = dict[str, Any]
_PATH = click.Path(path_type=Path)
_SHOWN = 200  # characters of an answer that can't be read
RUNTIMES = tuple(
    dict.fromkeys([*(name for names in READS.values() for name in names), *COMPARES.values(), "transformers"])
)
# What `edge serve` takes as well.
ASKING = together(
    click.option("--runtime", metavar="NAME", help=f"{', '.join(RUNTIMES)} [default: the first that runs the format here]."),
    click.option("--system", metavar="TEXT", help="What the developer's turn says before the tools, if the messages have none "
                 "[default: the project's, else the family's]."),
    click.option("--dialect", help="functiongemma, hermes, … [default: what the artifact's manifest or vocabulary says]."),
    click.option("--tokenizer", type=_PATH, help="Of a bare .tflite: its checkpoint's folder, or a file."),
    click.option("--context", type=click.IntRange(64), metavar="N",
                 help="Tokens of prompt and answer together [default: the project's, or 2048; never more than the artifact's]."),
    click.option("--max-tokens", type=click.IntRange(1), metavar="N", help="Longest answer [default: the project's, or 256]."),
    click.option("--threads", type=click.IntRange(1), metavar="N", help="Of the CPU [default: the physical cores, at most 4]."),
)  # fmt: skip


@click.command("call")
@click.argument("sentence")
@click.option("--artifact", required=True, metavar="FILE",
              help=".gguf, .litertlm, .task, .tflite, an ONNX or checkpoint's folder, or edge-tiny.")  # fmt: skip
@click.option("--tools", "tools_file", type=_PATH, metavar="FILE",
              help="What it may call: .py (runs), .json, .jsonl [default: the tools of the project that FILE lies in].")  # fmt: skip
@click.option(
    "--execute", is_flag=True, help="Run the function of tools.py that is called, and tell the model what it returned."
)
@click.option("--turns", type=click.IntRange(1), default=4, show_default=True, metavar="N",
              help="With --execute: how many times the model may speak.")  # fmt: skip
@click.option("--show-prompt", is_flag=True, help="Print the prompt exactly as it is fed.")
@click.option("--show-ids", is_flag=True, help="Print token ids: the prompt's and the answer's.")
@click.option("--raw", is_flag=True, help="Print what the model wrote, special tokens included.")
@ASKING
@AS_JSON
@QUIET
def call(
    sentence: str,
    artifact: str,
    tools_file: Path | None,
    execute: bool,
    turns: int,
    show_prompt: bool,
    show_ids: bool,
    raw: bool,
    as_json: bool,
    quiet: bool,
    **asking: Any,
) -> None:
    """Ask an artifact for the calls that SENTENCE (- for standard input) means, and print them, one a line.

    Texts are in quotes, numbers, True, False and None are not. Times and progress go to standard error.

    With --execute the functions in tools.py run, one call after the other, and the model speaks again with what they
    returned, until it calls nothing or has spoken --turns times. What a function raises is shown, and told to the model
    as {"error": …}. If one call of an answer is not sound, none of that answer is run.

    Exits with 1 if a call can't be read, names no declared tool, lacks an argument or has one of the wrong type, or if a
    function raised.

    \b
    edge call "two lattes, please" --artifact app/build/artifacts/app-q8_0.gguf
    edge call "call Ada" --artifact edge-tiny --tools tools.py --execute
    echo "what's the weather in Oslo?" | edge call - --artifact app.litertlm --tools tools.json --show-prompt --show-ids --raw
    """
    from edge import call as calling
    from edge.console import Console
    from edge.devices.local import Local

    said = _sentence(sentence)
    with Console(quiet) as console:
        target = calling.find(artifact, **asking, lacks=Local().lacks)
        for note in target.notes:
            console.say(f"warning: {note}")
        file = tools_file or _project_tools(target)
        with (
            read_tools(file, execute, target.dialect, console) as (declared, functions),
            calling.Session(target, console) as session,
        ):
            show = _Show(session, show_prompt, show_ids, raw, as_json, quiet)
            messages = [{"role": "user", "content": said}]
            for step in calling.converse(session, messages, declared, functions, turns):
                show.step(step)
            show.end(turns)
    if show.failed:
        raise click.exceptions.Exit(1)


def _sentence(given: str) -> str:
    said = (sys.stdin.read() if given == "-" else given).strip()
    if not said:
        raise click.UsageError("the sentence is empty")
    return said


def _project_tools(target: calling.Target) -> Path:
    from edge.errors import EdgeError

    if target.project is None:
        raise EdgeError(
            f"{target.subject.path}: lies in no project, so its tools are not known", "name them: --tools FILE"
        )
    return target.project.tools


@contextlib.contextmanager
def read_tools(
    file: Path, execute: bool, dialect: str, console: Console
) -> Iterator[tuple[list[Tool], dict[str, Function] | None]]:
    """The declarations, and with `execute` the functions behind them. What can't be declared is refused."""
    from edge import dialects, tools
    from edge.errors import EdgeError

    if file.suffix == ".py" and file.is_file():
        console.say(f"importing {file} (it runs{', and so do its functions' if execute else ''})")
    with contextlib.ExitStack() as stack:
        functions: dict[str, Function] | None = None
        if execute:
            box, functions = stack.enter_context(tools.running(file))
            lacking = [t["function"]["name"] for t in box.tools if t["function"]["name"] not in functions]
            if lacking:
                raise EdgeError(
                    f"{file}: {', '.join(lacking)}: declared without a function to run", "leave --execute out"
                )
        else:
            box = tools.load(file)
        found = tools.check(box, dialects.get(dialect))
        for finding in found:
            if finding.level == "error":
                raise EdgeError(f"{file}: {finding}", "change the declaration: this model can't be told about it")
        if found:
            console.say(f"{len(found)} warnings about the tools: edge tools {file}")
        yield box.tools, functions


class _Show:
    """Results to standard output, figures to standard error; all at the end as JSON."""

    def __init__(
        self,
        session: calling.Session,
        prompt: bool,
        ids: bool,
        raw: bool,
        as_json: bool,
        quiet: bool,
    ) -> None:
        self._session = session
        self._prompt, self._ids, self._raw, self._json, self._quiet = prompt, ids, raw, as_json, quiet
        self._turns: list[Json] = []
        self._called = False
        self.failed = False

    def step(self, step: calling.Turn | calling.Ran) -> None:
        from edge import call as calling

        if isinstance(step, calling.Turn):
            self._turn(step)
        else:
            self._ran(step)

    def end(self, turns: int) -> None:
        if self._called and len(self._turns) == turns:
            self._say(f"stopped after {turns} turns (--turns)")
        if self._json:
            target, facts = self._session.target, self._session.facts
            click.echo(json.dumps({
                "artifact": str(target.subject.path), "format": target.subject.format, "dialect": target.dialect,
                "runtime": target.settings.runtime, "runtime_version": facts.get("runtime_version"),
                "load_s": facts.get("load_s"), "ok": not self.failed, "turns": self._turns,
            }, ensure_ascii=False, indent=1))  # fmt: skip

    def _turn(self, turn: calling.Turn) -> None:
        from edge import call as calling

        self._called = False
        prompt_ids = self._session.ids(turn.prompt) if self._ids else None
        ids = (self._again(turn.raw) if turn.ids is None else turn.ids) if self._ids else None
        self._turns.append(self._record(turn, prompt_ids, ids))
        self.failed = self.failed or bool(turn.problems)
        if not self._json:
            self._section(self._prompt, "prompt", self._fed(turn))
            self._section(self._ids, "ids of the prompt", _numbers(prompt_ids))
            again = "" if turn.ids else ", its text tokenised again"
            self._section(self._ids, f"ids of the answer{again}", _numbers(ids))
            self._section(self._raw, "raw", turn.raw)
            if self._prompt or self._ids or self._raw:
                click.echo("--- calls")
            for one in turn.calls:
                click.echo(calling.written(one))
            if turn.parsed.text.strip():
                click.echo(turn.parsed.text.strip())
        self._comment(turn)

    def _again(self, text: str) -> list[int] | None:
        """An answer's text as tokens, without the start token that some runtimes put before every text."""
        found, start = self._session.ids(text), self._session.ids("")
        return found[len(start) :] if found and start and found[: len(start)] == start else found

    def _comment(self, turn: calling.Turn) -> None:
        """What is wrong, what is odd, and what it took."""
        for problem in turn.problems:
            click.echo(f"wrong: {problem}", err=True)
        if turn.parsed.errors and not (self._raw or self._json):
            click.echo(f"       it wrote: {_shortened(turn.raw)}", err=True)
        if not turn.calls and not turn.raw.strip():
            self._say("it wrote nothing")
        for note in turn.parsed.notes:
            self._say(f"note: {note}")
        if turn.sample.stop == "length":
            self._say(f"cut off after {turn.sample.completion_tokens} tokens: --max-tokens, --context")
        self._say(_times(turn, self._session.facts.get("load_s") if len(self._turns) == 1 else None))

    def _ran(self, ran: calling.Ran) -> None:
        self._called = True
        told = {"name": ran.call.name, "result": ran.result.value, "error": ran.result.error}
        self._turns[-1].setdefault("results", []).append(told)
        self.failed = self.failed or bool(ran.result.error)
        if ran.result.error:
            click.echo(f"{ran.call.name} raised {ran.result.error} ({ran.result.where}); the model is told", err=True)
        elif not self._json:
            click.echo(f"→ {json.dumps(ran.result.value, ensure_ascii=False)}")

    def _fed(self, turn: calling.Turn) -> str:
        if self._session.target.settings.runtime != "litert_lm_chat":
            return turn.prompt
        return "(LiteRT-LM writes it itself: edge prompt show --target litert_lm)"

    def _record(self, turn: calling.Turn, prompt_ids: list[int] | None, ids: list[int] | None) -> Json:
        s = turn.sample
        asked: Json = {"prompt": turn.prompt} if self._prompt else {}
        asked |= {"prompt_ids": prompt_ids, "ids": ids} if self._ids else {}
        return {
            "calls": [one.to_json() for one in turn.calls], "text": turn.parsed.text, "problems": turn.problems,
            "notes": turn.parsed.notes, "raw": turn.raw, "stop": s.stop, "prompt_tokens": s.prompt_tokens,
            "completion_tokens": s.completion_tokens, "first_token_s": s.first_token_s, "call_s": s.call_s, "seconds": turn.seconds,
            **asked,
        }  # fmt: skip

    def _section(self, wanted: bool, title: str, text: str) -> None:
        if wanted:
            click.echo(f"--- {title}\n{text}")

    def _say(self, text: str) -> None:
        if not self._quiet:
            click.echo(text, err=True)


def _shortened(text: str) -> str:
    """A runaway answer goes on until --max-tokens; its beginning says what it is."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters; --raw prints them all)"


def _numbers(ids: list[int] | None) -> str:
    return "(not told by this runtime)" if ids is None else f"{' '.join(map(str, ids))}  ({len(ids)})"


def _times(turn: calling.Turn, load_s: float | None) -> str:
    """What is known of it: the runtime's own word before the clock outside."""
    s = turn.sample
    parts = [
        ("load", load_s),
        (f"first token of {s.prompt_tokens} prompt tokens", s.first_token_s),
        (f"call of {s.completion_tokens} tokens", turn.seconds if s.call_s is None else s.call_s),
    ]
    return ", ".join(f"{what.replace('None ', '')} {seconds:.3f} s" for what, seconds in parts if seconds is not None)
