"""`edge pick`: what wins, why the others fell out, how sure that is, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from benchresults import PI, Folder
from click.testing import CliRunner, Result

from edge.bench import pick as picking
from edge.bench.pick import Candidate, Choice, Limits
from edge.bench.report import folder
from edge.commands.pick import pick as command
from edge.errors import EdgeError
from edge.records import Sample

Json = dict[str, Any]


def pick(made: Folder, device: str = "pi5", allow: bool = False, **limits: Any) -> Choice:
    return picking.pick(folder.read(made.path), device, Limits(**limits), allow)


def name(choice: Choice) -> str | None:
    return choice.picked.cell.name if choice.picked else None


def why(choice: Choice, other: str) -> str:
    return "; ".join(next(c for c in choice.others if c.cell.name == other).why)


def test_one_thread_is_not_several(tmp_path: Path) -> None:
    made = Folder(tmp_path, 20)
    for threads in (1, 2):
        made.add("q8_0", threads=threads, samples=made.samples(range(2), 0.1 * threads))
    found = pick(made)
    assert found.picked and found.picked.name == "q8_0 (llama_cpp, 1 thread)"
    assert [c.name for c in found.others] == ["q8_0 (llama_cpp, 2 threads)"]


def test_the_laptop_is_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for edge bench: what was measured with --device laptop lies under local."""
    monkeypatch.setenv("EDGE_CONFIG", str(tmp_path))
    made = Folder(tmp_path / "bench", 20)
    made.add("q8_0", "local", samples=made.samples(range(2), 0.1))
    assert pick(made, "laptop").device == "local" and name(pick(made, "laptop")) == "q8_0"
    (tmp_path / "devices.toml").write_text('[laptop]\naddress = "ssh:me@thinkpad"\n')
    with pytest.raises(EdgeError, match="nothing was measured on a device 'laptop'"):
        pick(made, "laptop")


@pytest.fixture
def three(tmp_path: Path) -> Folder:
    """f16 best and slow, q8_0 hardly worse and faster, q4_0 fastest and much worse."""
    made = Folder(tmp_path, 200)
    made.tuned()
    made.add("f16", samples=made.samples(range(4), 0.3), file_bytes=8_000_000, peak_rss_bytes=90_000_000)
    made.add("q8_0", samples=made.samples(range(6), 0.2), file_bytes=5_000_000, peak_rss_bytes=60_000_000)
    made.add("q4_0", samples=made.samples(range(60), 0.1), file_bytes=3_000_000, peak_rss_bytes=50_000_000)
    return made


# ---- what wins


def test_a_difference_that_nobody_can_see_does_not_count(three: Folder) -> None:
    found = pick(three)
    assert name(found) == "q8_0", "as good as f16 as far as 200 rows can tell, and faster"
    assert "no difference seen in right calls" in why(found, "f16") and "1.50 times" in why(found, "f16")
    assert "beaten by f16" in why(found, "q4_0") and "95 % interval" in why(found, "q4_0")


def test_a_difference_that_is_seen_counts(tmp_path: Path) -> None:
    made = Folder(tmp_path, 200)
    made.add("f16", samples=made.samples(range(4), 0.3))
    made.add("q8_0", samples=made.samples(range(30), 0.2))
    assert name(pick(made)) == "f16"


def test_equal_speed_is_broken_by_size(tmp_path: Path) -> None:
    made = Folder(tmp_path, 100)
    slightly = [
        dataclasses.replace(s, call_s=s.call_s * (1.002 if i % 2 else 0.999))
        for i, s in enumerate(made.samples())
        if s.call_s
    ]
    made.add("large", file_bytes=9_000_000)
    made.add("small", file_bytes=3_000_000, samples=slightly)
    found = pick(made)
    assert name(found) == "small" and "larger: 9.00 MB to 3.00" in why(found, "large")


def test_threads_and_runtimes_are_candidates_of_their_own(three: Folder) -> None:
    three.add("q8_0", threads=1, samples=three.samples(range(6), 0.5), file_bytes=5_000_000)
    found = pick(three)
    assert found.picked and found.picked.cell.measurement.threads == 4
    assert sum(c.cell.name == "q8_0" for c in found.others) == 1


# ---- the rule, where "not shown to differ" is no order


def spread(made: Folder, times: Sequence[float]) -> list[Sample]:
    return [dataclasses.replace(s, call_s=t) for s, t in zip(made.samples(), times)]


def test_the_smaller_and_faster_one_is_not_left_for_one_whose_noise_hides_that_it_is_slow(tmp_path: Path) -> None:
    """steady is shown slower than first, erratic is not, and is slower yet, and larger: the pick of old."""
    made = Folder(tmp_path, 100)
    made.add("first", samples=spread(made, [0.300] * 100), file_bytes=5_000_000)
    made.add("steady", samples=spread(made, [0.320] * 100), file_bytes=2_530_000)
    made.add("erratic", samples=spread(made, [0.1, 0.602] * 50), file_bytes=2_820_000)
    found = pick(made)
    assert name(found) == "first"
    assert "beaten by first" in why(found, "steady") and "1.07 times (95 % interval 1.07 to 1.07)" in why(
        found, "steady"
    )
    assert "steady (llama_cpp, 4 threads), nominally no slower than it, is shown to be slower" in why(found, "erratic")


def test_what_is_right_no_more_often_than_one_shown_worse_is_not_as_good(tmp_path: Path) -> None:
    """few loses 6 rows and gains none, which shows; many loses 17 and gains 10, which doesn't, though it is 7 behind."""
    made = Folder(tmp_path, 100)
    made.add("top", samples=made.samples(range(10), 0.3))
    made.add("few", samples=made.samples(range(16), 0.2))
    made.add("many", samples=made.samples(range(10, 27), 0.1))
    found = pick(made)
    assert name(found) == "top" and "95 % interval" in why(found, "few")
    assert "few (llama_cpp, 4 threads), right no less often, is shown to be worse" in why(found, "many")


@pytest.mark.parametrize("n", [3, 30])
def test_whatever_was_measured_the_pick_is_dominated_by_nothing(tmp_path: Path, n: int) -> None:
    """Nothing that keeps the limits is as often right, as fast and as small, and better in one; and reasons are true."""
    dice = random.Random(n)
    for draw in range(60):
        made = Folder(tmp_path / str(draw), n)
        for i in range(6):
            wrong = [row for row in range(n) if dice.random() < dice.choice((0.05, 0.3))]
            level, noise = dice.choice((0.3, 0.31, 0.35)), dice.choice((0.0, 0.05, 0.5))
            times = [level * math.exp(dice.gauss(0, noise)) for _ in range(n)]
            samples = [dataclasses.replace(s, call_s=v) for s, v in zip(made.samples(wrong), times)]
            made.add(f"a{i}", samples=samples, file_bytes=dice.choice((3, 4, 5)) * 10**6)
        limits = {"min_accuracy": 0.7} if draw % 2 else {}
        found = pick(made, **limits)
        assert bool(found.picked) == any(not c.out for c in [*found.others, *filter(None, [found.picked])])
        if found.picked is None:
            continue
        mine = nominal(found.picked)
        for other in (c for c in found.others if not c.out):
            theirs = nominal(other)
            assert not (all(a <= b for a, b in zip(theirs, mine)) and theirs != mine), (other.name, theirs, mine)
            times = re.search(r"median call takes ([\d.]+) times", other.beaten or "")
            assert times is None or float(times[1]) >= 1, other.beaten
            alike = re.search(r"beaten by (a\d).*: no difference seen in right calls", other.beaten or "")
            by = next((c for c in [found.picked, *found.others] if alike and c.cell.name == alike[1]), other)
            low, high = (getattr(picking._difference(by, other), end) for end in ("low", "high"))
            assert low <= 0 <= high, other.beaten
        shuffled = [*found.others, found.picked]
        dice.shuffle(shuffled)
        assert picking._best([c for c in shuffled if not c.out]) is found.picked, "in whatever order they come"


def nominal(c: Candidate) -> tuple[float, float, float]:
    """Less is better."""
    assert c.accuracy.value is not None and c.median_s.value is not None and c.cell.measurement.file_bytes
    return 1 - c.accuracy.value, c.median_s.value, c.cell.measurement.file_bytes


# ---- limits


@pytest.mark.parametrize(
    ("limits", "best", "fell", "reason"),
    [
        ({"max_size_bytes": 4_000_000}, "q4_0", "q8_0", "file 5.00 MB, over 4.00 MB by 25.0 %"),
        ({"max_rss_bytes": 55_000_000}, "q4_0", "f16", "peak memory 90.0 MB, over 55.0 MB by 63.6 %"),
        ({"max_p95_s": 0.25}, "q8_0", "f16", "p95 of calls"),
        ({"min_accuracy": 0.9}, "q8_0", "q4_0", "right calls 70.0 %, under 90.0 % by 20.0 points"),
        ({"min_accuracy": 0.98, "max_p95_s": 1.0}, "f16", "q8_0", "right calls 97.0 %, under 98.0 %"),
    ],
)
def test_a_limit_lets_out_what_breaks_it(three: Folder, limits: Json, best: str, fell: str, reason: str) -> None:
    found = pick(three, **limits)
    assert name(found) == best and reason in why(found, fell)


def test_the_limit_itself_is_kept(three: Folder) -> None:
    assert name(pick(three, max_size_bytes=5_000_000, min_accuracy=0.97)) == "q8_0"
    assert name(pick(three, max_size_bytes=4_999_999, min_accuracy=0.97)) is None


def test_where_nothing_fits_the_nearest_is_told(three: Folder) -> None:
    found = pick(three, max_size_bytes=2_900_000, max_rss_bytes=55_000_000)
    assert found.picked is None and found.nearest and found.nearest.cell.name == "q4_0"
    assert found.others[0].cell.name == "q4_0"


def test_what_is_not_known_keeps_no_limit(three: Folder) -> None:
    three.add("q8_0", samples=three.samples(range(6), 0.2), peak_rss_bytes=None)
    assert "not known" in why(pick(three, max_rss_bytes=10**9), "q8_0")
    assert name(pick(three)) == "q8_0", "without the limit it is no matter"


def test_what_failed_or_was_cut_short_is_never_picked(three: Folder) -> None:
    samples = three.samples(call_s=0.001)
    three.add("died", samples=samples, error={"kind": "crash", "message": "ended by SIGILL", "hint": None})
    three.add("cut", samples=samples[:50])
    found = pick(three)
    assert name(found) == "q8_0" and why(found, "died") == "failed: ended by SIGILL"
    assert why(found, "cut") == "not measured to its end: 150 of 200 rows were never reached"


def test_a_checkpoint_is_no_candidate(three: Folder) -> None:
    with pytest.raises(EdgeError, match="nothing was measured on a device 'local'"):
        pick(three, "local")


# ---- how sure


def test_how_sure_it_is_comes_from_drawing_rows(three: Folder) -> None:
    p95 = pick(three).others[0].p95_s
    assert p95.low is not None and p95.value is not None and p95.high is not None and p95.low < p95.value < p95.high
    near = pick(three, max_p95_s=next(c for c in [pick(three).picked] if c).p95_s.value)
    assert near.picked and near.picked.sure is not None and 0.2 < near.picked.sure < 0.9
    assert any(doubt.startswith("p95 may") for doubt in near.picked.doubts)
    far = pick(three, max_p95_s=10.0, min_accuracy=0.5)
    assert far.picked and far.picked.sure == 1.0 and not far.picked.doubts
    assert pick(three, max_size_bytes=10**9).picked.sure is None  # type: ignore[union-attr]
    assert near.to_json() == pick(three, max_p95_s=near.limits.max_p95_s).to_json(), "the same draws every time"


def test_a_few_rows_that_are_all_right_are_not_certain(tmp_path: Path) -> None:
    made = Folder(tmp_path / "few", 3)
    made.add("q8_0")
    found = pick(made, min_accuracy=0.99, max_p95_s=0.8)
    assert found.picked and found.picked.sure is not None and 0.1 < found.picked.sure < 0.5
    assert (
        "accuracy: the 95 % interval of 3 rows begins at 43.9 %, under 99.0 %: measure more rows" in found.picked.doubts
    )
    assert any(
        doubt.startswith("accuracy may not be under") or "may be under" in doubt for doubt in found.picked.doubts
    )
    many = Folder(tmp_path / "many", 3000)
    many.add("q8_0")
    surer = pick(many, min_accuracy=0.99)
    assert surer.picked and surer.picked.sure == 1.0 and not surer.picked.doubts


def test_what_misses_the_accuracy_is_not_told_that_its_interval_does(three: Folder) -> None:
    out = next(c for c in pick(three, min_accuracy=0.9).others if c.cell.name == "q4_0")
    assert out.out and out.sure == 0.0 and not out.doubts


def test_few_rows_are_no_ground_for_a_tail(tmp_path: Path) -> None:
    made = Folder(tmp_path, 20)
    made.add("q8_0")
    found = pick(made, max_p95_s=1.0)
    assert found.picked and any("measure more rows" in doubt for doubt in found.picked.doubts)


def test_noise_and_throttling_are_told(tmp_path: Path) -> None:
    made = Folder(tmp_path, 60)
    made.add("q8_0", load_average_before=9.0, throttled=True)
    found = pick(made)
    assert found.picked and [d.partition(":")[0] for d in found.picked.doubts] == ["noisy", "throttled"]


# ---- emulated devices, and what is refused


def test_an_emulated_device_is_refused_unless_allowed_and_then_told(three: Folder) -> None:
    three.add("q8_0", "stand-in", samples=three.samples(), device={**PI, "emulated": True})
    with pytest.raises(EdgeError, match="stand-in is emulated"):
        pick(three, "stand-in")
    found = pick(three, "stand-in", allow=True)
    assert found.emulated and "none of these figures is a real device's" in found.notes[0]
    assert name(pick(three)) == "q8_0" and not pick(three).emulated


@pytest.mark.parametrize(
    ("text", "value"),
    [("400MB", 400_000_000), ("1.2GB", 1_200_000_000), ("300 mib", 314_572_800), ("5000", 5000), (".5gb", 5 * 10**8)],
)
def test_sizes(text: str, value: int) -> None:
    assert picking.parse_bytes(text) == value


@pytest.mark.parametrize(("text", "value"), [("800ms", 0.8), ("1.5s", 1.5), ("2 min", 120)])
def test_times(text: str, value: float) -> None:
    assert picking.parse_seconds(text) == pytest.approx(value)


@pytest.mark.parametrize(("text", "value"), [("0.9", 0.9), ("90%", 0.9), ("57 %", 0.57), ("1", 1.0)])
def test_shares(text: str, value: float) -> None:
    assert picking.parse_share(text) == value


@pytest.mark.parametrize(
    ("reader", "text"),
    [("parse_bytes", t) for t in ("400 parsecs", "-1MB", "", "MB", "0", "1e9", "nan", "400MB300")]
    + [("parse_seconds", t) for t in ("800", "0ms", "1 hour", "inf s")]
    + [("parse_share", t) for t in ("90", "0", "1.01", "101%", "ninety", "0.9MB")],
)
def test_units_that_make_no_sense(reader: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"write it such as|written such as"):
        getattr(picking, reader)(text)


def run(made: Folder, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["--results", str(made.path), *arguments])


def test_the_command(three: Folder) -> None:
    done = run(three, "--device", "pi5", "--max-rss", "400MB", "--max-p95", "800ms", "--min-accuracy", "0.9")
    assert done.exit_code == 0 and done.stdout.startswith("q8_0 (llama_cpp, 4 threads)  97.0 % right")
    assert "fell out" in done.stdout and "in 100 % of the draws" in done.stdout
    none = run(three, "--device", "pi5", "--max-size", "1MB")
    assert none.exit_code == 1 and "nearest: q4_0" in none.stdout
    bad = run(three, "--device", "pi5", "--max-size", "big")
    assert bad.exit_code == 2 and "400MB, 1.2GB or 380MiB" in bad.stderr
    unknown = run(three, "--device", "pi4")
    assert isinstance(unknown.exception, EdgeError) and unknown.exception.hint == "measured were: pi5"


def test_json_for_a_ci(three: Folder) -> None:
    done = run(three, "--device", "pi5", "--max-size", "4MB", "--json")
    told = json.loads(done.stdout)
    assert told["picked"]["name"] == "q4_0" and told["picked"]["why"] == [] and told["nearest"] is None
    assert {o["name"]: o["broken"][0]["limit"] for o in told["others"]} == {"f16": "size", "q8_0": "size"}
    none = run(three, "--device", "pi5", "--max-size", "1MB", "--json")
    assert none.exit_code == 1 and json.loads(none.stdout)["picked"] is None and json.loads(none.stdout)["nearest"]
