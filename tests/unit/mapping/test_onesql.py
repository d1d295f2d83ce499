"""What may stand between our parentheses: one expression, closed where we close it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.mapping.onesql import problem_of, words_of


@pytest.mark.parametrize(
    "text",
    [
        "a", "lower(email)", "a + (b * c)[1]", "'it''s; -- (no) comment'", 'x."odd;""name" = 1', "E'\\'; (' || a",
        "a::numeric(10, 2)", "coalesce(a, b)", "CASE WHEN a THEN 'x' END", "U&'\\0061' || a", "a <-> b", "a ~ '^x$'",
        "CAST(a AS timestamp with time zone)", "B'101' | a", "a$b + 1", "x'1F'", "a IN (1, 2)", "1.5e3 * a", '"select"',
    ],
)  # fmt: skip
def test_one_expression(text: str) -> None:
    assert problem_of(text) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"), ("  \n", "is empty"), ("a; b", "semicolon"), ("a) FROM t; DROP TABLE t; --", "closes a )"),
        ("(a", "opens a ("), ("a[1)", "closes a )"), ("a -- b", "comment"), ("a /* b */", "comment"),
        ("a, b", "comma"), ("f(a), b", "comma"), ("'a", "opens a quote"), ('"a', "opens a quote"),
        ("$1 + a", "holds a $"), ("$$a$$", "holds a $"), ("(SELECT 1)", "no subquery"), ("exists(table t)", "TABLE"),
        ("(values (1))", "VALUES"), ("E'\\' ; ", "opens a quote"), ("'a\\'; b", "semicolon"), ("a\0", "no text"),
    ],
)  # fmt: skip
def test_what_is_none(text: str, words: str) -> None:
    assert words in problem_of(text)


@given(st.text("ab()[]'\";,-/*$\\E \n", max_size=12))
def test_what_is_accepted_stays_between_its_parentheses(text: str) -> None:
    """Whatever follows our closing parenthesis is outside of it."""
    if problem_of(text):
        return
    assert problem_of(f"({text})") == ""
    assert problem_of(f"({text}), x") == "holds a comma outside of parentheses: it must be one expression"
    assert problem_of(f"({text}))").startswith("closes a )")


def test_names_are_folded_as_the_server_does_it() -> None:
    assert words_of('Lower(EMail) || "Odd""Name" || \'text\'') == {"lower", "email", 'Odd"Name'}
