"""The grammar of mapping.yaml as a JSON Schema: what an editor completes, explains and marks while somebody writes.

It says what can be said of a file without a database and without looking twice: shapes, keys, words, which of them
exclude each other. The reader (`mapping/load`) stays the judge. Refuses to know catalogs. The invariant: whatever the
reader takes, this takes; tests hold the keys of both together.

JSON Schema draft-07, which editors know best: json-schema.org/draft-07.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from crossfade.mapping.idrules import OtherOwner
from crossfade.mapping.plan import (
    Ambiguous,
    Nonexistent,
    OnColumnAdded,
    OnMissing,
    OnOrphan,
    OnTruncate,
    Strategy,
)

Schema = dict[str, object]

_PART: Final = r'(?:"(?:[^"]|"")+"|[^".]{1,63})'
_TABLE: Final = rf"^{_PART}\.{_PART}$"
_COLUMN: Final = rf"^{_PART}\.{_PART}\.{_PART}$"
_NOT_OURS: Final = "^(?!crossfade$)"
_INTEGERS: Final = ("smallint", "int2", "integer", "int", "int4", "bigint", "int8")
_NEW_TYPES: Final = ("uuid", "text", *_INTEGERS)

_NAME: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 63}
_VALUE: Final[Schema] = {"type": ["string", "number", "boolean", "null"]}


def mapping_schema() -> Schema:
    """The whole schema, as JSON values."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "crossfade mapping",
        "description": "What the new schema gets, and from where. Keyed by the target; see docs/mapping.md.",
        "type": "object",
        "additionalProperties": False,
        "required": ["version"],
        "anyOf": [{"required": ["schemas"]}, {"required": ["tables"]}],
        "properties": {
            "version": {"const": 1, "description": "The version of this grammar."},
            "schemas": _block(
                _said(
                    "Where the tables of a source schema land, under their own names.", {**_NAME, "pattern": _NOT_OURS}
                ),
                _NAME,
                "Source schema: target schema.",
            ),
            "exclude": _list(
                {"type": "string", "pattern": r"\."}, "Source tables left out, as patterns such as public.tmp_*."
            ),
            "ids": _block(
                _keyspace(),
                {"pattern": "^[a-z_][a-z0-9_]{0,59}$"},
                "Ids that change their type. What refers to them by a foreign key of the source follows by itself.",
            ),
            "policies": {
                "type": ["object", "null"],
                "additionalProperties": False,
                "properties": _policies(),
                "description": "What to do where there is a choice; each may be repeated under a table.",
            },
            "tables": _block(
                _table(),
                {"pattern": _TABLE, "not": {"pattern": r"^crossfade\."}},
                "What becomes of single tables: target schema.table.",
            ),
        },
    }


def _said(description: str, schema: Mapping[str, object]) -> Schema:
    return {**schema, "description": description}


def _block(values: Schema, names: Schema, description: str) -> Schema:
    return {
        "type": ["object", "null"],
        "additionalProperties": values,
        "propertyNames": names,
        "description": description,
    }


def _list(items: Schema, description: str) -> Schema:
    return {"type": ["array", "null"], "items": items, "description": description}


def _choice(words: Sequence[str], description: str, default: str) -> Schema:
    return {"enum": list(words), "description": description, "default": default}


# -- ids ------------------------------------------------------------------------------------------------------------


def _keyspace() -> Schema:
    table: Schema = {"type": "string", "pattern": _TABLE}
    column: Schema = {"type": "string", "pattern": _COLUMN}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["from", "strategy"],
        "properties": {
            "from": _said(
                "The source column, unique by itself: schema.table.column; or several of one table, unique together.",
                {"anyOf": [column, {"type": "array", "minItems": 2, "uniqueItems": True, "items": column}]},
            ),
            "to": _said("The type of the new ids.", {"enum": list(_NEW_TYPES)}),
            "strategy": {
                "enum": [strategy.value for strategy in Strategy],
                "description": "How new ids are made: uuid7 is ordered by time, uuid5 the same for the same old id.",
            },
            "by": _said("With offset: the number added to each id.", {"type": "integer", "not": {"const": 0}}),
            "sequence": _said("With sequence: a sequence of the target.", table),
            "table": _said("With table: a table of the target that holds old and new ids.", table),
        },
        "allOf": [
            _of_strategy(("offset",), "by", _INTEGERS),
            _of_strategy(("sequence",), "sequence", _INTEGERS),
            _of_strategy(("table",), "table", _NEW_TYPES),
            _of_strategy(("uuid7", "uuid4", "uuid5"), "", ("uuid", "text")),
        ],
    }


def _of_strategy(strategies: Sequence[str], needs: str, makes: Sequence[str]) -> Schema:
    """What goes with some strategies: the key they need, none of the others', and the types they make."""
    belongs: Schema = {name: False for name in ("by", "sequence", "table") if name != needs}
    return {
        "if": {"required": ["strategy"], "properties": {"strategy": {"enum": list(strategies)}}},
        "then": {
            "required": [needs] if needs else [],
            "properties": {**belongs, "to": {"enum": list(makes)}},
        },
    }


# -- policies -------------------------------------------------------------------------------------------------------


def _policies() -> Schema:
    return {
        "on_error": _choice(["stop"], "What a row that the target refuses does.", "stop"),
        "missing_row": _choice(
            [each.value for each in OnMissing], "An UPDATE whose row is not on the target.", OnMissing.INSERT.value
        ),
        "source_column_added": _choice(
            [each.value for each in OnColumnAdded], "A mapped source table gets a column.", OnColumnAdded.STOP.value
        ),
        "orphan_id": _choice(
            [each.value for each in OnOrphan],
            "A remapped reference to a row that does not exist.",
            OnOrphan.ALLOCATE.value,
        ),
        "truncate": _choice(
            [each.value for each in OnTruncate], "The source table is truncated.", OnTruncate.APPLY.value
        ),
    }


# -- tables and columns -----------------------------------------------------------------------------------------------


def _table() -> Schema:
    return {
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {
            "from": {
                "description": "The source table, where its name is another; a list of them makes one table of all.",
                "anyOf": [_SOURCE, {"type": "array", "minItems": 1, "items": {"anyOf": [_SOURCE, _one_source()]}}],
            },
            "where": _said("An SQL condition over the source row: which rows are taken.", _SQL),
            "only": _said("Take just the columns listed.", {"type": "boolean"}),
            "columns": _block(_column(), _NAME, "Target column: source column, or a rule."),
            "drop": {
                **_list({"type": "string"}, "Source columns left behind on purpose."),
                "uniqueItems": True,
            },
            "append_only": _said("INSERT and TRUNCATE alone are followed.", {"type": "boolean"}),
            **_policies(),
        },
        "allOf": [
            {
                "if": {"required": ["only"], "properties": {"only": {"const": True}}},
                "then": {
                    "anyOf": [{"required": ["columns"]}, _from_each({"type": "object", "required": ["columns"]})],
                    "allOf": [_unless_listed(_from_each({"properties": {"drop": False}}))],
                    "properties": {"drop": False},
                },
            },
            {
                "if": {"required": ["where"]},
                "then": _unless_listed(_from_each({"properties": {"where": False}})),
            },
        ],
    }


def _from_each(source: Schema) -> Schema:
    """A list of sources, each of them like this."""
    return {"required": ["from"], "properties": {"from": {"type": "array", "items": source}}}


def _unless_listed(schema: Schema) -> Schema:
    return {
        "if": {"required": ["from"], "properties": {"from": {"type": "array"}}},
        "then": schema,
    }


_SOURCE: Final[Schema] = {"type": "string", "pattern": _TABLE}


def _one_source() -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["table"],
        "description": "One of several sources, and what holds for it alone.",
        "properties": {
            "table": _said("The source table.", _SOURCE),
            "where": _said("An SQL condition over its rows: which are taken.", _SQL),
            "columns": _block(_column(), _NAME, "Target column: source column, or a rule."),
            "drop": {**_list({"type": "string"}, "Its columns left behind on purpose."), "uniqueItems": True},
        },
    }


_RULES: Final = ("remap", "timezone", "const", "values", "cast", "up")
_SQL: Final[Schema] = {"type": "string", "pattern": r"\S"}


def _several(description: str) -> Schema:
    return {
        "type": "array",
        "minItems": 2,
        "uniqueItems": True,
        "items": {"type": "string"},
        "description": description,
    }


def _alone_or_ids(rule: str) -> Schema:
    """A rule for single values, beside which there is one column."""
    return {"if": {"required": [rule]}, "then": {"properties": {"from": {"type": "string"}}}}


def _column() -> Schema:
    return {
        "oneOf": [
            {"type": "string", "description": "The source column, where its name is another."},
            _several("Source columns that are an id together."),
            {
                "type": "object",
                "additionalProperties": False,
                "minProperties": 1,
                "properties": _column_keys(),
                "dependencies": {
                    "ambiguous": ["timezone"],
                    "nonexistent": ["timezone"],
                    "otherwise": ["values"],
                    "down": ["up"],
                },
                "allOf": [
                    {"not": {"required": [one, other]}} for at, one in enumerate(_RULES) for other in _RULES[at + 1 :]
                ]
                + [{"not": {"required": [rule, "from"]}} for rule in ("const", "up")]
                + [_alone_or_ids(rule) for rule in ("timezone", "values", "cast")],
            },
        ]
    }


def _ids_by_path() -> Schema:
    step = r"""(\.[A-Za-z_][A-Za-z0-9_]*|\."([^"\\\\]|\\\\.)*"|\[(\*|[0-9]{1,9})\])"""
    path: Schema = {"type": "string", "pattern": rf"^\${step}*$"}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["ids", "path"],
        "properties": {
            "ids": _said("The keyspace.", {"type": "string"}),
            "path": _said("Where json or jsonb holds ids.", {"anyOf": [path, {"type": "array", "items": path}]}),
        },
    }


def _pair() -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["by", "of"],
        "properties": {
            "by": _said("The source column that says of which keyspace the id is.", {"type": "string"}),
            "of": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {"type": "string"},
                "description": "Its values, and the keyspace of each.",
            },
            "otherwise": {
                "description": "What becomes of an id of another type.",
                "anyOf": [{"enum": [each.value for each in OtherOwner]}, {"type": "null"}],
                "default": OtherOwner.ERROR.value,
            },
        },
    }


def _column_keys() -> Schema:
    return {
        "from": {
            "description": "The source column, where its name is another, or several that are an id together.",
            "anyOf": [{"type": "string"}, _several("With 'remap', or by their foreign key.")],
        },
        "remap": {
            "description": "Replace ids by those of a keyspace under ids; false keeps the old ones.",
            "anyOf": [
                {"type": "string"},
                {"const": False},
                _ids_by_path(),
                {"type": "array", "minItems": 1, "items": _ids_by_path()},
                _pair(),
            ],
        },
        "timezone": {
            "description": "Whose local time the timestamps are: an IANA zone. They become timestamptz.",
            "type": "string",
            "not": {"const": "?"},
        },
        "up": _said("An SQL expression over the source row.", _SQL),
        "down": _said("The way back: an SQL expression over the target row.", _SQL),
        "ambiguous": _choice([each.value for each in Ambiguous], "A time that was lived twice.", Ambiguous.LATER.value),
        "nonexistent": _choice(
            [each.value for each in Nonexistent], "A time that was left out.", Nonexistent.SHIFT.value
        ),
        "const": _said("The same value for every row.", _VALUE),
        "values": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": _VALUE,
            "description": "Old value: new value. NULL stays NULL.",
        },
        "otherwise": {
            "description": "What becomes of a value that is not listed.",
            "anyOf": [
                {"const": "error"},
                {"type": "null"},
                {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["const"],
                    "properties": {"const": _VALUE},
                },
            ],
            "default": "error",
        },
        "cast": _said("Allow a conversion that loses something.", {"const": "lossy"}),
    }
