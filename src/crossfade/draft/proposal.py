"""The first draft of a mapping, as values: what is matched, how sure that is, and what a person must decide.

Two catalogs in, a `Draft` out; how it is written down is `write`. Refuses to guess: what is not alike enough becomes a
`Decision`, and the draft leaves it open so that `check` refuses it until somebody has decided. The invariant: every
table and every published column of the source, and every target column that must be fed, is in a match, in a decision,
or told as left out with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from crossfade.catalog import Catalog, Column, Table, TableKind, TableName
from crossfade.draft.columns import LIKELY, ColumnMatch, is_id_pair, match_columns
from crossfade.draft.keyspaces import Holder, Holders, KeyspaceDraft, find_keyspaces, may_hold_uuids
from crossfade.draft.names import likeness, words
from crossfade.draft.spelling import scalar
from crossfade.draft.tables import LIKELY as TABLE_LIKELY
from crossfade.draft.tables import TableMatch, match_tables, of_rows
from crossfade.mapping.casts import cast
from crossfade.mapping.conversions import INTEGERS, TIMESTAMP, TIMESTAMPTZ, Fit
from crossfade.mapping.reading import BLANK


@dataclass(frozen=True, slots=True)
class ColumnDraft:
    """A matched column. `remap` is a keyspace to be written, '' for none; `zone` True where a local time needs one.

    `objection` is why values would not arrive, '' when they will; `offer` what could be written about it.
    `holds` is the keyspace whose ids arrive, written or not.
    """

    match: ColumnMatch
    remap: str
    remap_why: str
    zone: bool
    objection: str
    offer: str = ""
    holds: str = ""

    @property
    def is_written(self) -> bool:
        """Whether the mapping has to say anything about it."""
        return bool(self.remap) or self.zone or not self.match.is_same_name


@dataclass(frozen=True, slots=True)
class TableDraft:
    """One pair of tables. `offered` are matches too weak to be written; `unused` source columns and `unfed` target
    columns have none at all. `keyless`: the source has no key that changes could be followed by."""

    source: Table
    target: Table
    match: TableMatch
    columns: Sequence[ColumnDraft]
    offered: Sequence[ColumnDraft]
    unused: Sequence[Column]
    unfed: Sequence[Column]
    keyless: bool

    @property
    def is_written(self) -> bool:
        """Whether the mapping has to say anything beyond `schemas`."""
        return self.source.name.name != self.target.name.name or self.has_decision or self._says_something

    @property
    def _says_something(self) -> bool:
        return any(column.is_written for column in self.columns)

    @property
    def has_decision(self) -> bool:
        return bool(self.unused or self.unfed or self.offered or self.keyless or self.objections)

    @property
    def objections(self) -> Sequence[ColumnDraft]:
        return [column for column in self.columns if column.objection]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A source table that cannot be followed, with the reason."""

    name: TableName
    reason: str


@dataclass(frozen=True, slots=True)
class Draft:
    """`schemas` is source to target; `offered` are pairs of tables too weak to be written; `unmatched` source tables
    have none, `unfilled` target tables neither."""

    schemas: Mapping[str, str]
    left_out: Sequence[LeftOut]
    keyspaces: Sequence[KeyspaceDraft]
    tables: Sequence[TableDraft]
    offered: Sequence[TableDraft]
    unmatched: Sequence[TableName]
    unfilled: Sequence[TableName]
    zones: int = field(default=0)

    @property
    def decisions(self) -> Sequence[str]:
        """One line for each thing that a person must decide before `check` can pass."""
        lines = [f"what becomes of {name}, which resembles no table of the target" for name in self.unmatched]
        lines += [
            f"whether {each.target.name} is made of {each.source.name} ({each.match.confidence:.2f})"
            for each in self.offered
        ]
        if self.zones:
            lines.append(f"whose local time {self.zones} timestamp column{'' if self.zones == 1 else 's'} hold")
        for table in self.tables:
            lines += _decisions(table)
        return lines


def _decisions(table: TableDraft) -> list[str]:
    lines = []
    if table.keyless:
        lines.append(f"how {table.source.name}, which has no key, is to be followed")
    offered = {column.match.source.name for column in table.offered}
    unused = [column.name for column in table.unused] + sorted(offered)
    lines += [f"where {table.source.name}.{name} goes" for name in unused]
    lines += [f"what {table.target.name}.{column.name} is fed from" for column in table.unfed]
    lines += [f"{table.source.name}.{column.match.source.name}: {column.objection}" for column in table.objections]
    return lines


def draft(source: Catalog, target: Catalog) -> Draft:
    """Match everything there is."""
    sources, left_out = followable(source)
    targets = [table for table in of_rows(target) if table.persistence == "p"]
    matches = match_tables(sources, targets)
    by_source = {table.name: table for table in sources}
    by_target = {table.name: table for table in targets}
    likely = [match for match in matches if match.confidence >= TABLE_LIKELY]
    pairs = {match.source: match.target for match in likely}
    matched = [
        (
            by_source[match.source],
            by_target[match.target],
            match_columns(by_source[match.source], by_target[match.target], pairs),
        )
        for match in likely
    ]
    keyspaces = find_keyspaces([(one, other, _taken(found)) for one, other, found in matched])
    holders = Holders(source, {each.name: (each.owner, each.column) for each in keyspaces}, pairs)
    tables = [
        table_draft(one, other, match, found, holders)
        for match, (one, other, found) in zip(likely, matched, strict=True)
    ]
    tables = _with_references(tables)
    offered = [
        table_draft(one, other, match, match_columns(one, other, pairs), holders)
        for match in matches
        if match.confidence < TABLE_LIKELY
        for one, other in [(by_source[match.source], by_target[match.target])]
    ]
    told = {*pairs, *(each.source.name for each in offered)}
    filled = {*pairs.values(), *(each.target.name for each in offered)}
    return Draft(
        schemas=_schemas(tables),
        left_out=left_out,
        keyspaces=keyspaces,
        tables=tables,
        offered=offered,
        unmatched=[name for name in by_source if name not in told],
        unfilled=[name for name in by_target if name not in filled],
        zones=sum(column.zone for table in tables for column in table.columns),
    )


def _taken(matches: Sequence[ColumnMatch]) -> list[ColumnMatch]:
    return [match for match in matches if match.confidence >= LIKELY]


def followable(source: Catalog) -> tuple[list[Table], list[LeftOut]]:
    """The tables whose changes are in the log, and those whose are not."""
    kept: list[Table] = []
    left_out = [
        LeftOut(table.name, "a foreign table: its rows live elsewhere")
        for table in source.tables.values()
        if table.kind is TableKind.FOREIGN
    ]
    for table in of_rows(source):
        if table.persistence != "p":
            left_out.append(LeftOut(table.name, "unlogged: its changes are not in the write-ahead log"))
        elif table.has_inheritance_children:
            left_out.append(LeftOut(table.name, "other tables inherit from it"))
        else:
            kept.append(table)
    return kept, sorted(left_out, key=lambda each: each.name)


def table_draft(
    source: Table,
    target: Table,
    match: TableMatch,
    matches: Sequence[ColumnMatch],
    holders: Holders,
    *,
    sources: Sequence[Column] | None = None,
    targets: Sequence[Column] | None = None,
) -> TableDraft:
    """Everything about one pair, from the matches of its columns; of `sources` and `targets` alone where given (what is
    open in a pair that is mapped already)."""
    columns: list[ColumnDraft] = []
    offered: list[ColumnDraft] = []
    for each in matches:
        column = _column(source, target, each, holders)
        (columns if each.confidence >= LIKELY else offered).append(column)
    used = {column.match.source.name for column in (*columns, *offered)}
    fed = {column.match.target.name for column in (*columns, *offered)}
    return TableDraft(
        source=source,
        target=target,
        match=match,
        columns=columns,
        offered=offered,
        unused=[
            column
            for column in (source.columns if sources is None else sources)
            if (column.name not in used and not column.is_generated) or _clashes(column, target)
        ],
        unfed=[
            column
            for column in (target.columns if targets is None else targets)
            if column.name not in fed and must_be_fed(column)
        ],
        keyless=sources is None and not has_identity(source),
    )


def _with_references(tables: Sequence[TableDraft]) -> list[TableDraft]:
    """An objection wherever a foreign key of the target ties ids that become new ones to ids that do not."""
    holds = {
        (table.target.name, column.match.target.name): column.holds for table in tables for column in table.columns
    }
    found = []
    for table in tables:
        clashes = {
            name: key.referenced
            for key in table.target.foreign_keys
            for name, referenced in zip(key.columns, key.referenced_columns, strict=True)
            if holds.get((table.target.name, name)) != holds.get((key.referenced, referenced), "")
            and (table.target.name, name) in holds
        }
        columns = [
            replace(column, objection=f"it refers to {clashes[name]}, whose ids are others: give both the same remap")
            if (name := column.match.target.name) in clashes and not column.objection
            else column
            for column in table.columns
        ]
        found.append(replace(table, columns=columns))
    return found


def _clashes(column: Column, target: Table) -> bool:
    """Generated by the source, so that it is not sent, and of one name with a column that awaits values."""
    other = target.column(column.name)
    return column.is_generated and other is not None and not other.is_generated


def must_be_fed(column: Column) -> bool:
    """NOT NULL, and it does not fill itself."""
    return column.not_null and not (column.is_generated or column.has_default or column.identity)


def has_identity(table: Table) -> bool:
    """Whether the source logs enough of an old row to find it again."""
    if table.identity_key is not None:
        return True
    return table.replica_identity.name == "FULL"


def _column(source: Table, target: Table, match: ColumnMatch, holders: Holders) -> ColumnDraft:
    one, other = match.source, match.target
    holder: Holder | None = holders.of(source, target, match)
    if holder is not None and holder.is_sure:
        written = holder.keyspace if holder.why else ""
        objection = "" if _takes_ids(other) else f"its ids become uuids, and {other.name} is {other.type_name}"
        return ColumnDraft(match, written, holder.why, False, objection, holds=holder.keyspace)
    if (one.base_type, other.base_type) == (TIMESTAMP, TIMESTAMPTZ):
        return ColumnDraft(match, "", "", True, "")
    if (missing := [label for label in one.labels if label not in other.labels]) and other.labels:
        return ColumnDraft(
            match, "", "", False, f"the target's enum has no {', '.join(missing)}", _value_map(one, other)
        )
    verdict, _ = cast(one, other, is_lossy=False)
    if verdict.fit is not Fit.REFUSED:
        hint = "these may be uuids already, spelled as text" if is_id_pair(one, other) and may_hold_uuids(one) else ""
        return ColumnDraft(match, "", hint, False, "")
    if holder is not None:
        return ColumnDraft(
            match,
            "",
            "",
            False,
            f"it may hold {holder.why}, those of {holder.keyspace}; if so, remap: {holder.keyspace}",
        )
    if cast(one, other, is_lossy=True)[0].fit is not Fit.REFUSED:
        return ColumnDraft(match, "", "", False, verdict.sentence, "cast: lossy")
    if one.base_type == "uuid" and other.base_type in INTEGERS:
        objection = "if these are ids, declare them under ids with the strategy sequence or table"
        return ColumnDraft(match, "", "", False, objection)
    if other.labels:
        return ColumnDraft(match, "", "", False, verdict.sentence, "values: {}")
    return ColumnDraft(match, "", "", False, verdict.sentence)


def _value_map(one: Column, other: Column) -> str:
    """Every label of the source with its namesake, or the one most like it, or a blank."""
    pairs = []
    for label in one.labels:
        best = max(other.labels, key=lambda each: (each == label, likeness(words(label), words(each))))
        alike = best == label or likeness(words(label), words(best)) >= LIKELY
        pairs.append(f"{scalar(label)}: {scalar(best) if alike else scalar(BLANK)}")
    return f"values: {{{', '.join(pairs)}}}"


def _takes_ids(column: Column) -> bool:
    return column.base_type.removesuffix("[]") in {"uuid", "text", "character varying"}


def _schemas(tables: Sequence[TableDraft]) -> dict[str, str]:
    """Each source schema with the target schema most of its tables go to."""
    votes: dict[str, Counter[str]] = {}
    for table in tables:
        votes.setdefault(table.source.name.schema, Counter())[table.target.name.schema] += 1
    return {
        schema: min(counted.items(), key=lambda each: (-each[1], each[0]))[0]
        for schema, counted in sorted(votes.items())
    }
