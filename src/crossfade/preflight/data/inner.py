"""The effects of rules for ids inside a value: arrays, documents, and ids whose keyspace another column names.

One small function for each, as `wire/references` has one. Refuses to know other rules. The invariant: what stands for
the value is NULL where the value is, and different where an old id is; new ids are the target's, so they are never made
here.

PostgreSQL: functions-array (`unnest`), functions-json ("The SQL/JSON Path Language", lax mode).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from psycopg import sql

from crossfade.catalog import Column
from crossfade.mapping.conversions import INTEGERS
from crossfade.mapping.idrules import IdPath, InnerIds, OtherOwner, RemapArray, RemapBy, RemapPaths
from crossfade.mapping.plan import Keyspace
from crossfade.preflight.data.effect import Effect, Orphans, new_id, not_owned, of_source
from crossfade.preflight.data.fits import Misfit

_WHOLE: Final = r"^-?[0-9]{1,18}$"
_UUID: Final = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"


def inner_ids(source: Column, rule: InnerIds, keyspaces: Mapping[str, Keyspace]) -> Effect:
    """The effect of whichever it is."""
    match rule:
        case RemapArray(keyspace):
            return _array(source, keyspaces[keyspace])
        case RemapPaths(parts):
            return _document(source, parts, keyspaces)
        case RemapBy():
            return _pair(source, rule, keyspaces)


def _array(source: Column, keyspace: Keyspace) -> Effect:
    value = of_source(source.name)
    shown = sql.SQL(
        "(SELECT pg_catalog.array_agg({} ORDER BY e.n) FROM pg_catalog.unnest({}) WITH ORDINALITY AS e(id, n))"
    ).format(new_id(sql.SQL("e.id"), keyspace.name), value)
    where = sql.SQL("EXISTS (SELECT FROM pg_catalog.unnest({}) AS e(id) WHERE {})").format(
        value, not_owned(sql.SQL("e.id"), keyspace)
    )
    return Effect(
        words=f"{source.name}, each of its elements as the new id of ids.{keyspace.name} ({keyspace.owner})",
        shown=shown,
        value=value,
        is_faithful=False,
        merges="",
        may_be_null=not source.not_null,
        orphans=(Orphans(keyspace.name, keyspace.owner, where),),
    )


def _document(source: Column, parts: tuple[IdPath, ...], keyspaces: Mapping[str, Keyspace]) -> Effect:
    value = of_source(source.name)
    refused: list[Misfit] = []
    orphans: list[Orphans] = []
    for part in parts:
        keyspace = keyspaces[part.keyspace]
        found = sql.SQL("pg_catalog.jsonb_path_query({}::jsonb, {}::jsonpath) AS e(id)").format(
            value, sql.Literal(part.path)
        )
        text = sql.SQL("(e.id #>> '{}')")
        old = _parsed(text, keyspace)
        no_id = sql.SQL(
            "EXISTS (SELECT FROM {} WHERE pg_catalog.jsonb_typeof(e.id) NOT IN ('string', 'number', 'null')"
            " OR ({} IS NOT NULL AND {} IS NULL))"
        ).format(found, text, old)
        refused.append(Misfit(f"whose {part.path} is no id", no_id))
        where = sql.SQL("EXISTS (SELECT FROM {} WHERE {})").format(found, not_owned(old, keyspace))
        orphans.append(Orphans(keyspace.name, keyspace.owner, where))
    places = ", ".join(f"{part.path} (ids.{part.keyspace})" for part in parts)
    return Effect(
        words=f"{source.name}, with new ids at {places}; all else stays as it is",
        shown=value,
        value=value,
        is_faithful=False,
        merges="",
        may_be_null=not source.not_null,
        misfits=tuple(refused),
        orphans=tuple(orphans),
    )


def _pair(source: Column, rule: RemapBy, keyspaces: Mapping[str, Keyspace]) -> Effect:
    value, by = of_source(source.name), sql.SQL("{}::text").format(of_source(rule.by))
    text = sql.SQL("{}::text").format(value)
    # A boolean is printed t, and cast to text true; char(n) loses its padding by the cast.
    names = [({"t": "true", "f": "false"}.get(key, key).rstrip(" "), keyspace) for key, keyspace in rule.of]
    others: sql.Composable = text if rule.otherwise is OtherOwner.KEEP else sql.SQL("NULL")
    shown = sql.SQL("CASE {} {} ELSE {} END").format(
        by,
        _arms((key, sql.SQL("{}::text").format(new_id(_parsed(text, keyspaces[name]), name))) for key, name in names),
        others,
    )
    stands_for = sql.SQL("CASE {} {} ELSE {} END").format(
        by, _arms((key, sql.SQL("{} || {}").format(sql.Literal(f"{name}:"), text)) for key, name in names), others
    )
    unnamed = sql.SQL("{} IS NOT NULL AND ({} = ANY ({}::text[])) IS NOT TRUE").format(
        value, by, sql.Literal([key for key, _ in names])
    )
    orphans = tuple(
        Orphans(
            name,
            keyspaces[name].owner,
            sql.SQL("{} = {} AND {}").format(
                by, sql.Literal(key), not_owned(_parsed(text, keyspaces[name]), keyspaces[name])
            ),
        )
        for key, name in names
    )
    refused = [
        Misfit(
            f"that are no {keyspaces[name].old_type}, as ids.{name} has them",
            sql.SQL("{} = {} AND {} IS NULL AND {} IS NOT NULL").format(
                by, sql.Literal(key), _parsed(text, keyspaces[name]), value
            ),
        )
        for key, name in names
    ]
    if rule.otherwise is OtherOwner.ERROR:
        refused.append(Misfit(f"of which {rule.by} names no keyspace", unnamed))
    return Effect(
        words=f"the new id of {source.name}, of the keyspace that {rule.by} names"
        f" ({', '.join(f'{key}: ids.{name}' for key, name in names)}); {_OTHERS[rule.otherwise]}",
        shown=shown,
        value=stands_for,
        is_faithful=False,
        merges="",
        may_be_null=rule.otherwise is OtherOwner.NULL or not source.not_null,
        misfits=tuple(refused),
        orphans=orphans,
    )


_OTHERS: Final[Mapping[OtherOwner, str]] = {
    OtherOwner.ERROR: "any other is an error",
    OtherOwner.KEEP: "any other is kept as it is",
    OtherOwner.NULL: "any other becomes NULL",
}


def _arms(arms: Iterable[tuple[str, sql.Composable]]) -> sql.Composable:
    return sql.SQL(" ").join(sql.SQL("WHEN {} THEN {}").format(sql.Literal(key), value) for key, value in arms)


def _parsed(text: sql.Composable, keyspace: Keyspace) -> sql.Composable:
    """A text as an id of the keyspace's type, so that its owner's index can be asked; NULL where it is none."""
    if keyspace.old_type in INTEGERS:
        return sql.SQL("(CASE WHEN {0} ~ {1} THEN {0}::bigint END)").format(text, sql.Literal(_WHOLE))
    if keyspace.old_type == "uuid":
        return sql.SQL("(CASE WHEN {0} ~ {1} THEN {0}::uuid END)").format(text, sql.Literal(_UUID))
    return text
