"""The benchmark's comparison finds one wrong row, whatever is wrong with it."""

from __future__ import annotations

import pytest

from tests.bench.backlogs import BACKLOGS, EVENTS_PLAIN, insert_events
from tests.bench.compare import Expectation, WrongResult
from tests.servers.databases import Databases

pytestmark = pytest.mark.one_version
_ROWS = 1000


@pytest.fixture
def expected(databases: Databases) -> Expectation:
    for side in (databases.source, databases.target):
        side.execute(BACKLOGS["insert_backlog"].ddl)
        side.execute(insert_events("1", str(_ROWS)))
    return Expectation(databases.source_admin)


def test_equal_rows_in_another_order_are_equal(databases: Databases, expected: Expectation) -> None:
    databases.target.execute("UPDATE public.events SET active = active WHERE id % 3 = 0")  # they move to the end
    assert expected.check(databases.target_admin, EVENTS_PLAIN.compared, contender="test") == _ROWS


@pytest.mark.parametrize(
    "wrong",
    [
        "DELETE FROM public.events WHERE id = 17",
        "UPDATE public.events SET quantity = quantity + 1 WHERE id = 17",
        "UPDATE public.events SET note = '' WHERE id = 10 AND note IS NULL",
        "UPDATE public.events SET note = NULL WHERE id = 11 AND note = ''",
        "UPDATE public.events SET created_at = created_at + interval '1 us' WHERE id = 17",
        "UPDATE public.events e SET kind = (SELECT kind FROM public.events WHERE id = 35 - e.id) WHERE id IN (17, 18)",
        "UPDATE public.events SET id = -id WHERE id = 17",
        # One missing and one surplus: as many rows as before.
        f"DELETE FROM public.events WHERE id = 17; {insert_events(str(_ROWS + 1), str(_ROWS + 1))}",
    ],
)
def test_one_wrong_row_is_found(databases: Databases, expected: Expectation, wrong: str) -> None:
    databases.target.execute(wrong)
    with pytest.raises(WrongResult, match=r"public\.events"):
        expected.check(databases.target_admin, EVENTS_PLAIN.compared, contender="test")
