"""Whatever the two schemas: the draft can be read, and where it says that nothing is left to decide, nothing is.

Random pairs of schemas, alike in part. What `check` would refuse of the mapping must have been told as a decision.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.catalog import Table
from crossfade.draft.proposal import draft
from crossfade.draft.refresh import refresh
from crossfade.draft.write import mapping_text
from crossfade.findings import Finding, Severity
from crossfade.mapping.compile import compile_plan
from crossfade.mapping.load import parse_mapping
from tests.unit.mapping.builders import catalog, key, reference, table

TYPES = (
    *("int", "bigint", "uuid", "text", "varchar(20)", "varchar(40)", "boolean", "timestamp", "timestamptz", "date"),
    *("numeric(8,2)", "numeric(8,4)", "jsonb", "real", "<e>mood", "int[]", "oid"),
)
NAMES = ("name", "cust_name", "created", "created_at", "qty", "quantity", "state", "status", "n", "user_id", "x1", "no")
TABLES = ("users", "tbl_user", "orders", "tbl_order", "order_items", "tbl_order_line", "zebra", "logs")

_COLUMN = st.tuples(
    st.sampled_from(NAMES), st.sampled_from(TYPES), st.sampled_from(("", "!", "! =", " =", " generated"))
)
_TABLE = st.tuples(
    st.sampled_from(("int", "bigint", "uuid", "text", "varchar(10)", "")),
    st.lists(_COLUMN, min_size=1, max_size=5, unique_by=lambda each: each[0]),
    st.booleans(),
)
_SCHEMA = st.dictionaries(st.sampled_from(TABLES), _TABLE, min_size=1, max_size=4)


def made(schema: str, given: dict[str, tuple[str, list[tuple[str, str, str]], bool]]) -> list[Table]:
    """Tables with a key (or none), and a foreign key to the first where their types agree."""
    tables: list[Table] = []
    parent = next(iter(given))
    for name, (of_key, columns, is_unique) in given.items():
        described = [f"{column} {kind}{flags}" for column, kind, flags in columns]
        references = [
            reference(column, f"{schema}.{parent}")
            for column, kind, _ in columns
            if column == "user_id" and kind == given[parent][0]
        ]
        keys = [key(columns[0][0])] if is_unique and "generated" not in columns[0][2] else []
        tables.append(
            table(
                f"{schema}.{name}",
                *([f"id {of_key}"] if of_key else []),
                *described,
                pk="id" if of_key else None,
                keys=keys,
                references=references,
            )
        )
    return tables


def errors(text: str, source: Sequence[Table], target: Sequence[Table]) -> list[Finding]:
    compiled = compile_plan(parse_mapping(text), catalog(*source), catalog(*target), workflow="shop", replica_role=True)
    return [finding for finding in compiled.findings if finding.severity is Severity.ERROR]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(_SCHEMA, _SCHEMA)
def test_nothing_is_left_open_without_a_word(one: dict, other: dict) -> None:  # type: ignore[type-arg]
    source, target = made("public", one), made("app", other)
    drafted = draft(catalog(*source), catalog(*target))
    text = mapping_text(drafted)
    if not drafted.tables:  # nothing alike: the file says so and maps nothing
        return
    left = errors(text.replace('timezone: "?"', "timezone: UTC"), source, target)
    if not [line for line in drafted.decisions if not line.startswith("whose local time")]:
        assert left == [], text
    told = "\n".join(drafted.decisions)
    names = [(str(each.source.name), str(each.target.name)) for each in (*drafted.tables, *drafted.offered)]
    names += [(str(name), str(name)) for name in drafted.unmatched]
    for finding in left:  # each is told of, by the tables it is about
        about = [pair for pair in names if any(name in finding.sentence for name in pair)]
        assert any(name in told for pair in about for name in pair), (finding, text)
    spec = parse_mapping(text.replace('timezone: "?"', "timezone: UTC"))
    assert refresh(spec, catalog(*source), catalog(*target)).is_empty or drafted.decisions
