"""Rows from the hub: which files, from a small server that answers as the hub does; what lies in the cache; tables undone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datarows
import hub
import pytest
from click.testing import CliRunner
from datarows import call, flat, mobile

from edge import environments, pipeline, project, records, worker
from edge.cli import main
from edge.console import Console
from edge.errors import EdgeError, MissingError, WorkerError
from edge.train.data import check, datasets, source
from edge.train.data.dataset_files import choose, configurations
from edge.train.data.datasets import Hub, hub_id

QUIET = Console(quiet=True)
WORKERS = Path(__file__).parent / "workers"
COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
ROWS = [
    mobile("light the hall", call(room="hall"), metadata="train", tools=[datarows.LIGHT]),
    mobile("and the bath", call(room="bath"), metadata="train", tools=[datarows.LIGHT]),
    mobile("light the bath up, would you", call(room="bath"), metadata="eval", tools=[datarows.LIGHT]),
]


def lines(*rows: Any) -> bytes:
    return "".join(f"{datarows.dump(row)}\n" for row in rows).encode()


# ---- names


def test_what_is_a_dataset_and_what_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub_id("google/mobile-actions") == Hub("google/mobile-actions")
    assert hub_id(f"a/b@{COMMIT}:data/*.parquet") == Hub("a/b", COMMIT, "data/*.parquet")
    assert str(Hub("a/b", "v1", "easy")) == "a/b@v1:easy"
    for name in (
        "rows.jsonl",
        "data/rows.jsonl",
        "data/*.jsonl",
        "a/b/c",
        "/a/b",
        "../a/b",
        "data/rows.parquet",
        "rows",
    ):
        assert hub_id(name) is None, name
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert hub_id("a/b") is None and source.expand(["a/b", "c/d"]) == [Path("a/b"), Hub("c/d")]


def test_a_project_names_datasets_beside_files(tmp_path: Path) -> None:
    datarows.write(tmp_path, ROWS[0], name="train.jsonl")
    (tmp_path / "edge.toml").write_text(
        '[project]\nname = "x"\n[data]\ntrain = ["train.jsonl", "google/mobile-actions"]\neval = ["a/b@v1:test*"]\n'
    )
    found = project.load(tmp_path)
    assert found.train == (tmp_path / "train.jsonl", Hub("google/mobile-actions"))
    assert found.eval == (Hub("a/b", "v1", "test*"),)


# ---- which of its files


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (["dataset.jsonl", "README.md"], {"dataset.jsonl": None}),
        (["train.jsonl", "test.jsonl", "tools.json"], {"train.jsonl": "train", "test.jsonl": "eval"}),
        (
            ["data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"],
            {"data/train-00000-of-00001.parquet": "train", "data/validation-00000-of-00001.parquet": "eval"},
        ),
        (["constraints.jsonl", "a.parquet"], {"constraints.jsonl": None}),
        (["rows.json"], {"rows.json": None}),
    ],
)
def test_files_of_rows_and_their_sides(paths: list[str], found: dict[str, str | None]) -> None:
    assert {f["path"]: f["split"] for f in choose("a/b", paths, {}, None)} == found


def test_a_card_with_configurations_chooses() -> None:
    two = {"easy": [("train", "easy/*.jsonl"), ("test", "held/*.jsonl")], "hard": [(None, "hard.jsonl")]}
    paths = ["easy/1.jsonl", "held/2.jsonl", "hard.jsonl"]
    assert choose("a/b", paths, two, "easy") == [
        {"path": "easy/1.jsonl", "split": "train"},
        {"path": "held/2.jsonl", "split": "eval"},
    ]
    assert choose("a/b", paths, {**two, "default": two["hard"]}, None)[0]["path"] == "hard.jsonl"
    assert [f["path"] for f in choose("a/b", paths, two, "e*/*")] == ["easy/1.jsonl"]
    with pytest.raises(EdgeError, match="several configurations, easy, hard") as caught:
        choose("a/b", paths, two, None)
    assert caught.value.hint == "choose one: a/b:easy"
    with pytest.raises(EdgeError, match="no configuration and no file 'x'") as caught:
        choose("a/b", paths, two, "x")
    assert "easy, hard, easy/1.jsonl" in str(caught.value.hint)
    with pytest.raises(EdgeError, match="no file of rows"):
        choose("a/b", ["README.md", "x.csv"], {}, None)


CARD = """---
license: cc-by-4.0
configs:
- config_name: easy
  data_files:
  - split: train
    path: easy/*.jsonl
  - split: "test"
    path:
    - held/*.jsonl
    - more/*.jsonl
- config_name: hard
  default: true
  data_files: hard.jsonl
size_categories:
- 1K<n<10K
---
# Rows
"""


def test_the_cards_own_words() -> None:
    easy = [("train", "easy/*.jsonl"), ("test", "held/*.jsonl"), ("test", "more/*.jsonl")]
    assert configurations(CARD) == {"easy": easy, "hard": [(None, "hard.jsonl")]}
    later = CARD.replace("  default: true\n", "").replace("files: hard.jsonl", "files: hard.jsonl\n  default: true")
    assert configurations(later)["default"] == [(None, "hard.jsonl")]
    assert configurations("# no head") == configurations("---\nlicense: mit\n---\n") == {}


def test_the_elements_of_a_list_are_taken_verbatim(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text('\ufeff[ {"b": 1.50,\n "a": "x\\ny"},{"a": 1, "a": 2} ]\n', encoding="utf-8")
    assert datasets._elements(file) == ['{"b": 1.50,  "a": "x\\ny"}', '{"a": 1, "a": 2}']
    file.write_text('{"a": 1}\n{"a": 2}\n')
    assert datasets._elements(file) is None
    file.write_text('[{"a": 1}, {"a"')
    with pytest.raises(EdgeError, match="not JSON after 1 rows"):
        datasets._elements(file)


# ---- the hub


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[hub.Server]:
    """A server, and a cache of datasets that is empty; environments stay where they are."""
    monkeypatch.setattr(datasets, "cache", lambda: tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    with hub.at_hand(monkeypatch, tmp_path / "hf-home") as server:
        server.add("google/mobile-actions", {"dataset.jsonl": lines(*ROWS), "README.md": b"# rows"}, "datasets")
        yield server


def fetch(given: str, console: Console = QUIET) -> datasets.Dataset:
    found = hub_id(given)
    assert found
    return datasets.fetch(found, console)


def downloads(server: hub.Server) -> list[str]:
    return [s.path.rpartition("/")[2] for s in server.asked("GET", "/resolve/")]


@pytest.mark.slow
def test_mobile_actions_is_read_as_it_stands_and_once(served: hub.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.READ)
    commit = served.repo("google/mobile-actions", "datasets").branches["main"]
    found = fetch("google/mobile-actions")
    (file,) = found.files
    assert found.commit == commit and file.read_bytes() == lines(*ROWS)
    assert any(seen.token == hub.READ for seen in served.seen)
    assert [f for f in datasets.cache().rglob("*") if f.is_file() and hub.READ.encode() in f.read_bytes()] == []
    served.seen.clear()
    assert fetch("google/mobile-actions") == found
    assert downloads(served) == [] and served.seen  # the hub was asked for the commit alone
    served.seen.clear()
    assert fetch(f"google/mobile-actions@{commit}").files == found.files
    told = datasets.facts([Hub("google/mobile-actions"), Path("x"), Hub("google/mobile-actions", commit)])
    assert told == [found.facts()] * 2 and told[0]["commit"] == commit
    assert list(told[0]["files"].values()) == [records.digest_file(file)]
    assert served.seen == []  # a commit can't change: nobody is asked


@pytest.mark.slow
def test_check_and_run_take_each_side_by_its_metadata(served: hub.Server, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["data", "check", "google/mobile-actions", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["splits"] == {"train": 2, "eval": 1}
    datarows.tools_file(tmp_path)
    (tmp_path / "edge.toml").write_text(
        '[project]\nname = "x"\n[tools]\nfile = "tools.json"\n[data]\n'
        'train = ["google/mobile-actions"]\neval = ["google/mobile-actions"]\n'
    )
    checked = CliRunner().invoke(main, ["data", "check", "-p", str(tmp_path), "--json"])
    assert json.loads(checked.stdout)["splits"] == {"train": 2, "eval": 1}
    data = pipeline.read_data(project.load(tmp_path), QUIET)
    assert (data.counts["train_rows"], data.counts["eval_rows"], data.counts["shared_with_training"]) == (2, 1, 0)


@pytest.mark.slow
def test_files_by_split_another_commit_and_no_network(
    served: hub.Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = flat("light the hall", room="hall"), flat("light the bath", room="bath")
    files = {"train.json": json.dumps([one]).encode(), "test.json": json.dumps([two], indent=1).encode()}
    repo = served.add("a/sides", files, "datasets")
    found = fetch("a/sides")
    assert {side: json.loads(f.read_text()) for f, side in found.files.items()} == {"train": one, "eval": two}
    repo.commit({"train.json": json.dumps([two]).encode()})
    newer = fetch("a/sides")
    assert newer.commit != found.commit and len(newer.files) == 1
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetch("a/sides", Console()) == newer
    assert f"commit {newer.commit}, from the cache: a/sides: the hub at" in capsys.readouterr().err
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch("a/sides") == newer
    assert fetch(f"a/sides@{found.commit}").files == found.files
    with pytest.raises(MissingError, match=r"no file 'a/never' here, and as a dataset: .*HF_HUB_OFFLINE is set"):
        fetch("a/never")


@pytest.mark.slow
def test_a_card_chooses_and_a_download_that_breaks_off_goes_on(served: hub.Server) -> None:
    big = lines(*(flat(f"light the hall to {n}", room="hall", percent=n) for n in range(20000)))
    card = CARD.replace("  default: true\n", "").encode()
    served.add("a/big", {"easy/1.jsonl": big, "hard.jsonl": b"{}\n", "README.md": card}, "datasets")
    with pytest.raises(EdgeError, match="several configurations, easy, hard"):
        fetch("a/big")
    served.stall["easy/1.jsonl"] = 1_000_000
    with pytest.raises(MissingError, match="was cut off at"):
        fetch("a/big:easy")
    served.stall.clear()
    served.seen.clear()
    (file,) = fetch("a/big:easy").files
    assert file.read_bytes() == big and fetch("a/big:easy").files == {file: "train"}
    (asked,) = served.asked("GET", "1.jsonl")
    assert asked.range and int(asked.range[6:-1]) > 500_000  # from where it broke off


@pytest.mark.slow
def test_gated_absent_and_failing_each_say_what_to_do(served: hub.Server) -> None:
    served.add("a/gated", {"rows.jsonl": lines(*ROWS)}, "datasets", gated=True)
    served.failures["a/broken"] = (500, {})
    with pytest.raises(MissingError, match="gated") as caught:
        fetch("a/gated")
    assert "HF_TOKEN" in str(caught.value.hint) and "/datasets/a/gated" in str(caught.value.hint)
    with pytest.raises(EdgeError, match=r"no file 'a/absent' here, and as a dataset: .*the hub has no such"):
        fetch("a/absent")
    with pytest.raises(EdgeError, match="no revision 'v9'"):
        fetch("google/mobile-actions@v9")
    with pytest.raises(WorkerError, match="the hub answered 500"):
        fetch("a/broken")


# ---- tables


@pytest.mark.slow
def test_a_tables_nulls_and_dates_are_undone_and_reported(served: hub.Server, tmp_path: Path) -> None:
    mail = {"name": "mail", "description": "Mails.", "parameters": {"type": "object", "properties": {
        "to": {"type": "string", "description": "Whom."}, "at": {"type": "string", "description": "When."}}}}  # fmt: skip
    rows = [
        mobile("light the hall to 40", call(room="hall", percent=40), tools=[datarows.LIGHT, mail]),
        mobile("mail ann at two", call("mail", to="ann", at="2025-06-06T14:00:00"), tools=[datarows.LIGHT, mail]),
        mobile("what time is it", call("now"), tools=[datarows.NOW, mail]),
        mobile("mail bob", call("mail", to="bob"), tools=json.dumps([mail])),
    ]
    for row in rows[:3]:  # a column has one type
        row["tools"] = json.dumps(row["tools"])
    script = WORKERS / "table.py"
    built = environments.ensure(environments.spec(script), QUIET)
    made = worker.run(script, {"rows": rows, "dates": ["at"]}, tmp_path / "made", python=built.python)
    assert "room: string" in made["schema"] and "at: timestamp" in made["schema"]  # one struct for all arguments
    table = (tmp_path / "made" / "rows.parquet").read_bytes()
    served.add("a/table", {"data/train-0.parquet": table}, "datasets")
    found = source.find(["a/table"])
    loaded = source.read(found)
    assert [r.reason for r in loaded.rejects] == [] and len(loaded.items) == 4
    assert [item.row.calls[0].arguments for item in loaded.items] == [
        {"room": "hall", "percent": 40}, {"to": "ann", "at": "2025-06-06T14:00:00"}, {}, {"to": "bob"},
    ]  # fmt: skip
    told = [p.message for p in check.undone(found)]
    assert len(told) == 2 and "nulls taken out" in told[0] and "arguments.to" in told[0]
    assert "1 timestamps written as ISO text" in told[1] and "arguments.at" in told[1]
    (done,) = found.datasets[0].undone.values()
    assert done["rows"] == 4 and sum(done["nulls"].values()) > 10
    own = source.find([str(tmp_path / "made" / "rows.parquet")], evaluation=[str(tmp_path / "made" / "*.parquet")])
    again = source.read(own)  # the same table as a file of the user's
    assert [item.row.calls for item in again.items] == [item.row.calls for item in loaded.items]
    assert {item.split for item in again.items} == {"eval"} and check.undone(own)


@pytest.mark.slow
def test_a_file_that_is_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really")
    monkeypatch.setattr(datasets, "cache", lambda: tmp_path / "cache")
    with pytest.raises(EdgeError, match=r"x\.parquet: not a Parquet file"):
        source.find([str(tmp_path / "x.parquet")])
