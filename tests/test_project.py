"""edge.toml: what is read, and what is said about what is wrong with it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from edge import project, starter
from edge.cli import main
from edge.errors import EdgeError

MINIMAL = '[project]\nname = "app"\n'


@pytest.fixture
def write(tmp_path):
    for name in ("train.jsonl", "eval.jsonl", "more-1.jsonl", "more-2.jsonl"):
        (tmp_path / name).write_text("{}\n")

    def _write(text: str):
        (tmp_path / "edge.toml").write_text(text)
        return tmp_path / "edge.toml"

    return _write


def test_defaults(write):
    found = project.load(write(MINIMAL))
    assert (found.name, found.base, found.dialect) == ("app", "edge-tiny", "functiongemma")
    assert found.export == {"gguf": ["f16", "q8_0", "q4_k_m", "q4_0-emb-q4_0"]} and found.bench["rows"] == 300
    assert found.tools == found.folder / "tools.py" and found.build == found.folder / "build"


def test_paths_are_told_without_detours(write):
    folder = write(MINIMAL + '[tools]\nfile = "sub/../tools.json"\n').parent
    (folder / "sub").mkdir()
    found = project.load(folder / "sub" / "..")
    assert (found.file, found.tools) == (folder / "edge.toml", folder / "tools.json")


def test_a_slip_in_the_file_itself_names_line_and_remedy(write):
    with pytest.raises(EdgeError, match=r"edge\.toml: not TOML: .*line 2") as caught:
        project.load(write("[project]\nname = app\n"))
    assert "edge init --explain" in caught.value.hint


def test_a_folder_will_do(write):
    assert project.load(write(MINIMAL).parent).name == "app"


def test_globs(write):
    found = project.load(write(MINIMAL + '[data]\ntrain = ["more-*.jsonl", "more-1.jsonl"]\n'))
    assert [f.name for f in found.train] == ["more-1.jsonl", "more-2.jsonl"]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            MINIMAL + "[train]\nepoch = 3\n",
            r"edge\.toml, line 4: no key in \[train\] named 'epoch'",
            "did you mean 'epochs'",
        ),
        (MINIMAL + "[trian]\n", r"line 3: no table named 'trian'", "did you mean 'train'"),
        (
            MINIMAL + "[train]\nepochs = 'three'\n",
            r"line 4: epochs in \[train\] must be an integer, not 'three'",
            "passes over",
        ),
        (MINIMAL + "[train]\nepochs = true\n", "must be an integer", None),
        (MINIMAL + "[train]\nepochs = -1\n", "must be at least 1, not -1", None),
        (MINIMAL + "[train]\nrank = 4\n[bench]\nrank = 4\n", r"line 6: no key in \[bench\] named 'rank'", None),
        (MINIMAL + "[train]\nbatch_size = 0\n", "must be at least 1, not 0", None),
        (MINIMAL + "[train]\nlearning_rate = nan\n", "must be above 0, not nan", None),
        (MINIMAL + "[train]\nwarmup = 7\n", "share of the steps", None),
        (MINIMAL + "[model]\nbase = ''\n", "must not be empty", None),
        (MINIMAL + "[bench]\nruntime = 'foo'\n", "must be auto, llama_cpp or xllamacpp", None),
        (MINIMAL + "[export]\ngguf = 'q8_0'\n", "must be a list of strings", None),
        (MINIMAL + "[data]\ntrain = ['absent.jsonl']\n", "no file 'absent.jsonl'", "relative to edge.toml"),
        (MINIMAL + "[model]\ndialect = 'gemma'\n", "no dialect 'gemma'", "functiongemma"),
        (MINIMAL + "[export]\nimportance = 1\n", "must be true or false", None),
        (MINIMAL + "[export]\ngguf = ['iq2_m']\n", "needs an importance matrix", None),
        (MINIMAL + "[export]\nlitertlm = ['int9']\n", "no quantisation 'int9'", None),
        (MINIMAL + "[export]\ngguf = ['q4_k_n']\n", "no quantisation 'q4_k_n'", "did you mean q4_k"),
        ("[project]\n", r"\[project\] has no name", None),
        ("[project]\nname = '../x'\n", "can't be a file's name", None),
        ("[project\n", r"edge\.toml: .*line 1", None),
    ],
)
def test_mistakes_name_the_line_and_the_remedy(write, text, message, hint):
    with pytest.raises(EdgeError, match=message) as caught:
        project.load(write(text))
    assert not hint or hint in caught.value.hint


def test_no_project(tmp_path):
    with pytest.raises(EdgeError, match="no such file") as caught:
        project.load(tmp_path)
    assert "edge init" in caught.value.hint


def test_starter_writes_a_project_that_loads_and_overwrites_nothing(tmp_path):
    files = starter.write(tmp_path / "my app")
    assert {f.name for f in files} == {"edge.toml", "tools.py", "train.jsonl", "eval.jsonl"}
    assert project.load(tmp_path / "my app").name == "my-app"
    with pytest.raises(EdgeError, match="already there"):
        starter.write(tmp_path / "my app")


def test_explain_lists_every_key():
    text = starter.explain()
    for table, keys in project.KEYS.items():
        assert f"[{table}]" in text
        assert all(f"\n{key} = " in text for key in keys)
    told = json.loads(CliRunner().invoke(main, ["init", "--explain", "--json"]).output)
    assert {table: set(keys) for table, keys in told.items()} == {t: set(keys) for t, keys in project.KEYS.items()}
