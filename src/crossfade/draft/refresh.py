"""What a mapping that exists does not say yet: tables and columns that came, and those that went.

The mapping is taken as it is, whatever a first draft would have proposed; only what it leaves open is matched, among
itself. Refuses to touch the file. The invariant: for a mapping that covers both schemas there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from crossfade.catalog import Catalog, Column, TableName
from crossfade.draft.columns import ColumnMatch, match_columns
from crossfade.draft.keyspaces import Holders, KeyspaceDraft, find_keyspaces
from crossfade.draft.proposal import LeftOut, TableDraft, followable, table_draft
from crossfade.draft.spelling import pattern
from crossfade.draft.tables import LIKELY, TableMatch, match_tables, of_rows
from crossfade.draft.write import keyspace_line, offered_lines, source_lines, table_lines
from crossfade.findings import Finding
from crossfade.mapping.casts import cast
from crossfade.mapping.collect import Collector
from crossfade.mapping.columns import taken_columns
from crossfade.mapping.compile import compile_plan
from crossfade.mapping.conversions import Fit
from crossfade.mapping.expressions import Expressions
from crossfade.mapping.pairs import Pair, pair_tables
from crossfade.mapping.spec import Spec

# Findings of the compiler that say something of the mapping is not there any more.
_GONE = frozenset(
    {
        "source_table_missing",
        "source_schema_missing",
        "source_column_missing",
        "target_column_missing",
        "dropped_column_missing",
        "keyspace_table_missing",
        "keyspace_column_missing",
    }
)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """`listed` are target tables with a list of sources. `columns` are mapped pairs with something open; `tables` new
    pairs, `offered` perhaps; `unmatched` source tables the mapping takes and nothing resembles; `gone` what the mapping
    names and the databases have no more."""

    schemas: Mapping[str, str]
    listed: Collection[TableName]
    keyspaces: Sequence[KeyspaceDraft]
    columns: Sequence[TableDraft]
    tables: Sequence[TableDraft]
    offered: Sequence[TableDraft]
    unmatched: Sequence[TableName]
    left_out: Sequence[LeftOut]
    gone: Sequence[Finding]

    @property
    def is_empty(self) -> bool:
        """Whether the mapping covers both schemas."""
        return not (self.columns or self.tables or self.offered or self.unmatched or self.left_out or self.gone)


def refresh(spec: Spec, source: Catalog, target: Catalog) -> Refreshed:
    """Compare a mapping with both schemas as they are now."""
    pairs = pair_tables(spec, source, target, Collector(spec))
    mapped = {pair.source.name: pair.target.name for pair in pairs}
    sources, left_out = followable(source)
    given = {table.source for entry in spec.tables.values() for table in entry.each if table.source is not None}

    def is_open(name: TableName) -> bool:
        return name not in mapped and name not in given and not any(each.matches(name) for each in spec.exclude)

    filled = {*mapped.values(), *spec.tables}
    targets = [table for table in of_rows(target) if table.persistence == "p"]
    matches = match_tables(
        [table for table in sources if table.name in mapped or is_open(table.name)],
        [table for table in targets if table.name in mapped.values() or table.name not in filled],
        known=mapped,
    )
    together = {**mapped, **{match.source: match.target for match in matches if match.confidence >= LIKELY}}
    used = _used(pairs)
    opened = [_open(pair, together, used[pair.source.name]) for pair in pairs]
    new = [
        (match, one, other, match_columns(one, other, together))
        for match in matches
        for one, other in [(source.tables[match.source], target.tables[match.target])]
    ]
    owners = {name: (each.owner, each.column) for name, each in spec.keyspaces.items()}
    keyspaces = [
        each
        for each in find_keyspaces(
            [(each.pair.source, each.pair.target, each.matches) for each in opened]
            + [(one, other, found) for match, one, other, found in new if match.confidence >= LIKELY],
            taken=owners,
        )
        if each.owner not in {owner for owner, _ in owners.values()}
    ]
    holders = Holders(source, {**owners, **{each.name: (each.owner, each.column) for each in keyspaces}}, together)
    columns = [made for each in opened if (made := _of_pair(each, holders)) is not None]
    drafts = [table_draft(one, other, match, found, holders) for match, one, other, found in new]
    told = {each.source.name for each in drafts}
    compiled = compile_plan(spec, source, target, workflow="draft", replica_role=True)
    return Refreshed(
        schemas=spec.schemas,
        listed={name for name, entry in spec.tables.items() if entry.sources},
        keyspaces=keyspaces,
        columns=columns,
        tables=[each for each in drafts if each.match.confidence >= LIKELY],
        offered=[each for each in drafts if each.match.confidence < LIKELY],
        unmatched=[
            table.name
            for table in sources
            if is_open(table.name) and table.name not in told and table.name.schema in spec.schemas
        ],
        left_out=[each for each in left_out if is_open(each.name) and each.name.schema in spec.schemas],
        gone=[finding for finding in compiled.findings if finding.name in _GONE],
    )


@dataclass(frozen=True, slots=True)
class _Open:
    """What a pair leaves open: columns nothing is said of, and namesakes that cannot be converted without a word."""

    pair: Pair
    left: Sequence[Column]
    right: Sequence[Column]
    matches: Sequence[ColumnMatch]


def _used(pairs: Iterable[Pair]) -> dict[TableName, set[str]]:
    """The columns of each source table that feed something or are dropped, in any of its targets."""
    used: dict[TableName, set[str]] = {}
    for pair in pairs:
        here = used.setdefault(pair.source.name, set())
        here |= taken_columns(pair, Expressions())
        if pair.spec is not None:
            here |= set(pair.spec.drop)
    return used


def _namesakes(pair: Pair) -> list[tuple[Column, Column]]:
    """Columns that the mapping pairs by itself."""
    spec = pair.spec
    if spec is not None and spec.only:
        return []
    settled = {*spec.columns, *spec.drop} if spec is not None else set()
    return [
        (column, other)
        for column in pair.source.columns
        if column.name not in settled and (other := pair.target.column(column.name)) is not None
    ]


def _open(pair: Pair, pairs: Mapping[TableName, TableName], used: Collection[str]) -> _Open:
    fed = set(pair.spec.columns) if pair.spec is not None else set()
    fed |= {other.name for _, other in _namesakes(pair)}
    namesakes = [
        ColumnMatch(column, other, 1.0, "same name", None)
        for column, other in _namesakes(pair)
        if not column.is_generated and cast(column, other, is_lossy=False)[0].fit is Fit.REFUSED
    ]
    takes_listed = pair.spec is not None and pair.spec.only
    left = [
        column
        for column in pair.source.columns
        if column.name not in used and not column.is_generated and not takes_listed
    ]
    right = [column for column in pair.target.columns if column.name not in fed and not column.is_generated]
    found = match_columns(pair.source, pair.target, pairs, sources=left, targets=right) if left else []
    return _Open(pair, left, right, [*namesakes, *found])


def _of_pair(each: _Open, holders: Holders) -> TableDraft | None:
    """What to say of a pair that is mapped; None when there is nothing."""
    pair = each.pair
    made = table_draft(
        pair.source,
        pair.target,
        TableMatch(pair.source.name, pair.target.name, 1.0, None),
        each.matches,
        holders,
        sources=each.left,
        targets=each.right,
    )
    return made if made.has_decision or any(column.is_written for column in made.columns) else None


def refreshed_text(found: Refreshed) -> str:
    """What to add, as pieces of a mapping: each under the key where it belongs."""
    lines: list[str] = [
        "# Proposed by `crossfade init --refresh`: what the mapping does not say yet. Nothing was changed."
    ]
    if found.gone:
        lines += ["", "# Not there any more:"]
        lines += [f"# {finding.subject}: {finding.sentence}" for finding in found.gone]
    if found.unmatched or found.left_out:
        lines += ["", "exclude:"]
        lines += [f"  - {pattern(each.name)}    # {each.reason}" for each in found.left_out]
        if found.unmatched:
            lines.append("  # DECIDE: no table of the target resembles these:")
            lines += [f"  # - {pattern(name)}" for name in found.unmatched]
    if found.keyspaces:
        lines += ["", "ids:", *(keyspace_line(each) for each in found.keyspaces)]
    written: list[list[str]] = [
        source_lines(table)
        if table.target.name in found.listed
        else table_lines(table, found.schemas.get(table.source.name.schema))
        for table in (*found.columns, *found.tables)
    ]
    written += [offered_lines(table) for table in found.offered]
    if written:
        lines += ["", "tables:"]
        for each in written:
            lines += ["", *each]
    return "\n".join(lines) + "\n"
