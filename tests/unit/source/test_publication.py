"""What changed since the copy, out of two pictures: each way to lose changes is a sentence, and nothing else is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from crossfade.source.publication import differences

Picture = dict[str, Any]


def picture() -> Picture:
    return {
        "publications": {
            "crossfade": {
                "all_tables": False,
                "via_root": True,
                "operations": "iudt",
                "tables": {"public.users": 500, "public.orders": 501},
            },
        },
        "tables": {
            "public.users": table("users", 1000, {"id": "1/23/-1", "name": "2/1043/24", "spare": "3/25/-1"}),
            "public.orders": table("orders", 1001, {"id": "1/23/-1"}),
        },
    }


def table(name: str, oid: int, columns: dict[str, str]) -> Picture:
    return {
        "schema": "public",
        "name": name,
        "used": [column for column in columns if column != "spare"],
        "oid": oid,
        "identity": "d",
        "persistence": "p",
        "columns": columns,
    }


def changed(change: Callable[[Picture], object]) -> list[str]:
    """What is told after `change` was made to the source."""
    now = copy.deepcopy(picture())
    change(now)
    return [each.text for each in differences(picture(), now)]


def users(now: Picture) -> Picture:
    found: Picture = now["tables"]["public.users"]
    return found


def published(now: Picture) -> Picture:
    found: Picture = now["publications"]["crossfade"]
    return found


def test_nothing_changed_nothing_told() -> None:
    assert differences(picture(), picture()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda now: now["publications"].clear(), "Publication crossfade is gone"),
        (lambda now: published(now)["tables"].pop("public.users"), "no longer holds public.users"),
        (lambda now: published(now)["tables"].update({"public.users": 900}), "was without public.users for a while"),
        (lambda now: published(now).update(operations="iut"), "iut instead of iudt"),
        (lambda now: published(now).update(via_root=False), "publish_via_partition_root"),
        (lambda now: published(now).update(foreign_filters=["public.users"]), "row filter on public.users that is not"),
        (lambda now: now["tables"].pop("public.users"), "Table public.users was dropped, renamed or made anew"),
        (lambda now: users(now).update(oid=2000), "Table public.users was dropped, renamed or made anew"),
        (lambda now: users(now).update(persistence="u"), "Table public.users is unlogged"),
        (lambda now: users(now).update(identity="n"), "another replica identity"),
        (lambda now: users(now)["columns"].pop("name"), "Column name of public.users"),
        (lambda now: users(now)["columns"].update(name="9/1043/24"), "dropped or renamed"),
        (lambda now: users(now)["columns"].update(id="1/20/-1"), "Column id of public.users changed its type"),
        (lambda now: users(now)["columns"].update(name="2/1043/14"), "changed its type"),
        (lambda now: users(now)["columns"].update(name="2/25/-1"), "changed its type"),
    ],
)
def test_each_way_to_lose_changes_is_one_sentence(change: Callable[[Picture], object], words: str) -> None:
    (told,) = changed(change)
    assert words in told


@pytest.mark.parametrize(
    "change",
    [
        lambda now: users(now)["columns"].update(name="2/1043/54"),
        lambda now: users(now)["columns"].update(name="2/1043/-1"),
        lambda now: users(now)["columns"].pop("spare"),
        lambda now: users(now)["columns"].update(new="4/25/-1"),
        lambda now: published(now)["tables"].update({"public.more": 700}),
        lambda now: now["publications"].update({"another": {}}),
        lambda now: published(now).update(filters={"public.users": "(id > 0)"}, foreign_filters=[]),
    ],
    ids=[
        "varchar_grew",
        "varchar_unbounded",
        "unused_gone",
        "column_added",
        "table_added",
        "other_publication",
        "our_filter",
    ],
)
def test_what_loses_nothing_is_not_told(change: Callable[[Picture], object]) -> None:
    assert changed(change) == []


def test_everything_is_told_at_once() -> None:
    def change(now: Picture) -> None:
        published(now)["tables"].pop("public.users")
        users(now)["columns"].pop("name")
        now["tables"]["public.orders"]["persistence"] = "u"

    assert len(changed(change)) == 3
