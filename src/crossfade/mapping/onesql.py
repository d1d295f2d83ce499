"""Whether a text is one SQL expression and nothing else, so that it may be put between parentheses in a statement.

The server parses what is inside the parentheses by its own grammar; this reads just enough of the lexical structure to
know that they are closed where we close them. Refuses to judge the expression itself. The invariant: of a text that is
accepted, every parenthesis, quote and bracket is closed within it and none that it did not open, it holds no semicolon,
comment, parameter or dollar quote outside of quotes, and no comma outside of parentheses; so `(text)` is one
parenthesised expression, or the server refuses it.

PostgreSQL: sql-syntax-lexical.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# Strings that read backslashes come before plain words, or their letter would be taken for one.
_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
    |(?P<escaped>[eE]'(?:[^'\\]|''|\\.)*')
    |(?P<string>(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*')
    |(?P<quoted>(?:[uU]&)?"(?:[^"]|"")*")
    |(?P<comment>--|/\*)
    |(?P<word>(?![eE]')[^\W\d][\w$]*)
    |(?P<number>\d[\w.]*|\.\d\w*)
    |(?P<open>[(\[])
    |(?P<close>[)\]])
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_PAIRS: Final = {")": "(", "]": "["}
# What would make a subquery of a parenthesised expression; as a column's name it is written in quotes.
_QUERIES: Final = frozenset({"select", "values", "table"})


def problem_of(text: str) -> str:
    """Why the text cannot be taken for one expression, in words that follow "it ..."; "" when it can."""
    opened: list[str] = []
    is_empty = True
    for kind, part in _tokens(text):
        is_empty = False
        if kind == "comment":
            return "holds a comment: leave it out, or write it as a comment of the mapping file"
        if kind == "word" and part.lower() in _QUERIES:
            return f"holds {part.upper()}: no subquery is evaluated for a row (quote it if it is a column's name)"
        if kind == "open":
            opened.append(part)
        elif kind == "close":
            if not opened or opened.pop() != _PAIRS[part]:
                return f"closes a {part} that it does not open"
        elif kind == "other":
            if part == "\0":
                return "holds a character that no text can hold"
            if part == ";":
                return "holds a semicolon: it must be one expression"
            if part == "$":
                return "holds a $ outside of quotes: neither parameters nor dollar quotes can be used"
            if part in "'\"eE":  # the letter of a string that reads backslashes, and does not end
                return "opens a quote that it does not close"
            if part == "," and not opened:
                return "holds a comma outside of parentheses: it must be one expression"
    if opened:
        return f"opens a {opened[-1]} that it does not close"
    return "is empty" if is_empty else ""


def words_of(text: str) -> frozenset[str]:
    """Every name that the text holds, folded as the server does it: a column's, a function's, a keyword."""
    found: set[str] = set()
    for kind, token in _tokens(text):
        if kind == "word":
            found.add(token.lower())
        elif kind == "quoted":
            found.add(token[token.index('"') + 1 : -1].replace('""', '"'))
    return frozenset(found)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        assert kind is not None, "every alternative has a name"
        if kind != "space":
            yield kind, match[0]
