"""Is this folder what its contract says? Every file's digest, the contract's own, and its form. Nothing is run or loaded.

    python3 verify.py [FOLDER] [--digest HEX] [--json]

A copy of this file lies in every handed over folder. Python 3.9 or newer and its standard library, no network.

Exits with 0 if every file is as the contract says, 1 if not, 2 if there is no contract that can be read. Files that the
contract doesn't name are listed and change nothing. The digests prove that files and contract belong together; somebody
who changes both can make new ones. What proves where the contract comes from is its digest from another source
(`--digest`, sent by whoever handed it over), or a signature (contract.json.minisig: `minisign -Vm contract.json -P KEY`).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, Optional

CONTRACT, SCHEMA, SIGNATURE = "contract.json", "contract.schema.json", "contract.json.minisig"
NEWEST = 1  # version of the contract that this file knows
Json = dict[str, Any]


class Unreadable(Exception):
    """There is no contract here that can be read."""


def digest_of(contract: Json) -> str:
    """sha256 over everything in the contract but `digest` itself, as JSON with sorted keys and no spaces, in UTF-8."""
    rest = {key: value for key, value in contract.items() if key != "digest"}
    text = json.dumps(rest, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read(folder: Path) -> Json:
    """The contract of a folder. Raises Unreadable."""
    file = folder / CONTRACT
    try:
        contract = json.loads(file.read_bytes().decode("utf-8"), object_pairs_hook=_once)
    except OSError as error:
        raise Unreadable(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{file}: not JSON: {error}") from None
    if not isinstance(contract, dict) or not isinstance(contract.get("version"), int):
        raise Unreadable(f"{file}: no contract (it has no version)")
    if contract["version"] > NEWEST:
        raise Unreadable(f"{file}: of version {contract['version']}; this knows up to {NEWEST}: take a newer verify.py")
    return contract


def _once(pairs: list[tuple[str, Any]]) -> Json:
    """Two keys of one name would let readers see different contracts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def problems(folder: Path, schema: Optional[Json] = None, digest: Optional[str] = None) -> list[str]:
    """What is wrong, one sentence each; empty if nothing is. Raises Unreadable.

    schema: the JSON Schema to hold the contract against [default: the folder's]. digest: what the contract's shall be.
    """
    contract = read(folder)
    found = []
    ours = digest_of(contract)
    if contract.get("digest") != ours:
        found.append(f"{CONTRACT}: changed by hand: its digest is {ours}, and it says {contract.get('digest')}")
    if digest and digest.lower() != ours:
        found.append(f"{CONTRACT}: not the one that was announced: its digest is {ours}, not {digest.lower()}")
    files = files_of(contract)
    if schema is None and SCHEMA in files and not damage(folder, SCHEMA, files[SCHEMA]):  # a damaged one judges nothing
        schema = json.loads((folder / SCHEMA).read_bytes())
    found += [f"{CONTRACT}: {wrong}" for wrong in invalid(contract, schema or {})]
    for path in sorted(files):
        wrong = damage(folder, path, files[path])
        if wrong:
            found.append(wrong)
    return found + _model(contract)


def files_of(contract: Json) -> Json:
    """The files that a contract names; none if an edit left something else there."""
    listed = contract.get("files")
    return listed if isinstance(listed, dict) else {}


def _model(contract: Json) -> list[str]:
    """The model's own entry must name a file of the list, with the same digest."""
    model, files = contract.get("model"), contract.get("files")
    if not isinstance(model, dict) or not isinstance(files, dict):
        return [f"{CONTRACT}: it names no model, or no files"]
    entry = files.get(str(model.get("file")))
    same = isinstance(entry, dict) and entry.get("sha256") == model.get("sha256")
    return [] if same else [f"{CONTRACT}: its model {model.get('file')} is not among its files with that digest"]


def damage(folder: Path, path: str, entry: Any) -> Optional[str]:
    """What is wrong with one file, or None."""
    parts = path.split("/")
    if "\\" in path or not path or any(part in ("", ".", "..") for part in parts) or ":" in parts[0]:
        return f"{path!r}: a path that leads out of the folder, or nowhere"
    if not isinstance(entry, dict):
        return f"{path}: the contract says nothing of it"
    here = folder
    try:
        for part in parts:
            here = here / part
            if here.is_symlink():
                return f"{path}: a link, not the file itself"
        if not here.is_file():
            return f"{path}: missing"
        size = here.stat().st_size
        if size != entry.get("bytes"):
            return f"{path}: {size} bytes, and the contract says {entry.get('bytes')}: cut short or changed"
        if file_digest(here) != entry.get("sha256"):
            return f"{path}: changed: its sha256 is not the contract's"
    except OSError as error:
        return f"{path[:200]}: {error.strerror}"
    return None


def file_digest(file: Path) -> str:
    sha = hashlib.sha256()
    with file.open("rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            sha.update(block)
    return sha.hexdigest()


def unknown(folder: Path, contract: Json) -> list[str]:
    """Files that lie in the folder and that the contract doesn't name, as paths with slashes."""
    named = {*files_of(contract), CONTRACT, SIGNATURE}
    found = []
    for top, folders, names in os.walk(str(folder)):
        folders[:] = sorted(f for f in folders if f != "__pycache__")
        links = [f for f in folders if Path(top, f).is_symlink()]
        for name in sorted([*names, *links]):
            path = Path(top, name).relative_to(folder).as_posix()
            if path not in named:
                found.append(path)
    return found


# --- as much of JSON Schema (2020-12) as contract.schema.json uses ------------------------------------------------------


def invalid(value: Any, schema: Json, at: str = "", root: Optional[Json] = None) -> list[str]:
    """Where a value departs from a schema. Keywords that it doesn't know are passed over, as the standard has it."""
    whole: Json = schema if root is None else root
    where = at or "it"
    if "$ref" in schema:
        target = whole
        for part in str(schema["$ref"]).lstrip("#/").split("/"):
            target = target[part]
        return invalid(value, target, at, whole)
    kinds = schema.get("type")
    if kinds is not None and not any(_is(value, k) for k in ([kinds] if isinstance(kinds, str) else kinds)):
        return [f"{where} is {json.dumps(value)[:60]}, not of type {kinds}"]
    found = []
    if "const" in schema and not _same(value, schema["const"]):
        found.append(f"{where} is {json.dumps(value)[:60]}, not {json.dumps(schema['const'])}")
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        found.append(f"{where} is {json.dumps(value)[:60]}, not one of {json.dumps(schema['enum'])}")
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{where} is {value[:60]!r}, which is not of the form {schema['pattern']}")
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        found.append(f"{where} is too short")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if "minimum" in schema and value < schema["minimum"]:
            found.append(f"{where} is {value}, less than {schema['minimum']}")
        if "maximum" in schema and value > schema["maximum"]:
            found.append(f"{where} is {value}, more than {schema['maximum']}")
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            found.append(f"{where} has {len(value)} entries, fewer than {schema['minItems']}")
        for n, item in enumerate(value):
            found += invalid(item, schema.get("items", {}), f"{at}[{n}]", whole)
    if isinstance(value, dict):
        found += _object(value, schema, at, whole)
    return found


def _object(value: Json, schema: Json, at: str, root: Json) -> list[str]:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    found = [f"{at or 'it'} has no {name}" for name in schema.get("required", []) if name not in value]
    if len(value) < schema.get("minProperties", 0):
        found.append(f"{at or 'it'} is empty")
    for name, item in value.items():
        here = f"{at}.{name}" if at else name
        if name in known:
            found += invalid(item, known[name], here, root)
        elif others is False:
            found.append(f"{here} is nothing that a contract has")
        elif isinstance(others, dict):
            found += invalid(item, others, here, root)
    return found


def _same(a: Any, b: Any) -> bool:
    """Equal as JSON has it: true is no 1."""
    return bool(a == b) and isinstance(a, bool) is isinstance(b, bool)


def _is(value: Any, kind: str) -> bool:
    if kind == "integer":
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return whole and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    known = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    return isinstance(value, known[kind])


# --- the command --------------------------------------------------------------------------------------------------------


def main(argv: Optional[list[str]] = None) -> int:
    ask = argparse.ArgumentParser(description="Is this folder what its contract.json says?")
    ask.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    ask.add_argument("--digest", help="what the contract's digest shall be, from whoever handed it over")
    ask.add_argument("--json", action="store_true", help="print the result as JSON")
    given = ask.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names that this terminal's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        contract = read(given.folder)
        wrong = problems(given.folder, digest=given.digest)
    except Unreadable as error:
        print(json.dumps({"ok": False, "problems": [str(error)]}) if given.json else f"verify: {error}")
        return 2
    extra = unknown(given.folder, contract)
    if given.json:
        print(json.dumps({"ok": not wrong, "problems": wrong, "unknown": extra, "digest": digest_of(contract)}))
        return 1 if wrong else 0
    for line in wrong:
        print(f"wrong: {line}")
    for path in extra:
        print(f"not in the contract: {path}")
    count = len(files_of(contract))
    print(
        f"{len(wrong)} wrong"
        if wrong
        else f"all {count} files are as the contract says; its digest: {digest_of(contract)}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
