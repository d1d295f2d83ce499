"""The mapping and both catalogs in, a `Plan` out, or every reason why not.

The rooms beside this one decide (pairs, keyspaces, columns, identity, constraints); here they are called in order and
their answers put together. Refuses to know connections, settings and rows. The invariant: a plan is returned exactly
when there is no error among the findings, and all findings of one mapping come at once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from crossfade.catalog import Catalog, TableName
from crossfade.findings import Finding
from crossfade.mapping.collect import Collector
from crossfade.mapping.columns import compile_columns, taken_columns
from crossfade.mapping.compound import with_compounds
from crossfade.mapping.constraints import check_references, check_triggers, check_unique_keys, is_applied_as_origin
from crossfade.mapping.expressions import Answers, Expressions
from crossfade.mapping.identity import compile_identity
from crossfade.mapping.keyspaces import Keyspaces, compile_keyspaces
from crossfade.mapping.meaning import meaning_hash
from crossfade.mapping.merges import tell_apart
from crossfade.mapping.pairs import Pair, pair_tables
from crossfade.mapping.places import Place
from crossfade.mapping.plan import Plan, TablePlan, keyspaces_of
from crossfade.mapping.published import published_columns
from crossfade.mapping.pushed import row_filters
from crossfade.mapping.spec import Spec
from crossfade.mapping.splits import check_splits, with_one_owner


@dataclass(frozen=True, slots=True)
class Compiled:
    """`plan` is None exactly when `findings` holds an error."""

    plan: Plan | None
    findings: tuple[Finding, ...]


def compile_plan(
    spec: Spec,
    source: Catalog,
    target: Catalog,
    *,
    workflow: str,
    replica_role: bool,
    begun_with: Collection[TableName] = (),
    answers: Answers | None = None,
) -> Compiled:
    """Compile the mapping. `replica_role` tells whether we may set session_replication_role on the target;
    `begun_with` are the source tables of a run that has begun, empty before; `answers` is what the target said of the
    mapping's SQL (`expressions.questions`), None where nobody can ask it."""
    collect = Collector(spec)
    source = with_compounds(spec, source)
    keyspaces = compile_keyspaces(spec, source, target, collect)
    pairs = pair_tables(spec, source, target, collect, begun_with=begun_with)
    plans: list[TablePlan] = []
    for pair in pairs:
        beside = [other for other in pairs if other is not pair and other.source is pair.source]
        table = _table_plan(pair, beside, spec, keyspaces, Expressions(answers), collect)
        plans.append(table)
        check_unique_keys(pair, table, collect)
        check_triggers(pair.target, collect, as_origin=table.applied_as_origin or not replica_role)
    check_splits(pairs, collect)
    plans = with_one_owner(plans, keyspaces.by_name)
    foreign_keys = check_references(pairs, plans, source, target, collect, replica_role=replica_role)
    plans, bounded = tell_apart(pairs, plans, keyspaces.by_name, collect)
    _check_keyspaces_used(spec, keyspaces, plans, collect)
    if not pairs and not collect.has_errors:
        collect.error(
            "nothing_mapped", Place(1, 1), "The mapping matches no table.", "Look at 'schemas' and 'exclude'."
        )
    if collect.has_errors:
        return Compiled(None, collect.findings)
    plan = Plan(
        workflow,
        tuple(plans),
        bounded,
        foreign_keys,
        meaning_hash(plans, bounded),
        row_filters(plans, source),
    )
    return Compiled(plan, collect.findings)


def _table_plan(
    pair: Pair,
    beside: Sequence[Pair],
    spec: Spec,
    keyspaces: Keyspaces,
    expressions: Expressions,
    collect: Collector,
) -> TablePlan:
    """One table. After an error it is incomplete, and serves only to find more."""
    elsewhere = frozenset[str]().union(*(taken_columns(other, expressions) for other in beside))
    columns = compile_columns(pair, spec, keyspaces, expressions, collect, elsewhere=elsewhere)
    append_only = pair.spec is not None and pair.spec.append_only
    identity = compile_identity(pair, columns, collect, append_only=append_only)
    always = {column.name for column in pair.target.columns if column.identity == "a"}
    owned = [name for name, keyspace in keyspaces.by_name.items() if keyspace.owner == pair.source.name]
    return TablePlan(
        source=pair.source.name,
        target=pair.target.name,
        source_oid=pair.source.oid,
        is_partitioned=bool(pair.source.leaves) or pair.source.kind.name == "PARTITIONED",
        source_columns=published_columns(pair.source),
        columns=columns,
        identity=identity.columns,
        identity_is_full=identity.is_full,
        key=identity.key,
        key_is_unique=identity.key_is_unique,
        append_only=append_only,
        applied_as_origin=is_applied_as_origin(pair.target),
        moves_by_reinsert=any(name in always for name in identity.key),
        overrides_identity=any(column.target.name in always for column in columns),
        writable=tuple(column.name for column in pair.target.columns if not column.is_generated),
        owns=owned[0] if owned else None,
        policies=pair.spec.policies if pair.spec is not None else spec.policies,
        row_estimate=pair.source.row_estimate,
        bytes_estimate=pair.source.bytes,
        where=expressions.condition(pair, collect),
    )


def _check_keyspaces_used(spec: Spec, keyspaces: Keyspaces, plans: Sequence[TablePlan], collect: Collector) -> None:
    remapped = {name for plan in plans for column in plan.columns for name in keyspaces_of(column.rule)}
    owners = {plan.source for plan in plans}
    owned: dict[TableName, str] = {}
    for name, declared in spec.keyspaces.items():
        if declared.owner in owned:
            collect.error(
                "keyspaces_of_one_table",
                declared.place,
                f"ids.{name}: {declared.owner} already owns ids.{owned[declared.owner]}; two keyspaces of one table "
                "are not yet supported by this version.",
                "Remap one of the two columns.",
            )
        owned.setdefault(declared.owner, name)
    for name, keyspace in keyspaces.by_name.items():
        place = spec.keyspaces[name].place
        if name not in remapped:
            collect.warning(
                "keyspace_unused", place, f"No mapped column holds ids of ids.{name}.", "Remove it, or map its table."
            )
        elif keyspace.owner not in owners:
            collect.warning(
                "keyspace_owner_unmapped",
                place,
                f"ids.{name}: {keyspace.owner} itself is not mapped, only columns that refer to it.",
                "Map it as well, unless something else fills it.",
            )
