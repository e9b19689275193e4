"""`edge serve`: an artifact behind OpenAI's chat completions, for an app under development. The library is `edge/serve/`."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.commands.call import ASKING
from edge.commands.options import QUIET
from edge.errors import EdgeError

if TYPE_CHECKING:
    from edge.call import Target
    from edge.console import Console
    from edge.dialects import Tool

_UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


class Size(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases only
    """Bytes: 65536, 64KB, 1.5MB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)b?", str(value).strip().lower())
        size = int(float(match[1]) * _UNITS[match[2]]) if match else 0
        if size < 1:
            self.fail(f"{value!r} is no size such as 65536, 64KB or 1MB", param, context)
        return size


@click.command("serve")
@click.argument("artifact")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Where to listen. Any other than loopback needs a key."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option("--key", envvar="EDGE_SERVE_KEY", show_envvar=True, metavar="KEY",
              help="What clients must send as their API key; the variable keeps it out of the list of processes.")  # fmt: skip
@click.option("--tools", "tools_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Tools for requests that bring none: .py (runs), .json, .jsonl "
                   "[default: those of the project that ARTIFACT lies in].")  # fmt: skip
@click.option("--queue", type=click.IntRange(0), default=8, show_default=True, metavar="N",
              help="Requests that may wait while one is answered; more are told to come back (503).")  # fmt: skip
@click.option(
    "--max-body", type=Size(), default="1MB", show_default=True, metavar="SIZE", help="Longest request (413)."
)
@ASKING
@QUIET
def serve(
    artifact: str,
    host: str,
    port: int,
    key: str | None,
    tools_file: Path | None,
    queue: int,
    max_body: int,
    quiet: bool,
    **asking: Any,
) -> None:
    """Answer OpenAI's /v1/chat/completions with ARTIFACT on this machine, with tools, until Ctrl-C.

    Also /v1/models and /health. Any model name is taken; the answer says which one it was. For an app in an emulator:
    Android's reaches this machine as 10.0.2.2.

    \b
    stream                 text as it is written (llama_cpp, litert, litert_lm, onnxruntime; others: at the end), a call once it
                           is whole
    tool_choice            auto; none: the model isn't shown the tools; required, or a function: the answer is begun for the
                           model, and an error (422) if no such call comes of it
    parallel_tool_calls    false: the answer ends with its first call
    temperature, top_p, …  no effect: answers are greedy; said under "edge" in the answer, with what is wrong in its calls
    n, logprobs, response_format, images    refused (400)

    Tools come with a request ("tools": [] for none); one that says nothing of tools gets those of --tools, else the
    project's, as edge call takes them: a tools.py is imported, so it runs.

    One request is answered at a time. One whose client hangs up is ended, and the next begins.

    \b
    edge serve app/build/artifacts/app-q8_0.gguf
    edge serve app.litertlm --port 8081 --tools tools.json
    EDGE_SERVE_KEY=… edge serve app-q8_0.gguf --host 0.0.0.0
    curl http://127.0.0.1:8080/v1/models
    """
    from edge import call as calling
    from edge.console import Console
    from edge.devices.local import Local
    from edge.serve import host as serving

    limits = serving.Limits(host, port, key or None, queue, max_body)
    serving.check(limits)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through every `with`, so that nothing is left running
    with Console(quiet) as console, contextlib.suppress(KeyboardInterrupt):
        target = calling.find(artifact, **asking, lacks=Local().lacks)
        for note in target.notes:
            console.say(f"warning: {note}")
        declared = default_tools(tools_file, target, console)

        def ready(address: str) -> None:
            console.say(f"serving {target.facts} until Ctrl-C")
            click.echo(address)

        serving.serve(target, declared, limits, console, ready)


def default_tools(given: Path | None, target: Target, console: Console) -> list[Tool]:
    """What a request without tools is asked with: the file's that is given, else the project's as `edge call` has them.

    Raises EdgeError for a given file that can't be read. A project's only costs the default: clients may bring their own.
    """
    from edge.commands.call import read_tools

    file, why = given or (target.project.tools if target.project else None), ""
    if file:
        try:
            with read_tools(file, False, target.dialect, console) as (declared, _):
                console.say(f"tools: {len(declared)} of {file}, for requests that bring none")
                return declared
        except EdgeError as error:
            if given:
                raise
            why = f" ({error.message})"
    console.say(f"no tools{why}: requests must bring them, or give --tools FILE")
    return []
