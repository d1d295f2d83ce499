"""The scripts of deploy/sql for tests: their variables put in as psql does, and state.sql written from its source."""

from __future__ import annotations

from pathlib import Path

from crossfade.demo.scripts import render

SCRIPTS = Path(__file__).parents[2] / "deploy" / "sql"
STATE = Path(__file__).parents[2] / "src" / "crossfade" / "state" / "schema.sql"


def script(name: str, **variables: str) -> str:
    """One file of deploy/sql, ready to be sent as it is (several statements, one implicit transaction)."""
    return render((SCRIPTS / name).read_text(), variables)


STATE_HEADER = """\
-- crossfade's own tables in the target, for those who want to see or to make them before its first start. They are what
-- `crossfade run` makes by itself, in the schema that target-role.sql gave to its role; running this first changes
-- nothing else. As a superuser, in the target database:
--
--   psql -d shop -v ON_ERROR_STOP=1 -v role=crossfade -f state.sql
--
-- Generated from src/crossfade/state/schema.sql by `make sql`.

SET ROLE :"role";

"""


def state_script() -> str:
    """What deploy/sql/state.sql must hold: the statements of the daemon's own schema.sql, for psql."""
    head, _, statements = STATE.read_text().partition("\n--;\n")
    assert "CREATE SCHEMA" in head, "schema.sql begins with the schema, which target-role.sql makes"
    return STATE_HEADER + statements.rstrip().replace("\n--;\n", ";\n\n") + ";\n\nRESET ROLE;\n"


if __name__ == "__main__":
    (SCRIPTS / "state.sql").write_text(state_script())
