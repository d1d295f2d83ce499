"""What the target enforces while we write: unique and exclusion constraints, foreign keys, triggers and rules.

Under replica role the server checks neither foreign keys nor deferrable constraints; without it, every change must
pass them in the order in which the source made it. Refuses to know how either is set. The invariant: a plan without
errors from here can be applied change by change, in source order, in the role it names.

PostgreSQL: sql-set-constraints, sql-createtable ("DEFERRABLE"), runtime-config-client (session_replication_role).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from crossfade.catalog import Action, Catalog, ForeignKey, Key, Table, TableName
from crossfade.mapping.collect import Collector, quoted, sql_name
from crossfade.mapping.derived import Expression
from crossfade.mapping.pairs import Pair
from crossfade.mapping.plan import LocalTime, Remap, TablePlan
from crossfade.mapping.rules import is_one_to_one

_PASSIVE: Final = frozenset({Action.NO_ACTION, Action.RESTRICT})


def is_applied_as_origin(target: Table) -> bool:
    """Deferrable unique and exclusion constraints are not enforced under replica role: duplicates would commit."""
    return any(key.is_deferrable and (key.is_unique or key.is_exclusion) for key in target.keys)


def check_unique_keys(pair: Pair, plan: TablePlan, collect: Collector) -> None:
    """Compare unique and exclusion constraints of both sides, through the mapping's renames."""
    sources = {column.target.name: column.source.name for column in plan.columns if column.source is not None}
    for key in pair.target.keys:
        if not (key.is_unique or key.is_exclusion):
            continue
        _check_deferral(pair, key, sources, collect)
        _check_new_unique(pair, key, plan, sources, collect)


def _check_deferral(pair: Pair, key: Key, sources: Mapping[str, str], collect: Collector) -> None:
    """C1, C5: values swapped inside a transaction pass a deferrable constraint only."""
    if key.is_deferrable or key.has_expressions:
        return
    fed = {sources[name] for name in key.columns if name in sources}
    for other in pair.source.keys:
        if other.is_deferrable and len(fed) == len(key.columns) and set(other.columns) == fed:
            collect.error(
                "constraint_not_deferrable",
                f"target {pair.target.name}",
                f"{other.name} of {pair.source.name} is deferrable on the source, {key.name} of {pair.target.name} is "
                "not: values that cross over inside a transaction would be refused.",
                f"ALTER TABLE {sql_name(pair.target.name)} DROP CONSTRAINT {quoted(key.name)};\n"
                f"ALTER TABLE {sql_name(pair.target.name)} ADD CONSTRAINT {quoted(key.name)} "
                f"{_definition(key)} DEFERRABLE;",
            )
            return


def _definition(key: Key) -> str:
    columns = ", ".join(quoted(name) for name in key.columns)
    if key.is_exclusion:
        return "EXCLUDE (…)"
    return f"{'PRIMARY KEY' if key.is_primary else 'UNIQUE'} ({columns})"


def _check_new_unique(pair: Pair, key: Key, plan: TablePlan, sources: Mapping[str, str], collect: Collector) -> None:
    """A uniqueness the source does not have (H12): only its rows can tell whether they fit."""
    target = f"target {pair.target.name}"
    if not key.is_valid:
        return
    if key.is_exclusion:
        if not any(
            other.is_exclusion and set(other.columns) == {sources.get(name) for name in key.columns}
            for other in pair.source.keys
        ):
            collect.warning(
                "unique_on_target_only",
                target,
                f"The exclusion constraint {key.name} of {pair.target.name} has no counterpart on {pair.source.name}: "
                "rows it excludes stop the stream.",
                "Make sure that the source's rows fit it.",
            )
        return
    if key.has_expressions:
        collect.warning(
            "unique_on_target_only",
            target,
            f"The unique index {key.name} of {pair.target.name} is over an expression: whether the source's rows fit "
            "it cannot be told from the catalogs.",
            "Make sure that the source's rows fit it.",
        )
        return
    computed = [
        column.target.name
        for column in plan.columns
        if column.target.name in key.columns and isinstance(column.rule, Expression)
    ]
    if computed:
        collect.warning(
            "unique_on_target_only",
            target,
            f"({', '.join(key.columns)}) is unique on {pair.target.name} ({key.name}), and {computed[0]} is computed "
            "by SQL: whether two rows come to the same value cannot be told from the catalogs.",
            "Make sure that the source's rows fit it.",
        )
        return
    constants = {column.target.name for column in plan.columns if column.source is None}
    names = [name for name in key.columns if name not in constants]
    if any(name not in sources for name in names):
        return  # filled by the target itself: a default, an identity, or NULL
    through = {sources[name] for name in names}
    local = [
        column.target.name
        for column in plan.columns
        if column.target.name in names and isinstance(column.rule, LocalTime)
    ]
    is_unique_there = any(
        other.is_unique
        and other.is_valid
        and not other.is_partial
        and not other.has_expressions
        and set(other.columns) <= through
        for other in pair.source.keys
    )
    same_partial = key.is_partial and any(
        other.is_unique and other.is_partial and set(other.columns) == through for other in pair.source.keys
    )
    if not is_unique_there and not same_partial:
        collect.warning(
            "unique_on_target_only",
            target,
            f"({', '.join(key.columns)}) is unique on {pair.target.name} ({key.name}), but nothing makes it unique on "
            f"{pair.source.name}: a second such row stops the stream.",
            "Make sure that the source's rows fit it.",
        )
    elif local and set(key.columns) != set(plan.key):  # of the key itself the identity's warning has told
        collect.warning(
            "unique_local_time",
            target,
            f"{key.name} of {pair.target.name} is unique over {local[0]}, made of a local time: two different local "
            "times can be the same moment when clocks change.",
            "Make sure that no two rows differ only there.",
        )
    merged = [column.target.name for column in plan.columns if not is_one_to_one(column.rule)]
    merged = [name for name in merged if name in names]
    if merged and (is_unique_there or same_partial):
        collect.warning(
            "unique_not_one_to_one",
            target,
            f"{key.name} of {pair.target.name} is unique over {merged[0]}, whose rule may make two values the same: a "
            "second such row stops the stream.",
            "Make sure that no two rows differ only there.",
        )


@dataclass(frozen=True, slots=True)
class _Side:
    """One source of a target table, as a foreign key of the target sees it."""

    pair: Pair
    plan: TablePlan


def check_references(
    pairs: Sequence[Pair],
    plans: Sequence[TablePlan],
    source: Catalog,
    target: Catalog,
    collect: Collector,
    *,
    replica_role: bool,
) -> tuple[ForeignKey, ...]:
    """Check the target's foreign keys and return those among mapped tables, by referring table and name.

    `plans` are those of `pairs`. A key is enforced on us when either of its tables is applied in origin role.
    """
    sides: dict[TableName, list[_Side]] = {}
    for pair, plan in zip(pairs, plans, strict=True):
        sides.setdefault(plan.target, []).append(_Side(pair, plan))
    among: list[ForeignKey] = []
    enforced: list[ForeignKey] = []
    for table in target.tables.values():
        for key in table.foreign_keys:
            if key.table not in sides and key.referenced not in sides:
                continue
            if table.is_partition:
                continue  # a partition repeats the foreign keys of its root
            if key.table not in sides or key.referenced not in sides:
                _warn_half_mapped(key, mapped=key.table in sides, collect=collect)
                continue
            among.append(key)
            is_enforced = not replica_role or any(
                side.plan.applied_as_origin for name in (key.table, key.referenced) for side in sides[name]
            )
            if is_enforced:
                enforced.append(key)
            for child in sides[key.table]:
                parent = _parent_of(key, child, sides[key.referenced])
                _check_remapped_alike(key, child.plan, parent.plan, collect)
                _check_filtered_parent(key, child.plan, parent.plan, collect, is_enforced=is_enforced)
                if is_enforced:
                    _check_enforced(key, child, parent, source, collect)
    _check_cycles(enforced, collect)
    return tuple(sorted(among, key=lambda key: (key.table, key.name)))


def _parent_of(key: ForeignKey, child: _Side, parents: Sequence[_Side]) -> _Side:
    """Of several sources of the table referred to, the one whose rows the child's refer to: as the source's foreign
    keys say, or else the ids."""
    said = [
        parent for parent in parents if _is_same_row(key, child, parent) or _counterpart(key, child, parent) is not None
    ]
    alike = [
        parent
        for parent in parents
        if all(
            _keyspace(child.plan, name) == _keyspace(parent.plan, referenced)
            for name, referenced in zip(key.columns, key.referenced_columns, strict=True)
        )
    ]
    return (*said, *alike, *parents)[0]


def _warn_half_mapped(key: ForeignKey, *, mapped: bool, collect: Collector) -> None:
    if mapped:
        collect.warning(
            "reference_to_unmapped",
            f"target {key.table}",
            f"{key.name} of {key.table} refers to {key.referenced}, which this mapping does not fill.",
            "Make sure that its rows are there, or map it as well.",
        )
    else:
        collect.warning(
            "reference_from_unmapped",
            f"target {key.table}",
            f"{key.name} of {key.table}, which this mapping does not fill, refers to {key.referenced}: its rows may "
            "lose what they refer to, or refuse our deletes.",
            "Keep the table empty until cutover, or map it as well.",
        )


def _check_filtered_parent(
    key: ForeignKey, child: TablePlan, parent: TablePlan, collect: Collector, *, is_enforced: bool
) -> None:
    """Rows that a condition leaves out cannot be referred to."""
    if parent.where is None:
        return
    tell = collect.error if is_enforced and child.where is None else collect.warning
    tell(
        "filter_of_parent",
        parent.where.place,
        f"where: {key.name} of {key.table} refers to {key.referenced}, of which only some rows are taken: "
        + ("rows that refer to others are refused." if is_enforced else "it will be violated, as nobody checks it."),
        f"Give {key.table} a condition that leaves out what refers to those rows, or drop the foreign key.",
    )


def _check_remapped_alike(key: ForeignKey, child_plan: TablePlan, parent_plan: TablePlan, collect: Collector) -> None:
    """Both ends of a reference must be given new ids by the same map, or by none."""
    for name, referenced_name in zip(key.columns, key.referenced_columns, strict=True):
        child = _keyspace(child_plan, name)
        parent = _keyspace(parent_plan, referenced_name)
        if child == parent or child is None or parent is None:
            continue
        collect.error(
            "reference_remapped_differently",
            f"target {key.table}",
            f"{key.table}.{name} refers to {key.referenced}.{referenced_name}, but "
            f"{_words(child)} while the column it refers to {_words(parent, other=True)}.",
            f"Under tables: {key.table}: columns, give {name} a remap: of the same keyspace"
            if parent
            else f"Give {key.referenced}.{referenced_name} the same remap:",
        )


def _keyspace(plan: TablePlan, column: str) -> str | None:
    """The keyspace a target column is remapped by, '' when it is fed otherwise, None when nothing feeds it."""
    fed = next((one for one in plan.columns if one.target.name == column), None)
    if fed is None or fed.source is None:
        return None
    return fed.rule.keyspace if isinstance(fed.rule, Remap) else ""


def _words(keyspace: str, *, other: bool = False) -> str:
    subject = "is" if other else "it is"
    return f"{subject} remapped by ids.{keyspace}" if keyspace else f"{subject} not remapped"


def _check_enforced(key: ForeignKey, child: _Side, parent: _Side, source: Catalog, collect: Collector) -> None:
    subject = f"target {key.table}"
    for action, event in ((key.on_delete, "DELETE"), (key.on_update, "UPDATE")):
        if action not in _PASSIVE:
            collect.error(
                "reference_acts",
                subject,
                f"{key.name} of {key.table} is ON {event} {action.name.replace('_', ' ')} and would act on our own "
                "changes: the source sends each consequence itself, so it would happen twice.",
                f"Let crossfade set session_replication_role, or remove the action until cutover:\n{_recreate(key)}",
            )
            return
    if key.is_deferrable:
        return
    remedy = f"ALTER TABLE {sql_name(key.table)} ALTER CONSTRAINT {quoted(key.name)} DEFERRABLE;"
    if key.table == key.referenced:
        collect.error(
            "reference_to_itself",
            subject,
            f"{key.name} of {key.table} refers to its own table and is not deferrable: a row can arrive before the one "
            "it refers to.",
            remedy,
        )
        return
    if _is_same_row(key, child, parent):
        if all(_keyspace(parent.plan, name) for name in key.referenced_columns):
            return  # both are written for each row, the one referred to first, and a new id never changes
        collect.error(
            "reference_order",
            subject,
            f"{key.name} of {key.table} is not deferrable, but refers to what the same source row becomes in "
            f"{key.referenced}: a key that changes cannot change in both at once.",
            remedy,
        )
        return
    counterpart = _counterpart(key, child, parent)
    if counterpart is None:
        reason = "the source has no such foreign key, so its rows may come in any order"
    elif counterpart.is_deferrable:
        reason = f"{counterpart.name} on the source is, so its rows may come in any order"
    elif counterpart.on_delete not in _PASSIVE:
        reason = (
            f"{counterpart.name} on the source is ON DELETE {counterpart.on_delete.name.replace('_', ' ')}, which "
            "sends the parent's delete before the children's"
        )
    elif counterpart.on_update not in _PASSIVE and not all(
        _keyspace(parent.plan, name) for name in key.referenced_columns
    ):  # a remapped id stays what it was when its old one changes (I5), so there is no consequence to wait for
        reason = (
            f"{counterpart.name} on the source is ON UPDATE {counterpart.on_update.name.replace('_', ' ')}, which "
            "sends the parent's new key before the children's"
        )
    else:
        if not counterpart.is_validated:
            collect.warning(
                "reference_not_validated",
                subject,
                f"{counterpart.name} on the source is NOT VALID: rows that break it stop the stream at {key.name}.",
                f"ALTER TABLE {sql_name(counterpart.table)} VALIDATE CONSTRAINT {quoted(counterpart.name)};",
            )
        return
    collect.error("reference_order", subject, f"{key.name} of {key.table} is not deferrable, but {reason}.", remedy)


def _recreate(key: ForeignKey) -> str:
    columns = ", ".join(quoted(name) for name in key.columns)
    referenced = ", ".join(quoted(name) for name in key.referenced_columns)
    table = sql_name(key.table)
    return (
        f"ALTER TABLE {table} DROP CONSTRAINT {quoted(key.name)};\n"
        f"ALTER TABLE {table} ADD CONSTRAINT {quoted(key.name)} FOREIGN KEY ({columns}) REFERENCES "
        f"{sql_name(key.referenced)} ({referenced}) DEFERRABLE;"
    )


def _counterpart(key: ForeignKey, child: _Side, parent: _Side) -> ForeignKey | None:
    """The source's foreign key between the same two tables over the columns that feed this one."""
    wanted = {
        (_fed_from(child.plan, name), _fed_from(parent.plan, referenced))
        for name, referenced in zip(key.columns, key.referenced_columns, strict=True)
    }
    for other in child.pair.source.foreign_keys:
        if other.referenced == parent.pair.source.name and (
            set(zip(other.columns, other.referenced_columns, strict=True)) == wanted
        ):
            return other
    return None


def _is_same_row(key: ForeignKey, child: _Side, parent: _Side) -> bool:
    """Both tables are made of one source table, and the reference of the same columns of it: a split."""
    if child.pair.source is not parent.pair.source:
        return False
    fed = [
        (_fed_from(child.plan, name), _fed_from(parent.plan, referenced))
        for name, referenced in zip(key.columns, key.referenced_columns, strict=True)
    ]
    return all(one is not None and one == other for one, other in fed)


def _fed_from(plan: TablePlan, column: str) -> str | None:
    fed = next((one for one in plan.columns if one.target.name == column), None)
    return fed.source.name if fed is not None and fed.source is not None else None


def _check_cycles(enforced: Sequence[ForeignKey], collect: Collector) -> None:
    """Tables that refer to each other in a ring cannot be copied one after the other."""
    parents: dict[TableName, set[TableName]] = {}
    for key in enforced:
        if key.table != key.referenced:
            parents.setdefault(key.table, set()).add(key.referenced)
    remaining = {name: set(above) for name, above in parents.items()}
    # Take away what refers to nothing that remains; what cannot be taken away is a ring or leads into one.
    while True:
        free = [name for name, above in remaining.items() if not above & remaining.keys()]
        if not free:
            break
        for name in free:
            del remaining[name]
    for ring in _rings(remaining):
        collect.error(
            "reference_cycle",
            f"target {ring[0]}",
            f"The foreign keys of {' and '.join(str(name) for name in ring)} form a ring, so neither can be copied "
            "before the other while foreign keys are enforced.",
            "Let crossfade set session_replication_role (PostgreSQL 15 and later: GRANT SET ON PARAMETER "
            "session_replication_role TO its role), or create one of the foreign keys after the copy.",
        )


def _rings(parents: Mapping[TableName, set[TableName]]) -> list[tuple[TableName, ...]]:
    """The sets of tables that reach each other, each once, sorted."""
    reach = {name: _reach(name, parents) for name in parents}
    rings = {tuple(sorted({other for other in reach[name] if name in reach.get(other, set())})) for name in parents}
    return sorted(ring for ring in rings if ring)


def _reach(start: TableName, parents: Mapping[TableName, set[TableName]]) -> set[TableName]:
    seen: set[TableName] = set()
    todo = [start]
    while todo:
        for parent in parents.get(todo.pop(), set()):
            if parent not in seen:
                seen.add(parent)
                todo.append(parent)
    return seen


def check_triggers(target: Table, collect: Collector, *, as_origin: bool) -> None:
    """Triggers and rules that would fire on what we write (H1)."""
    for trigger in target.triggers:
        what = "rule" if trigger.is_rule else "trigger"
        if trigger.enabled not in ({"O", "A"} if as_origin else {"R", "A"}):
            continue
        if as_origin:
            collect.error(
                "trigger_fires",
                f"target {target.name}",
                f"The {what} {trigger.name} of {target.name} would fire on every row crossfade writes, although it "
                "(or its like) already did so on the source.",
                f"ALTER TABLE {sql_name(target.name)} DISABLE {what.upper()} {quoted(trigger.name)};\n"
                "-- and enable it again at cutover",
            )
        else:
            enabled = "ALWAYS" if trigger.enabled == "A" else "REPLICA"
            collect.warning(
                "trigger_fires",
                f"target {target.name}",
                f"The {what} {trigger.name} of {target.name} is ENABLE {enabled}: it fires on what crossfade writes.",
                f"ALTER TABLE {sql_name(target.name)} ENABLE {what.upper()} {quoted(trigger.name)};",
            )
