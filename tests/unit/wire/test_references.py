"""Ids inside arrays, documents and pairs: found, and replaced without touching anything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.faults import ProtocolViolation, RowRefused
from crossfade.mapping.idrules import WILDCARD, parsed_path
from crossfade.wire import arraytext, documents


def swapped(old: bytes) -> bytes:
    return b"<" + old + b">"


# arrays --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("literal", "elements", "rebuilt"),
    [
        (b"{}", [], b"{}"),
        (b"{1,NULL,-3}", [b"1", None, b"-3"], b'{"<1>",NULL,"<-3>"}'),
        (b"{{1,2},{3,NULL}}", [b"1", b"2", b"3", None], b'{{"<1>","<2>"},{"<3>",NULL}}'),
        (b"[0:1][-3:-3]={{4},{5}}", [b"4", b"5"], b'[0:1][-3:-3]={{"<4>"},{"<5>"}}'),
        (rb'{"","a b","NULL","q\"\\",x}', [b"", b"a b", b"NULL", b'q"\\', b"x"],
         rb'{"<>","<a b>","<NULL>","<q\"\\>","<x>"}'),
    ],
)  # fmt: skip
def test_array_literals(literal: bytes, elements: list[bytes | None], rebuilt: bytes) -> None:
    assert arraytext.elements(literal) == elements
    assert arraytext.rebuilt(literal, swapped) == rebuilt


@pytest.mark.parametrize("new", [b"17", b"-17", b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"])
def test_numbers_and_uuids_need_no_quotes(new: bytes) -> None:
    assert arraytext.rebuilt(b"{1}", lambda _: new) == b"{" + new + b"}"


def test_a_new_id_that_reads_null_is_quoted() -> None:
    assert arraytext.rebuilt(b"{1}", lambda _: b"null") == b'{"null"}'


@given(st.lists(st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"))))
def test_any_texts_come_back(values: list[str | None]) -> None:
    quoted = [
        b"NULL" if one is None else b'"' + one.encode().replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
        for one in values
    ]
    literal = b"{" + b",".join(quoted) + b"}"
    elements = [None if one is None else one.encode() for one in values]
    assert arraytext.elements(literal) == elements
    assert arraytext.elements(arraytext.rebuilt(literal, lambda old: old)) == elements


@pytest.mark.parametrize("literal", [b"", b"1", b"{", b"{1", b'{"a}', b"[0:1]=1", b'{a"b"\\}'])
def test_what_is_no_array_literal(literal: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        arraytext.elements(literal)


# documents -----------------------------------------------------------------------------------------------------------


def replaced(document: str, *paths: str, begin: int = 0) -> str:
    data = document.encode()
    wanted = []
    for path in paths:
        steps = parsed_path(path)
        assert steps is not None
        wanted.append((steps, path))
    at, out = begin, data[:begin]
    for found in documents.find(data, begin, wanted):
        out += data[at : found.start] + documents.quoted(swapped(found.value))
        at = found.stop
    return (out + data[at:]).decode()


@pytest.mark.parametrize(
    ("document", "path", "expected"),
    [
        ('{"owner": 42, "n": 42}', "$.owner", '{"owner": "<42>", "n": 42}'),
        ('{"owner":"x\\u0079"}', "$.owner", '{"owner":"<xy>"}'),
        ('{"owner": null}', "$.owner", '{"owner": null}'),
        ("{}", "$.owner", "{}"),
        ("[]", "$.owner", "[]"),
        ('"x"', "$.owner", '"x"'),
        ("7", "$", '"<7>"'),
        (' [1, 2,{"a":[3]} ] ', "$[1]", ' [1, "<2>",{"a":[3]} ] '),
        ('[{"id": 1, "x": {"id": 9}}, {"id": 2}, 5]', "$[*].id", '[{"id": "<1>", "x": {"id": 9}}, {"id": "<2>"}, 5]'),
        ('{"a": {"b": [[1], [2, 3]]}}', "$.a.b[*][*]", '{"a": {"b": [["<1>"], ["<2>", "<3>"]]}}'),
        ('{"odd name": 1, "a": "]}\\"["}', '$."odd name"', '{"odd name": "<1>", "a": "]}\\"["}'),
        ('{"a": {"owner": 1}, "owner": 2}', "$.owner", '{"a": {"owner": 1}, "owner": "<2>"}'),
        ('{"owner": 1, "owner": 2}', "$.owner", '{"owner": "<1>", "owner": "<2>"}'),  # json keeps both
        ('{"n": 1e400, "f": -0.10, "owner": 12345678901234567890}', "$.owner",
         '{"n": 1e400, "f": -0.10, "owner": "<12345678901234567890>"}'),
        ('{"ü😀": 1}', '$."ü😀"', '{"ü😀": "<1>"}'),
    ],
)  # fmt: skip
def test_paths(document: str, path: str, expected: str) -> None:
    assert replaced(document, path) == expected


def test_several_paths_in_one_document() -> None:
    assert replaced('{"a": 1, "b": [{"c": 2}, {"c": "3"}]}', "$.b[*].c", "$.a") == (
        '{"a": "<1>", "b": [{"c": "<2>"}, {"c": "<3>"}]}'
    )


@pytest.mark.parametrize("document", ['{"o": 1.5}', '{"o": true}', '{"o": {"x": 1}}', '{"o": [1]}', '{"o": 1e3}'])
def test_what_is_no_id_is_refused_without_being_shown(document: str) -> None:
    with pytest.raises(RowRefused) as refused:
        replaced(document, "$.o")
    assert "1" not in str(refused.value)


@pytest.mark.parametrize(
    "document", ["", "{", '{"a"}', '{"a": 1', "[1", "[1 2]", '"a', '{"a": 1}}', "{1: 2}", '{"a": }']
)
def test_what_is_no_document(document: str) -> None:
    with pytest.raises(ProtocolViolation):
        replaced(document, "$.a", "$[0]")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3) | st.sampled_from(["id", "a"]), inner),
)


def _expected(value: Any) -> Any:
    """The same by Python's own parser: `$.a[*].id`, where it is a text or a whole number."""
    if isinstance(value, dict) and isinstance(value.get("a"), list):
        for element in value["a"]:
            if isinstance(element, dict) and isinstance(element.get("id"), int | str):
                element["id"] = f"<{element['id']}>"
    return value


@given(
    st.dictionaries(
        st.sampled_from(["a", "b"]), _JSON | st.lists(st.dictionaries(st.just("id"), st.integers() | st.text()))
    )
)
def test_as_a_parser_would_say(value: Any) -> None:
    document = json.dumps(value, ensure_ascii=False)
    try:
        document.encode()
    except UnicodeEncodeError:
        return
    try:
        found = replaced(document, "$.a[*].id")
    except RowRefused:
        return
    assert json.loads(found) == _expected(json.loads(document))


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("$", ()), ("$.a", ("a",)), ("$.a[*].b_1", ("a", WILDCARD, "b_1")), ('$."a.b"[10]', ("a.b", 10)),
        ("a", None), ("$a", None), ("$.", None), ("$..a", None), ("$[-1]", None), ("$.a[?(@ > 1)]", None),
        ("$[1 to 2]", None), ('$."a', None), ("$.ü", None), ("", None), ("$.a ", None),
    ],
)  # fmt: skip
def test_which_paths_there_are(path: str, steps: tuple[object, ...] | None) -> None:
    assert parsed_path(path) == steps
