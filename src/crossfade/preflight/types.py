"""Types of the user's own and of extensions, and collations: whether one name means the same on both sides.

Text travels between types of one name and is read by whatever bears it on the target. Refuses to know rows. The
invariant: what would be misread in silence is an ERROR; what the target would refuse, or merely sort otherwise, is not.

PostgreSQL: sql-createdomain, rowtypes, sql-alterextension, collation ("Nondeterministic Collations"),
sql-altercollation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from crossfade.findings import Kind, Severity
from crossfade.mapping.plan import ColumnPlan, Plan, Verbatim
from crossfade.preflight.natures import DatabaseCollation, SourceNatures, TargetNatures, TypeNature
from crossfade.preflight.remarks import Remark, Side, literal, qualified, quoted, remark


def types(plan: Plan, source: SourceNatures, target: TargetNatures) -> Iterator[Remark]:
    """Each pair of types that a column is handed over between, told once."""
    told: set[tuple[int, int]] = set()
    for table in plan.tables:
        for column in table.columns:
            if column.source is None or not isinstance(column.rule, Verbatim):
                continue
            pair = (column.source.type_oid, column.target.type_oid)
            ours, theirs = source.types.get(pair[0]), target.types.get(pair[1])
            if pair not in told and ours is not None and theirs is not None:
                told.add(pair)
                yield from _definitions(column, f"{table.target}.{column.target.name}", ours, theirs)
                yield from _extensions(ours, theirs)


def _definitions(column: ColumnPlan, where: str, ours: TypeNature, theirs: TypeNature) -> Iterator[Remark]:
    if ours.kind != theirs.kind or ours.definition == theirs.definition:
        return
    both = f"({', '.join(ours.definition)}) on the source and ({', '.join(theirs.definition)}) on the target"
    if ours.kind == "c":
        yield remark(
            Side.TARGET,
            Severity.ERROR,
            "composite_differs",
            f"target type {theirs.name}",
            f"{ours.name}, which feeds {where}, is {both}: its values are read attribute by attribute, so they would be"
            " refused or, worse, misread.",
            remedy="Make both the same, attribute by attribute: ALTER TYPE … ADD, DROP, ALTER ATTRIBUTE.",
            kind=Kind.CONFIGURATION,
        )
    elif ours.kind == "d":
        yield remark(
            Side.TARGET,
            Severity.WARNING,
            "domain_differs",
            f"target type {theirs.name}",
            f"The domain {ours.name}, which feeds {where}, is {both}: a value that only the source takes stops the"
            " stream.",
            remedy="Make both the same (ALTER DOMAIN … DROP CONSTRAINT), or be sure that no row has such a value.",
        )


def _extensions(ours: TypeNature, theirs: TypeNature) -> Iterator[Remark]:
    if not ours.extension or ours.extension != theirs.extension or ours.extension_version == theirs.extension_version:
        return
    yield remark(
        Side.TARGET,
        Severity.WARNING,
        "extension_differs",
        f"target extension {theirs.extension}",
        f"{ours.name} comes from {ours.extension} {ours.extension_version} on the source and"
        f" {theirs.extension_version} on the target; what one writes the other may read otherwise (F24).",
        remedy="As the extension's owner, if the target's is the older one and the server has the other:",
        sql=[f"ALTER EXTENSION {quoted(theirs.extension)} UPDATE TO {literal(ours.extension_version)};"]
        if _number(theirs.extension_version) < _number(ours.extension_version)
        else [],
    )


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def collations(plan: Plan, source: SourceNatures, target: TargetNatures) -> Iterator[Remark]:
    """What sorts or compares otherwise (F23)."""
    yield from _outdated(Side.SOURCE, source.collation)
    yield from _outdated(Side.TARGET, target.collation)
    ours, theirs = source.collation, target.collation
    if (ours.name, ours.provider) != (theirs.name, theirs.provider):
        yield remark(
            Side.TARGET,
            Severity.INFO,
            "collation_differs",
            "target",
            f"The source sorts texts by {_named(ours)}, the target by {_named(theirs)}: ORDER BY and comparisons answer"
            " otherwise there. Rows arrive as they are.",
            remedy="Nothing, if the application does not mind; else create the target database with the source's.",
        )
    fed = {
        (table.target, column.target.name): column.target.type_name
        for table in plan.tables
        for column in table.columns
        if column.source is not None
    }
    for table, column, collation in target.merging:
        if (table, column) in fed:
            yield remark(
                Side.TARGET,
                Severity.WARNING,
                "collation_merges",
                f"target {table}.{column}",
                f"The column is unique under {collation}, a nondeterministic collation, to which different texts can be"
                " equal: a second such row stops the stream (F23).",
                remedy="Be sure that no two rows are equal so, or compare byte by byte until cutover:\n"
                f"ALTER TABLE {qualified(table)} ALTER COLUMN {quoted(column)} TYPE {fed[table, column]} COLLATE"
                ' pg_catalog."C";',
            )


_PROVIDERS: Final = {"c": "libc", "d": "libc", "i": "ICU", "b": "builtin"}


def _named(collation: DatabaseCollation) -> str:
    return f"{collation.name} ({_PROVIDERS.get(collation.provider, collation.provider)})"


def _outdated(side: Side, collation: DatabaseCollation) -> Iterator[Remark]:
    if collation.recorded and collation.actual and collation.recorded != collation.actual:
        yield remark(
            side,
            Severity.WARNING,
            "collation_outdated",
            side.value,
            f"The database's texts were sorted by version {collation.recorded} of {_named(collation)}, and the server"
            f" now has {collation.actual}: indexes over texts may be out of order, so that unique ones hold the same"
            " text twice.",
            remedy="As the database's owner, at a quiet hour: REINDEX DATABASE, then ALTER DATABASE … REFRESH COLLATION"
            " VERSION.",
        )
