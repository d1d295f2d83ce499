"""A draft as a file that a person reads: mapping.yaml with a comment for every choice and every open question.

Refuses to decide anything. The invariant: what is written outside of comments reads back as a mapping (but for blanks,
`"?"`, that the reader refuses by name), and a name of any spelling survives the way through the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final

from crossfade.catalog import Column, TableName
from crossfade.draft.columns import Candidate
from crossfade.draft.keyspaces import KeyspaceDraft
from crossfade.draft.proposal import ColumnDraft, Draft, TableDraft
from crossfade.draft.spelling import dotted, part, pattern, scalar
from crossfade.mapping.reading import BLANK

_COMMENT_AT: Final = 48  # column of the remark behind an entry
_WIDTH: Final = 118
DECIDE: Final = "DECIDE"


def mapping_text(draft: Draft, *, schema: str = "") -> str:
    """The whole file. `schema` is the JSON Schema to name for editors, '' for none."""
    lines = [f"# yaml-language-server: $schema={schema}"] if schema else []
    lines += _head(draft)
    lines += ["version: 1", ""]
    lines += _schemas(draft)
    lines += _excluded(draft)
    lines += _ids(draft)
    lines += _tables(draft)
    return "\n".join(lines).rstrip("\n") + "\n"


def _head(draft: Draft) -> list[str]:
    lines = [
        "# A first draft by `crossfade init`, from the names, types and keys of both schemas, keyed by what you get:",
        "# the target's tables and columns. Read it before you believe it. The number behind an entry is how sure the",
        "# draft is (1.00: certain); then what spoke for it, then what came second. What nobody could know is marked",
        f"# {DECIDE}, or is a blank, {json.dumps(BLANK)}; `crossfade check` refuses the file until nothing is open.",
    ]
    decisions = draft.decisions
    if not decisions:
        return [*lines, "#", "# Nothing is left to decide.", ""]
    count = f"{len(decisions)} decision{'' if len(decisions) == 1 else 's'}"
    lines += ["#", f"# {count} to take:", *(line for each in decisions for line in _wrapped(each, "#  - ", "#    "))]
    if draft.zones > 1:
        lines += [
            "# (One zone for all of them: `crossfade init --timezone Europe/Berlin`, or replace every blank at once.)"
        ]
    return [*lines, ""]


def _schemas(draft: Draft) -> list[str]:
    if not draft.schemas:
        return []
    listed = ", ".join(f"{scalar(one)}: {scalar(other)}" for one, other in draft.schemas.items())
    return [
        f"schemas: {{{listed}}}{' ' * 4}# every table lands there under its own name, except those below",
        "",
    ]


def _excluded(draft: Draft) -> list[str]:
    if not draft.left_out and not draft.unmatched:
        return []
    lines = ["exclude:"]
    lines += [_remarked(f"  - {pattern(each.name)}", each.reason) for each in draft.left_out]
    if draft.unmatched:
        lines.append(
            f"  # {DECIDE}: no table of the target resembles these. Uncomment what is to stay behind, or write"
        )
        lines.append("  # an entry under 'tables' for what is to move:")
        lines += [f"  # - {pattern(name)}" for name in draft.unmatched]
    return [*lines, ""]


def _ids(draft: Draft) -> list[str]:
    if not draft.keyspaces:
        return []
    lines = [
        "# Ids that change their type. What refers to them by a foreign key of the source follows by itself. uuid7 is",
        "# ordered by time, which is kind to indexes; uuid5 makes the same id of the same old one, always.",
        "ids:",
    ]
    return [*lines, *(keyspace_line(each) for each in draft.keyspaces), ""]


def keyspace_line(keyspace: KeyspaceDraft) -> str:
    """One entry of `ids`."""
    column = scalar(f"{dotted(keyspace.owner)}.{part(keyspace.column)}")
    return f"  {scalar(keyspace.name)}: {{from: {column}, to: uuid, strategy: uuid7}}"


def _tables(draft: Draft) -> list[str]:
    lines: list[str] = []
    plain = [table.target.name for table in draft.tables if not _needs_entry(table, draft)]
    if plain:
        listed = ", ".join(str(name) for name in plain)
        lines += _wrapped(f"These need no word, every column has its namesake: {listed}.", "# ", "# ")
    if draft.unfilled:
        listed = ", ".join(str(name) for name in draft.unfilled)
        lines += _wrapped(f"Nothing of the source resembles these, so they stay empty: {listed}.", "# ", "# ")
    written = [table for table in draft.tables if _needs_entry(table, draft)]
    if not written and not draft.offered:
        return lines
    lines += ["", "tables:"] if lines else ["tables:"]
    for table in written:
        lines += ["", *table_lines(table, draft.schemas.get(table.source.name.schema))]
    for table in draft.offered:
        lines += ["", *offered_lines(table)]
    return lines


def _needs_entry(table: TableDraft, draft: Draft) -> bool:
    return table.is_written or draft.schemas.get(table.source.name.schema) != table.target.name.schema


# -- one table ----------------------------------------------------------------------------------------------------


def table_lines(table: TableDraft, schema: str | None) -> list[str]:
    """The entry of one target table. `schema` is where the source's schema goes by itself."""
    lines = [f"  # {table.match.confidence:.2f}{_second(table.match.runner_up)}"]
    lines.append(f"  {scalar(dotted(table.target.name))}:")
    if table.source.name.name != table.target.name.name or schema != table.target.name.schema:
        lines.append(f"    from: {scalar(dotted(table.source.name))}")
    body = _body(table)
    if table.keyless:
        lines += [
            f"    # {DECIDE}: the source table has no key to follow changes by. If rows are only ever added:",
            "    # append_only: true",
            "    # or its owner gives it a primary key, or: ALTER TABLE ... REPLICA IDENTITY FULL",
        ]
    return lines + body


def source_lines(table: TableDraft) -> list[str]:
    """What to add to the entry of one of several sources of a target table."""
    return [
        f"  {scalar(dotted(table.target.name))}:",
        "    from:",
        f"      - table: {scalar(dotted(table.source.name))}",
        *(f"    {line}" for line in _body(table)),
    ]


def offered_lines(table: TableDraft) -> list[str]:
    """A pair that is only possible, all of it commented out."""
    head = (
        f"  # {DECIDE}: {table.target.name} may be made of {table.source.name} ({table.match.confidence:.2f}). If so:"
    )
    body = [f"  # {scalar(dotted(table.target.name))}:", f"  #   from: {scalar(dotted(table.source.name))}"]
    return [head, *body, *(f"  # {line.removeprefix('  ')}" for line in _body(table))]


def _body(table: TableDraft) -> list[str]:
    lines: list[str] = []
    entries = [_entry(column) for column in table.columns if column.is_written and not column.offer]
    questions: list[str] = []
    for column in table.objections:
        questions += _wrapped(
            f"{DECIDE}: {column.match.source.name} ({column.match.source.type_name}) to {column.match.target.name} "
            f"({column.match.target.type_name}): {column.objection}.",
            "      # ",
            "      # ",
        )
        if column.offer:
            questions.append(f"      # {_offered(column)}")
    for column in table.offered:
        but = f"; but {column.objection}" if column.objection else ""
        questions += _wrapped(
            f"{DECIDE}: perhaps ({column.match.confidence:.2f}, {column.match.why}{but}):", "      # ", "      # "
        )
        line = _offered(column) if column.offer else _entry(column, with_remark=False).strip()
        questions.append(f"      # {line}")
    for unfed in table.unfed:
        questions.append(f"      # {DECIDE}: nothing feeds {unfed.name}, which must not be NULL and has no default:")
        questions.append(f"      # {scalar(unfed.name)}: {{const: }}    # {unfed.type_name}")
    if entries or questions:
        lines += ["    columns:", *entries, *questions]
    if table.unused:
        lines += _drops(table.source.name, table.unused)
    return lines


def _drops(source: TableName, unused: Sequence[Column]) -> list[str]:
    described = ", ".join(f"{column.name} ({column.type_name})" for column in unused)
    text = f"{DECIDE}: no column of the target resembles these of {source}: {described}. To leave them behind:"
    return [
        *_wrapped(text, "    # ", "    # "),
        f"    # drop: [{', '.join(scalar(column.name) for column in unused)}]",
    ]


def _offered(column: ColumnDraft) -> str:
    match = column.match
    source = "" if match.is_same_name else f"from: {scalar(match.source.name)}, "
    return f"{scalar(match.target.name)}: {{{source}{column.offer}}}"


def _entry(column: ColumnDraft, *, with_remark: bool = True) -> str:
    match = column.match
    keys: list[str] = []
    if not match.is_same_name:
        keys.append(f"from: {scalar(match.source.name)}")
    if column.remap:
        keys.append(f"remap: {scalar(column.remap)}")
    if column.zone:
        keys.append(f"timezone: {json.dumps(BLANK)}")
    value = scalar(match.source.name) if len(keys) == 1 and not match.is_same_name else f"{{{', '.join(keys)}}}"
    if not with_remark:
        return f"      {scalar(match.target.name)}: {value}"
    remark = "" if match.is_same_name else f"{match.confidence:.2f} {match.why}{_second(match.runner_up)}"
    notes = [remark]
    if column.remap_why and column.remap_why != "its own ids":
        notes.append(column.remap_why)
    if column.zone:
        notes.append(f"{DECIDE}: whose local time?")
    return _remarked(f"      {scalar(match.target.name)}: {value}", "; ".join(note for note in notes if note))


def _second(runner_up: Candidate | None) -> str:
    return f", next {runner_up.name} {runner_up.confidence:.2f}" if runner_up is not None else ""


# -- lines ---------------------------------------------------------------------------------------------------------


def _remarked(entry: str, remark: str) -> str:
    return f"{entry:<{_COMMENT_AT}}  # {_printable(remark)}" if remark else entry


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _wrapped(text: str, first: str, following: str) -> Iterable[str]:
    lines: list[str] = []
    line = first
    for word in _printable(text).split(" "):
        if len(line) + len(word) > _WIDTH and line.strip(" #-"):
            lines.append(line.rstrip())
            line = following
        line += f"{word} "
    return [*lines, line.rstrip()]
