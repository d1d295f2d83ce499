"""docs/runbooks/drills.md promises what the drills check (tests/drills, `make drills`), and nothing has other names."""

from __future__ import annotations

import re

import pytest

from tests.drills import quicker
from tests.drills.scenes import SCENES, Scene
from tests.unit.deploy import rules

PAGE = rules.RUNBOOKS / "drills.md"
SECTIONS = dict(re.findall(r"^## \d+\. (.+?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL))


def test_every_drill_is_told_and_no_other() -> None:
    assert list(SECTIONS) == [scene.title for scene in SCENES]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.title)
def test_what_a_drill_shows_is_what_is_checked(scene: Scene) -> None:
    section = " ".join(SECTIONS[scene.title].split())
    for words in (*scene.status, scene.page):
        assert words.replace("`", "") in section.replace("`", ""), words
    for name in scene.alerts:
        assert f"[{name}]({name}.md)" in section
    assert ("no answer" if scene.ready is None else str(scene.ready)) in section


def test_a_drill_names_alerts_that_exist() -> None:
    named = set(re.findall(r"\bCrossfade[A-Z]\w+", PAGE.read_text()))
    assert named <= set(rules.names())


def test_quicker_rules_are_the_same_rules() -> None:
    shipped = rules.RULES.read_text()
    made = quicker.quicker(shipped, 20)
    assert quicker.waits(made).keys() == quicker.waits(shipped).keys()
    assert quicker.waits(made)["CrossfadeStalled", "critical"] == "15000ms"
    assert "name: lag_warning_seconds}, expr: vector((60) / 20)" in made
    assert not re.search(r"\[\d+[smhd]\]", made)
    assert quicker.quicker(made, 1).count("vector") == shipped.count("vector")
