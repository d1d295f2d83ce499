"""What is put into a replication command, which has no parameters (F27)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.source.slot import quoted_name, quoted_publications


@pytest.mark.parametrize("name", ["", "Upper", "a-b", 'a"b', "a b", "a;b", "ä", "a" * 64, "a\n", "a'b"])
def test_F27_no_other_slot_name_reaches_the_server(name: str) -> None:
    with pytest.raises(ValueError, match="slot name"):
        quoted_name(name)


def test_F27_slot_names_as_the_server_allows_them() -> None:
    assert quoted_name("crossfade_1") == '"crossfade_1"'
    assert quoted_name("a" * 63) == '"' + "a" * 63 + '"'


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("crossfade",), "'\"crossfade\"'"),
        (("one", "two"), '\'"one","two"\''),
        (('quo"te',), '\'"quo""te"\''),
        (("o'clock",), "'\"o''clock\"'"),
        (("Mixed Case, and comma",), "'\"Mixed Case, and comma\"'"),
    ],
)
def test_F27_publication_names(names: tuple[str, ...], text: str) -> None:
    assert quoted_publications(names) == text


@given(st.lists(st.text(alphabet="a\"',; \\\n%é", min_size=1, max_size=8), min_size=1, max_size=4))
def test_F27_reading_the_quotes_gives_the_names_back(names: list[str]) -> None:
    """Read as the server reads it: a string constant first, then a list of identifiers."""
    quoted = quoted_publications(tuple(names))
    assert quoted[0] == quoted[-1] == "'"
    inner = quoted[1:-1]
    assert "'" not in inner.replace("''", "")
    assert _identifiers(inner.replace("''", "'")) == names


def _identifiers(text: str) -> list[str]:
    found: list[str] = []
    at = 0
    while at < len(text):
        assert text[at] == '"'
        at += 1
        name = ""
        while True:
            if text[at] == '"' and text[at + 1 : at + 2] == '"':
                name, at = name + '"', at + 2
            elif text[at] == '"':
                break
            else:
                name, at = name + text[at], at + 1
        found.append(name)
        at += 1
        assert text[at : at + 1] in {"", ","}
        at += 1
    return found
