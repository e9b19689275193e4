"""The page for the app team: what was handed over, what it scores, what to expect on each device."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from handoff_scene import Scene, edge, read, rewrite, scene

from edge.bench.report import handoff as page


@pytest.fixture
def app(tmp_path: Path) -> Scene:
    return scene(tmp_path)


def test_the_page_shows_what_the_contract_says_and_nothing_from_outside(app: Scene) -> None:
    app.measured(device={"name": "phone", "model": "a phone"}, at="2026-11-21T10:00:00+00:00")
    done = app.hand_over()
    text = (done.folder / "report.html").read_text()
    for word in ("app-q8_0", "75.0", "a phone", "set_light", "set_heat", "115 ms", "terms", "2026-11-21", "proven"):
        assert word in text, word
    assert "<script" not in text and not re.search(r"(src|href)=|url\(|@import", text) and "$" not in text
    assert "prefers-color-scheme: dark" in text and "default-src 'none'" in text


def test_what_others_wrote_is_text_on_the_page(app: Scene) -> None:
    bad = '<img src=x onerror="alert(1)">'
    told = app.hand_over().contract
    told["tools"][0]["function"]["description"] = bad
    told["tools"][0]["function"]["parameters"]["properties"]["room"]["description"] = bad
    told["notices"] = told["warnings"] = [bad]
    told["accepted"] = [{"what": bad, "reason": bad}]
    told["measured"][0]["device"]["cpu"] = told["measured"][0]["marks"][:1] or bad
    text = page.render([told])
    assert "<img" not in text and "&lt;img" in text


def test_the_command_writes_one_page_of_several_folders(app: Scene) -> None:
    app.hand_over()
    other = app.hand_over(out=app.top / "other").folder
    done = edge("page", app.top / "handed", other, "--out", app.top / "page.html")
    assert done.exit_code == 0 and (app.top / "page.html").read_text().count('class="folder"') == 2
    assert edge("page", app.top, "--out", app.top / "x.html").exit_code == 2


def test_one_page_for_several_targets_and_one_without_a_figure(app: Scene) -> None:
    told = app.hand_over().contract
    bare = {**told, "target": "flutter", "measured": [], "proof": None, "tools": [], "notices": [],
            "model": {**told["model"], "sha256": "1" * 64, "verdict": "unproven"}}  # fmt: skip
    text = page.render([told, bare])
    assert "ollama and flutter" in text and "was not held against" in text
    alone = page.render([bare])
    assert "not measured on any device" in alone and "Nothing was measured" in alone


@pytest.mark.parametrize("key", ["created_at", "model", "measured", "tools"])
def test_a_contract_that_lost_something_makes_no_page(app: Scene, key: str) -> None:
    folder = app.hand_over().folder
    told = read(folder)
    del told[key]
    rewrite(folder, told, digest=True)
    done = edge("page", folder, "--out", app.top / "x.html")
    assert done.exit_code == 2 and f"has no {key}" in done.output and not (app.top / "x.html").exists()
