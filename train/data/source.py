"""What one call of `edge data` reads: files, tools and dialect, and each line beside the row that the readers made of it."""

from __future__ import annotations

import glob
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge import dialects, tools
from edge import project as projects
from edge.console import Console
from edge.dialects import Dialect, Finding, Tool
from edge.errors import EdgeError
from edge.records import Json
from edge.train import readers
from edge.train.data import datasets  # by its whole name, as edge/project.py has it: one type, not two
from edge.train.data.datasets import Dataset, Hub
from edge.train.readers import BadRow, Reject, Row
from edge.worker import Progress

REJECTS = "rejects.jsonl"  # how the names of our own files of rejected rows end


@dataclass(frozen=True)
class Source:
    """Where rows come from, and what they are read with."""

    files: tuple[Path, ...]
    evaluation: frozenset[Path]  # those of `files` that are held out
    tools: list[Tool]  # the project's; [] if none were named
    findings: tuple[Finding, ...]  # about those tools
    tools_file: str | None
    dialect: Dialect
    developer: str | None  # what a flat row says first
    base: Path | None = None  # the project's base model, if it lies here
    limit: int | None = None  # the project's max_tokens
    project_file: Path | None = None
    both: frozenset[Path] = frozenset()  # those that training and evaluation share: each row says its side
    splits: Mapping[Path, str] = field(default_factory=dict)  # files whose dataset names their side
    datasets: tuple[Dataset, ...] = ()  # from the hub


@dataclass(frozen=True)
class Item:
    """A good row and its line as it stands in the file, without byte order mark and line end."""

    row: Row
    text: str
    split: str | None  # "train" or "eval", by the file it is in or by what the row says; None: nothing says it
    tools: list[Tool]  # the row's own, else the project's

    @property
    def place(self) -> str:
        return f"{self.row.file}:{self.row.line}"

    @property
    def record(self) -> Json:
        return dict(json.loads(self.text))


@dataclass(frozen=True)
class Loaded:
    """Every row of the files, good and bad, each list in the files' order. A Reject's text is the whole line."""

    items: list[Item]
    rejects: list[Reject]


@dataclass(frozen=True)
class Fault:
    """Why a whole file can't be read as JSON lines."""

    message: str
    remedy: str


def find(
    patterns: Iterable[str],
    *,
    evaluation: Iterable[str] = (),
    tools_file: Path | None = None,
    project: Path | None = None,
    dialect: str | None = None,
    developer: str | None = None,
    console: Console | None = None,
) -> Source:
    """The source that these options name; with a project, what they leave out comes from its `edge.toml`.

    Args:
        patterns: files, globs and hub datasets; none: the project's.
        evaluation: the same, of rows that are held out; read as well.
        tools_file: the tools of rows that bring none of their own (.py is run).
        developer: what a flat row says first: None for the project's or the usual one, "" for nothing.
        console: told before a .py file is run, and what is fetched.

    Raises EdgeError for a file or glob that finds nothing, for a dataset that can't be had, and for tools that can't be read.
    """
    given, console = projects.load(project) if project else None, console or Console(quiet=True)
    wanted, kept = expand(patterns), expand(evaluation)
    if not wanted and not kept and given:
        wanted, kept = list(given.train), list(given.eval)
    if not wanted and not kept:
        raise EdgeError("no file was given", "name files, globs, or a project: edge data check --project app")
    tools_file = tools_file or (given.tools if given else None)
    box = tools.load(tools_file, console.say) if tools_file else None
    if developer is None:
        developer = given.developer if given else readers.DEVELOPER
    usual = given.dialect if given else "functiongemma"
    spoken = dialects.get(usual if dialect is None else dialect)
    every = datasets.local([*wanted, *kept], console)
    mine = {one: frozenset(every.files_of(one)) for one in [*wanted, *kept]}
    files, held_out = (frozenset[Path]().union(*(mine[one] for one in side)) for side in (wanted, kept))
    return Source(
        files=every.files,
        evaluation=held_out,
        both=files & held_out,
        splits=every.splits,
        datasets=every.datasets,
        tools=box.tools if box else [],
        findings=tuple(tools.check(box, spoken)) if box else (),
        tools_file=str(tools_file) if tools_file else None,
        project_file=given.file if given else None,
        dialect=spoken,
        developer=developer or None,
        base=_base(given) if given else None,
        limit=given.training["max_tokens"] if given else None,
    )


def of_tools(tools_file: Path | None, project: Path | None, developer: str | None, console: Console) -> Source:
    """A source without files: tools, and the manner in which rows for them are written. Raises EdgeError for no tools."""
    given = projects.load(project) if project else None
    file = tools_file or (given.tools if given else None)
    if not file:
        raise EdgeError("no tools were named", "name them: --tools FILE or --project FOLDER")
    box = tools.load(file, console.say)
    spoken = dialects.get(given.dialect if given else "functiongemma")
    dialects.refuse(spoken.check(box.tools))
    usual = given.developer if given else readers.DEVELOPER
    return Source((), frozenset(), box.tools, tuple(tools.check(box, spoken)), str(file), spoken,
                  usual if developer is None else developer, project_file=given.file if given else None)  # fmt: skip


def expand(patterns: Iterable[str]) -> list[Path | Hub]:
    """The files of these names and globs, each once, globs sorted and without our own files of rejected rows; what is
    none of them and looks like a hub dataset is one."""
    found: list[Path | Hub] = []
    for pattern in patterns:
        if Path(pattern).is_file():
            matches = [pattern]
        else:
            every = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
            matches = [m for m in every if Path(m).is_file() and not m.endswith(REJECTS)]
        if not matches and (dataset := datasets.hub_id(pattern)):
            found.append(dataset)
        elif not matches:
            folder = Path(pattern).is_dir()
            raise EdgeError(
                f"{pattern}: {'a folder, not a file' if folder else 'no such file'}",
                f'name its files: "{pattern.rstrip("/")}/*.jsonl"' if folder else "check the path; quote a glob",
            )
        found += [Path(m) for m in matches]
    return list(dict.fromkeys(found))


def _base(project: projects.Project) -> Path | None:
    if project.base == projects.EMBEDDED:
        return Path(readers.__file__).parents[1] / projects.EMBEDDED
    places = (project.folder / Path(project.base).expanduser(), project.build / "base")
    return next((place for place in places if place.is_dir()), None)


# ---- reading


def read(source: Source, progress: Progress | None = None) -> Loaded:
    """Every row of the source. Raises EdgeError for a file that is no JSON lines at all, and for tools with errors."""
    for file in source.files:
        found = fault(file)
        if found:
            raise EdgeError(f"{file}, line 1: {found.message}", found.remedy)
    return read_sound(source, source.files, progress)


def read_sound(source: Source, files: Iterable[Path], progress: Progress | None = None) -> Loaded:
    """As `read`, of files that are known to have no fault."""
    files = list(files)
    loaded = Loaded([], [])
    if not files:
        return loaded
    total, done = sum(file.stat().st_size for file in files), 0
    found = readers.read(files, source.tools, source.dialect, source.developer)
    for (file, line), each in zip(_lines(files), found):
        done += len(line)
        if isinstance(each, Row):
            loaded.items.append(_item(each, line, file, source))
        else:
            text = _text(line)
            loaded.rejects.append(Reject(each.file, each.line, _refined(each.reason, text), text))
        if progress:
            progress(done, total, "")
    return loaded


def _lines(files: Iterable[Path]) -> Iterator[tuple[Path, bytes]]:
    """The lines that the readers give a result for, in their order."""
    for file in files:
        with file.open("rb") as f:
            for line in f:
                if line.strip():
                    yield file, line


def _item(row: Row, line: bytes, file: Path, source: Source) -> Item:
    return Item(row, _text(line), _side(row, file, source), source.tools if row.tools is None else row.tools)


def _side(row: Row, file: Path, source: Source) -> str | None:
    told = row.split or source.splits.get(file)
    if file in source.both and told:
        return told
    return "eval" if file in source.evaluation else told or ("train" if source.evaluation else None)


def _text(line: bytes) -> str:
    return line.decode("utf-8-sig", "backslashreplace").rstrip("\r\n")


def _refined(reason: str, line: str) -> str:
    """The readers' reason; JSON that is broken inside the arguments, and control tokens, get a kind of their own."""
    kind, _, details = reason.partition(": ")
    if kind == "not JSON" and _is_json(line):
        return f"broken arguments: the arguments are a string that is not JSON: {details}"
    if kind == "not expressible" and "control token" in details:
        return f"control token: {details}"
    return reason


def _is_json(line: str) -> bool:
    try:
        readers.loads(line)
    except (BadRow, RecursionError):
        return False
    return True


# ---- files that are something else

_MAGIC = {b"PAR1": "a Parquet file", b"\x1f\x8b": "a gzip file", b"PK\x03\x04": "a zip file"}
_WIDE = (b"\xff\xfe", b"\xfe\xff")


def _one_per_line(file: Path, rows: str) -> str:
    """A command that writes the rows one per line, into another file."""
    value = "json.load(open(sys.argv[1], encoding='utf-8-sig'))"
    code = f"import json, sys; [print(json.dumps(row)) for row in {rows.format(value)}]"
    out = file.with_name(f"{file.stem}.lines.jsonl")
    return f'write one row per line: python3 -c "{code}" {shlex.quote(str(file))} > {shlex.quote(str(out))}'


def fault(file: Path) -> Fault | None:
    """Why a file as a whole is no JSON lines, if so: empty, UTF-16, Parquet, zipped, or JSON in place of JSON lines."""
    try:
        with file.open("rb") as f:
            start = f.read(4)
            f.seek(0)
            first = next((line for line in f if line.removeprefix(b"\xef\xbb\xbf").strip()), b"")
    except OSError as error:
        raise EdgeError(f"{file}: {error.strerror}", "check the path and its permissions") from None
    for magic, what in _MAGIC.items():
        if start.startswith(magic):
            return Fault(
                f"not JSON lines: this is {what}", "unpack it, export it to JSON lines, or name a table .parquet"
            )
    if start.startswith(_WIDE):
        out = file.with_name(f"{file.stem}.utf8.jsonl")
        command = f"iconv -f UTF-16 -t UTF-8 {shlex.quote(str(file))} > {shlex.quote(str(out))}"
        return Fault("not UTF-8: this is UTF-16", f"save the file as UTF-8: {command}")
    if re.search(rb"\}\r[ \t]*\{", first):  # JSON escapes them inside strings
        out = file.with_name(f"{file.stem}.lf.jsonl")
        command = f"tr '\\r' '\\n' < {shlex.quote(str(file))} > {shlex.quote(str(out))}"
        return Fault("not JSON lines: the lines end in CR alone", f"write LF line ends: {command}")
    if not first:
        return Fault("the file is empty", "a data file holds one JSON object per line")
    return _json_instead(file, first)


def _json_instead(file: Path, first: bytes) -> Fault | None:
    """JSON over several lines, or one list of rows."""
    alone = _parsed(first)
    if isinstance(alone, dict) or first.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] not in (b"[", b"{"):
        return None
    value = _parsed(file.read_bytes())
    if isinstance(value, list):
        return Fault(
            f"JSON in place of JSON lines: the file is one list of {len(value)} rows",
            _one_per_line(file, "{}"),
        )
    if isinstance(value, dict):
        return Fault(
            "JSON in place of JSON lines: the file is one object over several lines",
            _one_per_line(file, "[{}]"),
        )
    return None


def _parsed(text: bytes) -> object:
    try:
        return json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
