"""The zip of the package: the same bytes each time, and its core runs isolated, on old Pythons too, with the standard library alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from edge import archive

CORE = """
import json, sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
from edge import archive, bfcl, callrows, calls, dialects, errors, records, tools, worker
from edge.train import readers
tool, _ = tools.normalise({"name": "light", "description": "Switch it.", "parameters": {"type": "OBJECT", "properties": {
    "on": {"type": "BOOLEAN", "description": "On or off."}}, "required": ["on"]}})
found = {}
for name in dialects.names():
    dialect = dialects.get(name)
    assert "light" in dialect.render([{"role": "user", "content": "hi"}], [tool]) and dialect.CHAT_TEMPLATE
    answer = {"role": "assistant", "tool_calls": [{"function": {"name": "light", "arguments": {"on": True}}}]}
    found[name] = dialect.parse(dialect.completion(answer)).to_json()
outside = {m.partition(".")[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names if sys.version_info >= (3, 10) else ())
print(json.dumps({"found": found, "outside": sorted(outside), "flags": sys.flags.isolated, "from": archive.__file__}))
"""


def pythons() -> list[str]:
    """This interpreter and those of other versions, down to 3.9, that lie beside it (as pyenv lays them)."""
    beside = Path(sys.base_prefix).parent
    found = (next(beside.glob(f"3.{minor}.*/bin/python3"), None) for minor in (9, 10, 12, 13))
    return [sys.executable, *(str(f) for f in found if f)]


@pytest.mark.parametrize("python", pythons())
def test_the_core_runs_zipped_and_isolated(python, tmp_path):
    file = tmp_path / "core.zip"
    file.write_bytes(archive.build())
    done = subprocess.run(
        [python, "-I", "-c", CORE, str(file)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    call = {"name": "light", "arguments": {"on": True}}
    assert all(v == {"calls": [call], "text": "", "errors": []} for v in told["found"].values())
    assert told["flags"] == 1 and str(file) in told["from"]
    if sys.version_info[:2] >= (3, 10) and python == sys.executable:
        assert told["outside"] == ["edge"]


def test_same_files_same_bytes():
    assert archive.build() == archive.build()


def test_it_holds_every_part_and_no_weights():
    names = zipfile.ZipFile(BytesIO(archive.build())).namelist()
    for part in ("edge/records.py", "edge/dialects/functiongemma.jinja", "edge/train/workers/tune.py", "edge/bench/agent.py",
                 "edge/export/workers/gguf.py", "edge/devices/local.py"):  # fmt: skip
        assert part in names
    assert not [n for n in names if n.endswith((".safetensors", ".model", ".pyc"))]


def test_a_worker_uses_the_zip_that_it_was_given(monkeypatch, tmp_path):
    archive.path.cache_clear()
    monkeypatch.setenv("EDGE_CODE", str(tmp_path / "given.zip"))
    try:
        assert archive.path() == tmp_path / "given.zip"
    finally:
        archive.path.cache_clear()


def test_help_is_quick_because_it_imports_little():
    code = (
        "import sys; from edge.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ), check=True
    )
    assert "edge demo" in done.stdout
    for heavy in ("rich", "psutil", "tomllib", "edge.records", "edge.worker"):
        assert f"'{heavy}'" not in done.stderr
