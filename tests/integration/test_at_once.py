"""A small transaction with its COMMIT in one round trip: the server compares the row counts, and refuses others."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import pq

from crossfade import statements
from tests.integration.following import follow
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases

CHANGES = {
    "insert": b"INSERT INTO public.notes (id, body) SELECT id, 'new' FROM generate_series(100, 99 + $1::int) id",
    "update": b"UPDATE public.notes SET body = 'new' WHERE id <= $1",
    "delete": b"DELETE FROM public.notes WHERE id <= $1",
}


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_C18_a_guard_lets_a_change_of_one_row_pass_and_no_other(databases: Databases, kind: str, rows: int) -> None:
    guarded = statements.guarded(CHANGES[kind])
    assert guarded is not None
    with databases.target.connect() as session:
        session.execute("CREATE TABLE public.notes (id int PRIMARY KEY, body text)")
        session.execute("INSERT INTO public.notes VALUES (1, 'a'), (2, 'b'), (3, 'c')")
        before = session.execute("SELECT * FROM public.notes ORDER BY id").fetchall()
        answer = session.pgconn.exec_params(guarded, [b"%d" % rows])
        after = session.execute("SELECT * FROM public.notes ORDER BY id").fetchall()
    if rows == 1:
        assert answer.status == pq.ExecStatus.TUPLES_OK
        assert after != before
    else:
        assert answer.error_field(pq.DiagnosticField.SQLSTATE) == b"22012"
        assert after == before


def test_what_is_no_plain_change_has_no_guard() -> None:
    assert statements.guarded(b"WITH gone AS (DELETE FROM t RETURNING *) INSERT INTO t SELECT * FROM gone") is None
    assert statements.guarded(b"SELECT FROM t WHERE id = $1") is None


def test_rules_that_forbid_a_guard_cost_a_second_try_and_no_row(workspace: Workspace) -> None:
    """A table with a conditional rule cannot be changed inside WITH: what is refused there goes the plain way."""
    table = "CREATE TABLE public.notes (id int PRIMARY KEY, body text)"
    rule = "CREATE RULE told AS ON UPDATE TO public.notes WHERE old.body = 'never' DO INSTEAD NOTHING"
    followed = follow(workspace, source=table, target=f"{table}; {rule}")
    guarded = statements.guarded(CHANGES["update"])
    assert guarded is not None
    target = followed.databases.target
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        target.execute(guarded.replace(b"$1", b"1"))
    followed.write("INSERT INTO notes VALUES (1, 'a')")
    followed.write("UPDATE notes SET body = 'b'")
    followed.write("INSERT INTO notes VALUES (2)")
    assert target.execute("SELECT * FROM public.notes ORDER BY id") == [(1, "b"), (2, None)]
