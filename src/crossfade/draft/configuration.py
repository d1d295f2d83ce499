"""The first crossfade.toml: two connection strings, a name, and where passwords belong.

Refuses to take a connection string apart: it is handed texts without secrets. The invariant: what it writes is read
back by the settings without a complaint.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_LONGEST_NAME = 63


@dataclass(frozen=True, slots=True)
class End:
    """One database: the connection string to write, and the names of secrets that were taken out of it."""

    dsn: str
    secrets: tuple[str, ...]


def configuration_text(name: str, source: End, target: End, *, mapping: str, schema: str = "") -> str:
    """The whole file. `mapping` is relative to it; `schema` is the JSON Schema to name for editors, '' for none."""
    lines = [f"#:schema {schema}"] if schema else []
    lines += [
        "# One migration: from where, to where. Everything that is not here has a default: see docs/operations.md.",
        "# Every value can come from the environment instead: CROSSFADE_SOURCE__DSN overrides [source] dsn, and so on.",
        "",
        f"name = {json.dumps(name)}    # the workflow: a label on every metric, and what `teardown` asks you to type",
        f"mapping = {json.dumps(mapping)}    # relative to this file",
        "",
        *_end("source", source, "the database that serves today; see deploy/sql for the role crossfade needs there"),
        *_end("target", target, "the new one; its tables exist already, and are empty"),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def workflow_name(database: str) -> str:
    """A name for the workflow, made of a database's."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", database).strip("-_.")[:_LONGEST_NAME]
    return name or "migration"


def secret_advice(side: str) -> str:
    """Where a secret of that side belongs, in one sentence."""
    return (
        f"give it to libpq in ~/.pgpass, or the whole connection string as CROSSFADE_{side.upper()}__DSN in the "
        f"environment or as a file {side}__dsn in /run/secrets, $CREDENTIALS_DIRECTORY or $CROSSFADE_SECRETS_DIR"
    )


def _end(side: str, end: End, remark: str) -> list[str]:
    lines = [f"[{side}]    # {remark}", f"dsn = {json.dumps(end.dsn, ensure_ascii=False)}"]
    if end.secrets:
        lines.insert(1, f"# Its {' and '.join(end.secrets)} was not written down here:")
        lines.insert(2, f"# {secret_advice(side)}.")
    return [*lines, ""]
