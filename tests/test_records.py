"""Records: what is written comes back, and what can't be read is said."""

from __future__ import annotations

import json

import pytest

from edge import records
from edge.bench import measure
from edge.devices.local import Local
from edge.errors import EdgeError
from edge.records import Artifact, Measurement, Sample

SAMPLE = Sample("a", "text", prompt_tokens=3, call_s=0.5)
MEASUREMENT = Measurement("d", "q8_0", "artifact", "llama_cpp", None, {"name": "local"}, "w", 2, samples=[SAMPLE])


def test_round_trip(tmp_path):
    records.save(MEASUREMENT, tmp_path / "m.json")
    assert records.load(Measurement, tmp_path / "m.json") == MEASUREMENT
    assert json.loads((tmp_path / "m.json").read_text())["peak_rss_bytes"] is None  # unknown is null, never 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "written by a newer edge"),
        ({"schema": None}, "no schema number"),
        ({"samples": [{"row": "a", "text": "b", "extra": 1}]}, "not a Measurement record"),
        ({"samples": 3}, "not a Measurement record"),
    ],
)
def test_what_can_not_be_read(tmp_path, change, message):
    records.save(MEASUREMENT, tmp_path / "m.json")
    value = {**json.loads((tmp_path / "m.json").read_text()), **change}
    (tmp_path / "m.json").write_text(json.dumps(value))
    with pytest.raises(EdgeError, match=message):
        records.load(Measurement, tmp_path / "m.json")


def test_broken_json_names_file_and_line(tmp_path):
    (tmp_path / "a.json").write_text('{"schema": 1,\n oops}')
    with pytest.raises(EdgeError, match=r"a\.json, line 2: not JSON"):
        records.load(Artifact, tmp_path / "a.json")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    records.save({"a": 1}, tmp_path / "a.json")
    with pytest.raises(TypeError):
        records.save({"a": object()}, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]


def test_what_can_not_be_written_is_named_as_it_was_asked_for(tmp_path):
    name = "a" * 254  # which the file beside it can't have
    with pytest.raises(OSError) as caught:
        records.write_text(tmp_path / name, "text")
    assert caught.value.filename == str(tmp_path / name)


def test_a_folder_s_digest_ignores_our_own_records(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x")
    before = records.digest_folder(tmp_path)
    (tmp_path / "checkpoint.json").write_text("{}")
    assert records.digest_folder(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(b"y")
    assert records.digest_folder(tmp_path) != before


def test_a_measurement_is_of_its_machine_code_and_environment(tmp_path):
    subject = measure.Subject("q8_0", tmp_path, "digest", "artifact", "gguf")
    settings = measure.Settings("llama_cpp", 2, 1024, 128, ("<eos>",))
    facts = Local().facts()
    one = measure.key(subject, settings, "w", {"packages": ["a==1"]}, facts)
    assert one == measure.key(subject, settings, "w", {"packages": ["a==1"]}, dict(facts))
    assert one != measure.key(subject, settings, "w", {"packages": ["a==2"]}, facts)
    assert one != measure.key(subject, settings, "w", {"packages": ["a==1"]}, {**facts, "cpu": "another"})
    assert one != measure.key(subject, settings, "other", {"packages": ["a==1"]}, facts)
