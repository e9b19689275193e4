"""Rows from the hub: `owner/name[@revision][:pick]` stands wherever a file of rows may be named.

The files are fetched once per commit into a cache and read as any other: JSON lines line by line, as they are; a JSON
list element by element, verbatim; Parquet, the user's own too, through a worker that undoes what its schema added.
Which commit it was stands in `dataset.json` beside them, written last, so that half a download never counts. Where the
hub can't be reached, the commit of the last time is taken, and said. The worker that talks to the hub is
`train/workers/fetch.py`.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import filelock

from edge import environments, worker
from edge.console import Console
from edge.errors import EdgeError
from edge.records import Json, digest_file, digest_value, read_json, save, write_text

from .dataset_files import choose, configurations

_ID = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?(:(?P<pick>[^:]+))?")
_FILES = (".jsonl", ".json", ".ndjson", ".parquet", ".csv", ".txt", ".gz", ".zip", ".toml", ".py")
_COMMIT = re.compile("[0-9a-f]{40}")
MARKER = "dataset.json"


@dataclass(frozen=True)
class Hub:
    """A dataset on the hub. pick: one of its configurations, or a glob for its files. folder: the project's, whose `.env`
    may hold a token; None for the current one."""

    name: str
    revision: str | None = None
    pick: str | None = None
    folder: Path | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.name + (f"@{self.revision}" if self.revision else "") + (f":{self.pick}" if self.pick else "")


@dataclass(frozen=True)
class Dataset:
    """A dataset, or a table of the user's, that lies here. files: JSON lines -> "train", "eval" or None, what the dataset
    says of the whole file."""

    given: str  # as it was named
    name: str
    commit: str
    files: dict[Path, str | None]
    undone: dict[str, Json] = field(default_factory=dict)  # file -> {"rows", "nulls", "dates"}, of Parquet

    def facts(self) -> Json:
        """What a record keeps of it."""
        return {"dataset": self.name, "commit": self.commit, "files": {f.name: digest_file(f) for f in self.files}}


def hub_id(given: str, folder: Path | None = None) -> Hub | None:
    """The dataset that this names, if it looks like one: no file, no glob, and not a file's name."""
    match = _ID.fullmatch(given)
    if not match or Path(given).exists() or match["name"].lower().endswith(_FILES):
        return None
    return Hub(match["name"], match["revision"], match["pick"], folder)


def cache() -> Path:
    """Where datasets lie: beside the environments."""
    return environments.cache().parent / "datasets"


def fetch(hub: Hub, console: Console) -> Dataset:
    """The dataset, from the cache where its commit lies there.

    Raises EdgeError for a dataset, a revision or a pick that isn't there, MissingError for access or a network that is
    missing, WorkerError for what else the hub answers.
    """
    home, suffix = _home(hub), _suffix(hub)
    if not (_COMMIT.fullmatch(hub.revision or "") and (home / f"{hub.revision}{suffix}" / MARKER).exists()):
        home.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(home / ".lock"):
            commit = _Asking(hub, home, suffix, console).commit()
    else:
        commit = str(hub.revision)
    found = _read(str(hub), home / f"{commit}{suffix}")
    for line in told(found):
        console.say(f"warning: {line}")
    return found


def facts(given: Iterable[Path | Hub]) -> list[Json]:
    """What a record keeps of the datasets among these, which were fetched before: nothing is asked of the hub."""
    found = []
    for hub in dict.fromkeys(one for one in given if isinstance(one, Hub)):
        commit = _refs(_home(hub)).get(_ref(hub), hub.revision)
        found.append(_read(str(hub), _home(hub) / f"{commit}{_suffix(hub)}").facts())
    return found


def told(dataset: Dataset) -> list[str]:
    """What was undone in a dataset's Parquet files, a sentence a file."""
    lines = []
    for name, done in dataset.undone.items():
        # A message without calls or text is as usual; an argument or a parameter that vanished is news.
        nulls = {place: n for place, n in done["nulls"].items() if place.count(".") > 1}
        dates = done["dates"]
        if nulls:
            lines.append(f"{dataset.name}, {name}: {sum(nulls.values())} nulls taken out that the schema of all rows "
                         f"filled in, at {_places(nulls)}; one that was meant can't be told from them")  # fmt: skip
        if dates:
            lines.append(f"{dataset.name}, {name}: {sum(dates.values())} timestamps written as ISO text, at "
                         f"{_places(dates)}; what they looked like before can't be known")  # fmt: skip
    return lines


def _places(counts: dict[str, int]) -> str:
    most = sorted(counts, key=lambda place: (-counts[place], place))
    return ", ".join(most[:4]) + (f" and {len(most) - 4} more" if len(most) > 4 else "")


_CARD = ["README.md"]
_UNREACHABLE = ("can't be reached", "HF_HUB_OFFLINE is set")


class _Asking:
    """One question to the hub, and what is fetched for it."""

    def __init__(self, hub: Hub, home: Path, suffix: str, console: Console) -> None:
        from edge.train.fetching import Client  # not above: a file of rows needs nothing of it

        self._hub, self._home, self._suffix, self._console = hub, home, suffix, console
        self._client = Client(console, lambda spec: environments.ensure(spec, console), hub.folder)

    def commit(self) -> str:
        """The commit of the revision, which then lies in the cache."""
        refs, ref = _refs(self._home), _ref(self._hub)
        try:
            listing = self._run("look", None)
        except EdgeError as error:
            if ref in refs and any(words in error.message for words in _UNREACHABLE):
                self._console.say(f"{self._hub}: commit {refs[ref]}, from the cache: {error.message}")
                return str(refs[ref])
            raise type(error)(
                f"no file {str(self._hub)!r} here, and as a dataset: {error.message}", error.hint
            ) from None
        commit = str(listing["revision"])
        folder = self._home / f"{commit}{self._suffix}"
        if not (folder / MARKER).exists():
            self._fetch(listing, folder)
        save({**refs, ref: commit}, self._home / "refs.json")
        self._console.say(f"{self._hub}: commit {commit}")
        return commit

    def _fetch(self, listing: Json, folder: Path) -> None:
        paths, card = list(listing["files"]), ""
        if set(_CARD) <= set(paths):
            self._run("fetch", _CARD, listing["revision"])
            card = (self._home / "card" / _CARD[0]).read_text(encoding="utf-8", errors="replace")
        files = choose(self._hub.name, paths, configurations(card), self._hub.pick)
        self._run("fetch", [file["path"] for file in files], listing["revision"])
        worker.replace_folder(self._home / "new", folder)
        _unpack(self._hub, folder, str(listing["revision"]), files, self._console)

    def _run(self, what: str, files: list[str] | None, commit: str | None = None) -> Json:
        request = {"do": what, "model": self._hub.name, "revision": commit or self._hub.revision, "kind": "dataset",
                   "files": files}  # fmt: skip
        label = f"asking for {self._hub}" if what == "look" else f"fetching {self._hub}"
        # In folders of their own: a run clears away what an earlier one of other files has left, halves of files too.
        out = self._home / ("look" if files is None else "card" if files == _CARD else "new")
        return self._client.run("fetch", request, out, label, keep_partial=out.name == "new")


def _home(hub: Hub) -> Path:
    return cache() / hub.name.replace("/", "--")


def _suffix(hub: Hub) -> str:
    return f"-{digest_value(hub.pick)[:8]}" if hub.pick else ""


def _ref(hub: Hub) -> str:
    return f"{hub.revision or 'main'}:{hub.pick or ''}"


def _refs(home: Path) -> Json:
    """Revision and pick -> the commit that it was the last time."""
    file = home / "refs.json"
    return dict(read_json(file)) if file.exists() else {}


def _unpack(hub: Hub, folder: Path, commit: str, fetched: list[Json], console: Console) -> None:
    """JSON lines out of whatever was fetched, and the marker."""
    files: Json = {}
    for one in fetched:
        file = folder / one["path"]
        if file.suffix == ".json" and (elements := _elements(file)) is not None:
            lines = file.with_suffix(".lines.jsonl")
            write_text(lines, "".join(f"{element}\n" for element in elements))
            file.unlink()
            file = lines
        files[file.relative_to(folder).as_posix()] = one["split"]
    tables = [folder / name for name in files if name.endswith(".parquet")]
    undone: Json = {}
    for table in tables:
        made = unpack_parquet(table, table.with_name(f"{table.name}.rows"), console)
        name = table.relative_to(folder).as_posix()
        undone[name] = made["files"][table.name]
        files[made["path"].relative_to(folder).as_posix()] = files.pop(name)
        table.unlink()
    save({"dataset": hub.name, "commit": commit, "files": files, "undone": undone}, folder / MARKER)


def unpack_parquet(file: Path, out: Path, console: Console) -> Json:
    """A Parquet file as JSON lines in the folder `out`, their `path`, and what was undone (see the worker)."""
    script = environments.script("parquet")
    built = environments.ensure(environments.spec(script), console)
    with console.task(f"reading {file.name}") as progress:
        answer = worker.run(script, {"files": [str(file.absolute())]}, out, python=built.python, progress=progress)
    shutil.rmtree(out.with_name(f"{out.name}.worker"), ignore_errors=True)
    return {**answer, "path": out / f"{file.stem}.jsonl"}


def _table(file: Path, console: Console) -> Dataset:
    """A Parquet file of the user's, unpacked once into the cache."""
    digest = digest_file(file)
    home = cache() / "files" / digest[:16]
    home.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(home / ".lock"):
        if not (home / MARKER).exists():
            made = unpack_parquet(file, home / "rows", console)
            name = made["path"].relative_to(home).as_posix()
            save(
                {"dataset": str(file), "commit": digest, "files": {name: None}, "undone": made["files"]}, home / MARKER
            )
    found = _read(str(file), home)
    for line in told(found):
        console.say(f"warning: {line}")
    return found


_BLANK = re.compile(r"[ \t\r\n]*")


def _elements(file: Path) -> list[str] | None:
    """The elements of a JSON list, verbatim, each on one line; None if the file is no list (JSON lines often end in .json)."""
    text = file.read_text(encoding="utf-8-sig")
    if not text.lstrip().startswith("["):
        return None
    decoder, found, at = json.JSONDecoder(), list[str](), text.index("[") + 1
    with contextlib.suppress(ValueError):  # a file that is cut off: its readers say where
        while True:
            at = _blank(text, at)
            if text[at : at + 1] in ("]", ""):
                return found
            _, end = decoder.raw_decode(text, at)
            found.append(re.sub(r"[\r\n]+", " ", text[at:end]))  # line ends inside strings are escaped in JSON
            at = _blank(text, end)
            at += text[at : at + 1] == ","
    raise EdgeError(f"{file}: not JSON after {len(found)} rows", "the dataset's file is broken: ask its author")


def _blank(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


def _read(given: str, folder: Path) -> Dataset:
    value = read_json(folder / MARKER)
    files = {folder / name: split for name, split in value["files"].items()}
    lost = next((file for file in files if not file.is_file()), None)
    if lost:
        raise EdgeError(f"{lost}: gone from the cache", f"delete {folder}: it is fetched again then")
    return Dataset(given, value["dataset"], value["commit"], files, value["undone"])


# --- files and datasets together ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Local:
    """Files of rows that lie here, and what their datasets say of them."""

    files: tuple[Path, ...]
    splits: dict[Path, str]  # of files whose dataset names their side
    datasets: tuple[Dataset, ...] = ()

    def files_of(self, one: Path | Hub) -> list[Path]:
        """Those that one of the given names stands for."""
        if isinstance(one, Path) and not _is_table(one):
            return [one]
        return [file for dataset in self.datasets if dataset.given == str(one) for file in dataset.files]


def _is_table(file: Path) -> bool:
    return file.suffix.lower() == ".parquet"


def local(given: Iterable[Path | Hub], console: Console) -> Local:
    """Everything as files, each once; datasets are fetched."""
    files: list[Path] = []
    datasets: dict[str, Dataset] = {}
    for one in given:
        if isinstance(one, Path) and not _is_table(one):
            files.append(one)
        else:
            found = datasets.get(str(one)) or (_table(one, console) if isinstance(one, Path) else fetch(one, console))
            datasets[str(one)] = found
            files += found.files
    splits = {f: s for d in datasets.values() for f, s in d.files.items() if s}
    return Local(tuple(dict.fromkeys(files)), splits, tuple(datasets.values()))
