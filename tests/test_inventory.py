"""devices.toml: what is written down comes back, and what does not belong there is refused with file and line."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from edge.commands.devices import devices
from edge.devices import inventory
from edge.errors import EdgeError
from edge.locks import only_one


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_CONFIG", str(tmp_path / "conf"))
    return tmp_path / "conf"


def write(folder, text: str):
    folder.mkdir()
    (folder / "devices.toml").write_text(text, encoding="utf-8")


def test_nothing_written_down_is_this_machine(folder):
    assert [e.address for e in inventory.entries().values()] == ["local"]
    assert not folder.exists(), "reading makes nothing"


def test_what_is_added_comes_back_in_order(folder):
    inventory.add("pi5", "ssh:pi@raspberrypi.local")
    inventory.add(
        "lab", "ssh:pi@10.0.0.7:2222", folder="/mnt/ssd/edge", python="/opt/py 3/bin/python3", config='C:\\a"b'
    )
    inventory.add("phone", "adb:28271FDH2004FV")
    inventory.add("laptop", "local")
    found = inventory.entries()
    assert list(found) == ["local", "pi5", "lab", "phone", "laptop"]
    lab = found["lab"]
    assert (lab.kind, lab.target, lab.port) == ("ssh", "pi@10.0.0.7", 2222)
    assert (lab.folder, lab.python, lab.config) == ("/mnt/ssd/edge", "/opt/py 3/bin/python3", 'C:\\a"b')
    assert found["phone"].target == "28271FDH2004FV"
    assert inventory.device(found["laptop"]).name == "laptop", "a report calls it by the user's name"


@pytest.mark.parametrize(
    ("text", "target", "port"),
    [
        ("ssh:host", "host", None),
        ("ssh://me@host:22", "me@host", 22),
        ("ssh:me@[fe80::1%eth0]:2200", "me@fe80::1%eth0", 2200),
        ("ssh:fe80::1", "fe80::1", None),
        ("adb:127.0.0.1:16555", "127.0.0.1:16555", None),
    ],
)
def test_addresses(text, target, port):
    entry = inventory.add("x", text)
    assert (entry.target, entry.port) == (target, port)
    assert inventory.get("x") == entry


@pytest.mark.parametrize(
    "text", ["", "ssh:", "ssh", "usb:1", "ssh:-oProxyCommand=x", "ssh:a b", "ssh:me@", "adb:", "adb:-s", "ssh:h:99999"]
)
def test_addresses_that_are_none(text, folder):
    with pytest.raises(EdgeError):
        inventory.add("x", text)
    assert not (folder / "devices.toml").exists()


def test_removing_leaves_the_others_and_the_comments(folder):
    text = '# mine\n[pi5]\naddress = "ssh:a"\n\n# the old one\n[pi4]\naddress = "ssh:b"\nfolder = "x"\n[phone]\naddress = "adb:1"\n'
    write(folder, text)
    assert inventory.remove("pi4").target == "b"
    assert (folder / "devices.toml").read_text() == text.replace('[pi4]\naddress = "ssh:b"\nfolder = "x"\n', "")
    with pytest.raises(EdgeError, match="no device 'pi4'"):
        inventory.remove("pi4")
    with pytest.raises(EdgeError) as told:
        inventory.remove("local")
    assert "always there" in told.value.hint


def test_local_is_not_to_be_removed_to_be_added():
    with pytest.raises(EdgeError, match="'local' already: this machine") as told:
        inventory.add("local", "local")
    assert "remove" not in told.value.hint and "edge devices add NAME local" in told.value.hint
    inventory.add("pi5", "ssh:a")
    with pytest.raises(EdgeError, match="there is a device 'pi5' already") as told:
        inventory.add("pi5", "ssh:b")
    assert told.value.hint.endswith("edge devices remove pi5")


def test_inline_tables_are_read_and_not_torn_apart(folder):
    write(folder, 'pi5 = { address = "ssh:a" }\npi4 = { address = "ssh:b" }\n')
    assert list(inventory.entries()) == ["local", "pi5", "pi4"]
    with pytest.raises(EdgeError, match="can't be taken out"):
        inventory.remove("pi5")
    assert "pi5" in inventory.entries()


@pytest.mark.parametrize("key", ["password", "sudo_password", "passphrase", "Token", "pwd"])
@pytest.mark.parametrize(
    ("text", "line"), [('[a]\naddress = "ssh:a"\n[pi5]\naddress = "ssh:b"\n{}', 5), ('{}\n[a]\naddress = "ssh:a"', 1)]
)
def test_a_password_is_refused_with_its_line_and_not_repeated(folder, key, text, line):
    write(folder, text.format(f'{key} = "geheim"\n'))
    with pytest.raises(EdgeError) as told:
        inventory.entries()
    assert f"devices.toml, line {line}" in told.value.message
    assert "keys only" in told.value.hint
    assert "geheim" not in told.value.message + told.value.hint


def test_a_password_in_an_address_is_refused_and_not_repeated(folder):
    write(folder, '[pi5]\naddress = "ssh:pi:geheim@host"\n')
    with pytest.raises(EdgeError, match="line 2: a password in the address") as told:
        inventory.entries()
    assert "geheim" not in told.value.message + told.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[a]\naddress = "ssh:a"\nport = 22\n', "line 3: unknown key 'port'"),
        ('[a]\naddress = "ssh:a"\nfolder = 1\n', "line 3: folder is 1, not a text"),
        ('[a]\naddress = "ssh:a"\n\nadb = "/x"\n', "line 4: adb means nothing for ssh"),
        ('[a]\naddress = "ssh:a"\n[b]\nfolder = "x"\n', "line 3: device 'b' has no address"),
        ('[a]\naddress = "ssh:a"\n["b c"]\naddress = "ssh:b"\n', "line 3: 'b c' is no name"),
        ('# x\naddress = "ssh:a"\n', "line 2: address stands outside of a device"),
        ("[a\n", "not TOML"),
        ('[a]\naddress = "ssh:a"\nfolder = "~other/x"\n', "line 3: folder is '~other/x'"),
        ('[a]\naddress = "adb:a"\nfolder = "edge"\n', "line 3: folder is 'edge'"),
        ('[a]\naddress = "adb:a"\nfolder = "/sdcard/*"\n', "line 3: folder is '/sdcard/*'"),
    ],
)  # fmt: skip
def test_what_does_not_belong_there(folder, text, words):
    write(folder, text)
    with pytest.raises(EdgeError) as told:
        inventory.entries()
    assert words in told.value.message
    assert "devices.toml" in told.value.message


def test_the_laptop_is_this_machine_unless_another_is_called_so(folder):
    run = CliRunner().invoke
    assert inventory.get("laptop") == inventory.get("local")
    assert run(devices, ["list", "laptop", "-q"]).output.startswith("local")
    inventory.add("laptop", "ssh:me@thinkpad")
    assert inventory.get("laptop").target == "me@thinkpad"


def test_an_adb_that_is_not_there_is_said(folder):
    inventory.add("phone", "adb:28271FDH2004FV", adb="/nowhere/adb")
    told = CliRunner().invoke(devices, ["list", "phone", "-q"])
    assert (told.exit_code, told.exception.__class__) == (5, SystemExit)
    assert "there is no program /nowhere/adb" in told.output
    assert "devices.toml" in told.output


def test_nothing_is_taken_from_under_a_bench(folder):
    """The device itself is not asked: it may be busy to its limits."""
    entry = inventory.add("gone", "ssh:pi@127.0.0.1:1")
    with only_one(inventory.lock(entry), EdgeError("")):
        told = CliRunner().invoke(devices, ["clean", "gone", "-q"])
    assert told.exit_code == 5
    assert "gone: an edge bench measures there now" in told.output


def test_names_are_taken_once_and_unknown_ones_are_told_the_known(folder):
    inventory.add("pi5", "ssh:a")
    for name in ("pi5", "local"):
        with pytest.raises(EdgeError, match="already"):
            inventory.add(name, "ssh:b")
    with pytest.raises(EdgeError) as told:
        inventory.get("pi6")
    assert "local, pi5" in told.value.hint


def test_a_device_that_is_off_is_shown_with_why_and_only_named_ones_fail(folder):
    """A port that nobody listens on: the real ssh is asked."""
    run = CliRunner().invoke
    added = run(devices, ["add", "gone", "ssh:pi@127.0.0.1:1"])
    assert added.exit_code == 0, added.output
    assert "nothing answers on that port" in added.output
    assert "written down" in added.output
    every = run(devices, ["-q"])
    assert every.exit_code == 0
    assert every.output.startswith("local")
    assert "gone" in every.output
    assert run(devices, ["list", "gone"]).exit_code == 5
    assert run(devices, ["doctor", "gone"]).exit_code == 5
    told = run(devices, ["clean", "--json", "-q"])
    assert told.exit_code == 5
    assert '"kind": "device"' in told.output
    assert run(devices, ["remove", "gone"]).exit_code == 0
    assert run(devices, ["clean", "-q"]).output == "no device but this machine\n"
