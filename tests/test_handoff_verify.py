"""Whether a folder is still what its contract says, by `edge handoff verify` and by the folder itself; signatures."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from handoff_scene import (
    QUIET,
    Scene,
    edge,
    read,
    rewrite,
    scene,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge import environments
from edge.errors import EdgeError
from edge.export.handoff import contract, signing, verify
from edge.records import Json

SHIPPED = ("verify.py", "ollama_prove.py", "ollama_chat.py", "ollama_raw.py")


@pytest.fixture
def app(tmp_path: Path) -> Scene:
    return scene(tmp_path)


@pytest.fixture(scope="module")
def handed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is only read, or copied."""
    return scene(tmp_path_factory.mktemp("app")).hand_over().folder


# --- is it still what it says? ------------------------------------------------------------------------------------------


def test_the_folder_verifies_itself_with_the_standard_library_alone(handed: Path) -> None:
    done = subprocess.run([sys.executable, "-I", "-S", str(handed / "verify.py")], capture_output=True, text=True)
    assert done.returncode == 0 and verify.digest_of(read(handed)) in done.stdout
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(handed / "verify.py"), "--json"], capture_output=True, text=True
    )
    assert json.loads(done.stdout)["ok"]


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_is_python_3_9_and_imports_the_standard_library_alone(name: str) -> None:
    tree = ast.parse((Path(verify.__file__).with_name(name)).read_text(), feature_version=(3, 9))
    modules = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    modules |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert {m.partition(".")[0] for m in modules} <= set(sys.stdlib_module_names)


def copied(handed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(handed, tmp_path / "copy"))


FAULTS = {
    "changed": lambda f: (f / "Modelfile").write_text((f / "Modelfile").read_text().replace("PARSER", "PARSEX")),
    "longer": lambda f: (f / "raw.py").write_text("#"),
    "missing": lambda f: (f / "chat.py").unlink(),
    "model": lambda f: (f / "app-q8_0.gguf").write_bytes(bytes((f / "app-q8_0.gguf").stat().st_size)),
    "link": lambda f: (
        (f / "tools.json").rename(f.parent / "t.json"),
        (f / "tools.json").symlink_to(f.parent / "t.json"),
    ),
    "schema": lambda f: (f / "contract.schema.json").write_text("{}"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_in_a_folder_is_noticed(handed: Path, tmp_path: Path, fault: str) -> None:
    folder = copied(handed, tmp_path)
    assert edge("verify", folder).exit_code == 0
    FAULTS[fault](folder)
    done = edge("verify", folder)
    assert done.exit_code == 6 and "wrong: " in done.output
    assert subprocess.run([sys.executable, str(folder / "verify.py")], capture_output=True).returncode == 1


def test_files_that_the_contract_does_not_name_are_told_and_change_nothing(handed: Path, tmp_path: Path) -> None:
    folder = copied(handed, tmp_path)
    (folder / "build").mkdir()
    (folder / "build" / "x.txt").write_text("x")
    done = edge("verify", folder, "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["unknown"] == ["build/x.txt"]


def schema_of(text: str) -> Any:
    return lambda folder: (folder / verify.SCHEMA).write_text(text)


def contract_of(change: Any) -> Any:
    def edit(folder: Path) -> None:
        told = read(folder)
        change(told)
        rewrite(folder, told)

    return edit


EDITS = {
    "files is nothing": contract_of(lambda told: told.update(files=None)),
    "files is a number": contract_of(lambda told: told.update(files=5)),
    "files is a list": contract_of(lambda told: told.update(files=[{"a": 1}])),
    "no files": contract_of(lambda told: told.pop("files")),
    "no date": contract_of(lambda told: told.pop("created_at")),
    "no model": contract_of(lambda told: told.pop("model")),
    "half a surrogate pair": contract_of(
        lambda told: told["files"].update({"\ud800": {"sha256": "0" * 64, "bytes": 1}})
    ),
    "a long name": contract_of(lambda told: told["files"].update({"x" * 400: {"sha256": "0" * 64, "bytes": 1}})),
    "a schema that is a list": schema_of("[]"),
    "a schema that leads nowhere": schema_of('{"$ref": "#/x/y"}'),
}


@pytest.mark.parametrize("edit", EDITS)
def test_whatever_somebody_wrote_there_it_is_named_and_nothing_falls_over(app: Scene, edit: str) -> None:
    folder = app.hand_over().folder
    EDITS[edit](folder)
    done = edge("verify", folder)
    assert done.exit_code == 6 and "wrong: " in done.output and isinstance(done.exception, SystemExit)
    told = subprocess.run(
        [sys.executable, str(folder / "verify.py")], capture_output=True, text=True, env={"PYTHONIOENCODING": "ascii"}
    )
    assert told.returncode == 1 and "wrong: " in told.stdout and "Traceback" not in told.stderr
    with pytest.raises(EdgeError, match="somebody has worked in it"):
        app.hand_over()


@pytest.mark.parametrize("path", ["../x", "/etc/hostname", "a/../../x", "a\\b", "", ".", "c:/x"])
def test_a_contract_can_not_point_out_of_its_folder(handed: Path, tmp_path: Path, path: str) -> None:
    folder, told = copied(handed, tmp_path), read(handed)
    told["files"][path] = {"sha256": "0" * 64, "bytes": 1}
    rewrite(folder, told, digest=True)
    assert any("out of the folder" in w for w in verify.problems(folder))


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(p for k, v in inner for p in places(v, (*at, k)))]


def changed(told: Json, at: tuple[Any, ...], value: Any, drop: bool) -> Json:
    copy = json.loads(json.dumps(told))
    here = copy
    for key in at[:-1]:
        here = here[key]
    if drop:
        del here[at[-1]]
    else:
        here[at[-1]] = value
    return dict(copy)


SCHEMA = contract.schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
VALUES = st.sampled_from([None, True, 0, -1, 1.5, "", "x", "a" * 64, [], {}, ["x"], {"a": 1}])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_edit_of_a_contract_is_noticed_and_the_form_is_judged_as_jsonschema_does(
    handed: Path, tmp_path: Path, data: st.DataObject
) -> None:
    told = read(handed)
    at = data.draw(st.sampled_from([p for p in places(told) if p]))
    edited = changed(told, at, data.draw(VALUES), data.draw(st.booleans()))
    assert bool(verify.invalid(edited, SCHEMA)) is not VALIDATOR.is_valid(edited)
    if edited == told and json.dumps(edited) == json.dumps(told):
        return
    folder = tmp_path / "edited"
    if not folder.exists():
        shutil.copytree(handed, folder)
    rewrite(folder, edited)
    try:
        assert verify.problems(folder, SCHEMA)
    except verify.Unreadable:
        assert at == ("version",)


def test_a_contract_that_was_edited_and_given_a_new_digest_shows_beside_the_announced_one(
    handed: Path, tmp_path: Path
) -> None:
    folder, told = copied(handed, tmp_path), read(handed)
    announced = told["digest"]
    told["measured"][0]["accuracy"]["value"] = 0.99
    rewrite(folder, told, digest=True)
    assert verify.problems(folder) == []  # nothing within can tell: that is what --digest and signatures are for
    assert edge("verify", folder, "--digest", announced).exit_code == 6
    assert edge("verify", handed, "--digest", announced.upper()).exit_code == 0


def test_key_order_and_spaces_are_no_edit(handed: Path, tmp_path: Path) -> None:
    folder = copied(handed, tmp_path)
    (folder / "contract.json").write_text(json.dumps(read(handed), indent=4, sort_keys=True, ensure_ascii=True))
    assert verify.problems(folder, contract.schema()) == []


@pytest.mark.parametrize(
    ("text", "word"),
    [("{", "not JSON"), ("[]", "no contract"), ('{"version": 99}', "take a newer"), ('{"version": 1, "version": 1}', "twice"),
     ("[" * 100_000, "not JSON"), (None, "No such file")],
)  # fmt: skip
def test_a_contract_that_can_not_be_read_is_bad_input(tmp_path: Path, text: str | None, word: str) -> None:
    if text is not None:
        (tmp_path / "contract.json").write_text(text)
    done = edge("verify", tmp_path)
    assert done.exit_code == 2 and word in done.output
    shutil.copy(verify.__file__, tmp_path / "verify.py")
    told = subprocess.run([sys.executable, str(tmp_path / "verify.py")], capture_output=True, text=True)
    assert told.returncode == 2 and word in told.stdout


# --- signatures -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs of minisign keys, made by the library: plain and with a password."""
    folder = tmp_path_factory.mktemp("keys")
    python = environments.ensure(environments.spec(environments.script("sign")), QUIET).python
    code = """
import sys, minisign
for name, password in (("plain", None), ("locked", "a word")):
    pair = minisign.KeyPair.generate()
    if password: pair.secret_key.encrypt(password, opslimit=32768, memlimit=16777216)
    open(f"{sys.argv[1]}/{name}.key", "wb").write(bytes(pair.secret_key) + b"\\n")
    open(f"{sys.argv[1]}/{name}.pub", "wb").write(bytes(pair.public_key) + b"\\n")
"""
    subprocess.run([str(python), "-I", "-c", code, str(folder)], check=True)
    return folder


@pytest.mark.slow
def test_a_signature_says_who_and_an_edit_undoes_it(app: Scene, keys: Path) -> None:
    out = app.top / "signed"
    done = edge("ollama", app.file, "--out", out, "--sign", keys / "plain.key")
    assert done.exit_code == 0 and "(signed)" in done.output
    shown = edge("verify", out, "--key", keys / "plain.pub")
    assert shown.exit_code == 0 and read(out)["digest"] in shown.output
    public = (keys / "plain.pub").read_text().splitlines()[1]
    assert edge("verify", out, "--key", public).exit_code == 0
    assert edge("ollama", app.file, "--out", out).stdout.startswith("=")  # a signature is nobody's change
    other = edge("verify", out, "--key", keys / "locked.pub")
    assert other.exit_code == 6 and "not made with this key" in other.output
    told = read(out)
    told["measured"][0]["right"] = 4
    rewrite(out, told, digest=True)
    assert edge("verify", out).exit_code == 0
    forged = edge("verify", out, "--key", keys / "plain.pub")
    assert forged.exit_code == 6 and "not made with this key over this contract" in forged.output
    (out / verify.SIGNATURE).write_text("x")
    assert "no signature" in edge("verify", out, "--key", keys / "plain.pub").output
    (out / verify.SIGNATURE).unlink()
    assert edge("verify", out, "--key", keys / "plain.pub").exit_code == 6
    assert edge("verify", out, "--key", "RWnonsense").exit_code in (2, 6)


@pytest.mark.slow
def test_a_signature_of_the_minisign_tool_itself_is_read(tmp_path: Path) -> None:
    """The example that its documentation publishes: the text "test"."""
    (tmp_path / "contract.json").write_bytes(b"test")
    (tmp_path / verify.SIGNATURE).write_text(
        "untrusted comment: signature from minisign secret key\n"
        "RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=\n"
        "trusted comment: timestamp:1555779966\tfile:test\n"
        "QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==\n"
    )
    key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
    assert signing.check(tmp_path, key, QUIET).comment == "timestamp:1555779966\tfile:test"
    (tmp_path / "contract.json").write_bytes(b"Test")
    assert signing.check(tmp_path, key, QUIET).problems


@pytest.mark.slow
def test_a_password_comes_from_the_environment_alone(app: Scene, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = app.hand_over().folder
    monkeypatch.delenv(signing.PASSWORD, raising=False)
    with pytest.raises(EdgeError, match="has a password"):
        signing.sign(folder, keys / "locked.key", QUIET)
    monkeypatch.setenv(signing.PASSWORD, "another")
    with pytest.raises(EdgeError, match="doesn't open it"):
        signing.sign(folder, keys / "locked.key", QUIET)
    monkeypatch.setenv(signing.PASSWORD, "a word")
    signing.sign(folder, keys / "locked.key", QUIET)
    assert edge("verify", folder, "--key", keys / "locked.pub").exit_code == 0
    (app.top / "bad.key").write_text("nothing")
    with pytest.raises(EdgeError, match="no minisign secret key"):
        signing.sign(folder, app.top / "bad.key", QUIET)
    never = app.top / "never"  # what can't be signed is not written either
    assert edge("ollama", app.file, "--out", never, "--sign", app.top / "bad.key").exit_code == 2 and not never.exists()
    (app.top / "odd.pub").write_bytes(b"\xff\xfe")
    done = edge("verify", folder, "--key", app.top / "odd.pub")
    assert done.exit_code == 2 and "no minisign public key" in done.output
