"""docs/records.schema.json says what the dataclasses are, what the code writes keeps it, and records of earlier versions load."""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from pathlib import Path
from typing import Any

import pytest
from benchresults import RECORDS, Folder
from jsonschema import Draft202012Validator

from edge import records
from edge.bench import report as reports
from edge.bench.report import folder, matrix
from edge.devices import VITALS
from edge.records import Artifact, Checkpoint, Measurement, Report, Sample

DOCS = Path(__file__).resolve().parents[1] / "docs"
SCHEMA = json.loads((DOCS / "records.schema.json").read_text(encoding="utf-8"))
KINDS = (Checkpoint, Artifact, Sample, Measurement, Report)
BY_NAME = {"checkpoint": Checkpoint, "artifact": Artifact, "measurement": Measurement, "report": Report}
OLD = sorted(RECORDS.glob("*.json"))
JSON_TYPES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
    list: "array",
    type(None): "null",
}


def validate(value: Any, name: str) -> None:
    Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]}).validate(json.loads(json.dumps(value)))


def types_of(hint: Any) -> set[str]:
    origin = typing.get_origin(hint)
    if origin is typing.Union:
        return set().union(*map(types_of, typing.get_args(hint)))
    return {JSON_TYPES[origin or hint]}


def allowed(schema: dict[str, Any]) -> set[str]:
    """Which JSON types a schema lets through."""
    if "$ref" in schema:
        return allowed(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    if "oneOf" in schema:
        return set().union(*map(allowed, schema["oneOf"]))
    if "const" in schema or "enum" in schema:
        return {JSON_TYPES[type(v)] for v in schema.get("enum", [schema.get("const")])}
    return {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_schema_has_the_fields_of_the_dataclass(kind: Any) -> None:
    told, hints = SCHEMA["$defs"][kind.__name__], typing.get_type_hints(kind)
    assert list(told["properties"]) == [f.name for f in dataclasses.fields(kind)]
    needed = [f.name for f in dataclasses.fields(kind)
              if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]  # fmt: skip
    assert [name for name in told["required"] if name != "schema"] == needed
    for name, hint in hints.items():
        assert allowed(told["properties"][name]) == types_of(hint), name


def test_vitals_are_those_of_the_devices() -> None:
    assert set(SCHEMA["$defs"]["Vitals"]["properties"]) == {"at_s", "round", *VITALS}


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    used = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(SCHEMA)))
    assert used <= set(SCHEMA["$defs"]) and SCHEMA["$defs"]["Measurement"]["properties"]["schema"] == {
        "const": records.SCHEMA
    }


def test_the_page_tells_every_record() -> None:
    page = (DOCS / "records.md").read_text(encoding="utf-8")
    for name, told in SCHEMA["$defs"].items():
        assert f"`{name}`" in page, name
        if name in ("Sample", "Measurement"):
            assert not [field for field in told["properties"] if f"`{field}`" not in page]


# ---- what earlier versions wrote: each file is named by the commit whose code made it


def test_there_are_old_records() -> None:
    assert {f.name.partition("-")[0] for f in OLD} == set(BY_NAME) and len(OLD) >= 7


@pytest.mark.parametrize("file", OLD, ids=lambda file: file.stem)
def test_an_old_record_loads_and_keeps_the_schema(file: Path) -> None:
    name = file.name.partition("-")[0]
    kind = BY_NAME[name]
    written = json.loads(file.read_text(encoding="utf-8"))
    found = records.load(kind, file)
    again = json.loads(json.dumps(dataclasses.asdict(found)))
    assert {key: again[key] for key in written if key != "samples"} == {
        k: v for k, v in written.items() if k != "samples"
    }
    validate(written, kind.__name__)
    validate(again, kind.__name__)


@pytest.mark.parametrize("file", [f for f in OLD if f.name.startswith("measurement")], ids=lambda file: file.stem)
def test_an_old_measurement_stands_in_a_report(tmp_path: Path, file: Path) -> None:
    old = records.load(Measurement, file)
    rows = [{"id": s.row, "prompt": "", "expected": []} for s in old.samples]
    (tmp_path / "workloads").mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    lines = tmp_path / "workloads" / "rows"
    lines.write_text(text)
    digest = records.digest_file(lines)
    lines.rename(lines.with_name(f"{digest[:12]}.jsonl"))
    (tmp_path / "local").mkdir()
    records.save(dataclasses.replace(old, workload=digest), tmp_path / "local" / "q8_0.json")
    records.save({"schema": 1, "dialect": "functiongemma", "workload": digest, "subjects": {}}, tmp_path / "bench.json")
    (cell,) = matrix.build(folder.read(tmp_path)).cells
    assert cell["call_ms"]["n"] == len(old.samples) == 3 and cell["loads"]["warm"]["value"] == old.load_s


# ---- what is written now


def test_what_the_code_writes_keeps_the_schema(tmp_path: Path) -> None:
    made = Folder(tmp_path, 60)
    made.tuned()
    vitals = [{"at_s": 1.5, "round": 0, **dict.fromkeys(VITALS)}]
    rates = [{"prefill_tokens": 8, "prefill_s": 0.1, "decode_tokens": 8, "decode_s": 0.2, "round": 0}]
    loads = [{"load_s": 0.5, "file_cache": "cold", "round": 0}]
    run = made.add("q8_0", samples=made.samples(range(7)), vitals=vitals, rates=rates, loads=loads, profile="full")
    error = {"kind": "crash", "message": "died", "hint": None}
    validate(dataclasses.asdict(run), "Measurement")
    validate(dataclasses.asdict(made.add("q4_0", samples=[], error=error)), "Measurement")
    validate(json.loads((tmp_path / "bench.json").read_text()), "Index")
    report = matrix.build(folder.read(tmp_path))
    assert report.wrong
    validate(dataclasses.asdict(report), "Report")
    plain = reports.build("app", made.digest, made.rows, [run], dialect="functiongemma")
    validate(dataclasses.asdict(plain), "Report")


@pytest.mark.parametrize(
    "fault",
    [{"schema": 2}, {"subject_kind": "model"}, {"samples": [{"row": "a"}]}, {"samples": [{"row": "a", "text": None, "at": 1}]},
     {"peak_rss_bytes": -1}, {"file_cache": "lukewarm"}, {"vitals": [{"round": 0}]}, {"threads": "4"}, {"error": {"kind": "x"}}],
    ids=str,
)  # fmt: skip
def test_what_breaks_the_schema_is_noticed(fault: dict[str, Any]) -> None:
    from jsonschema import ValidationError

    good = json.loads((RECORDS / "measurement-22a771b.json").read_text())
    with pytest.raises(ValidationError):
        validate({**good, **fault}, "Measurement")
