"""A YAML file as a tree of scalars, lists and blocks, each knowing its place.

YAML as most parsers read it is a trap: `NO` is false, `on` is true, a key written twice silently wins, an alias can
grow a kilobyte into a gigabyte, a tag can name a class. This reads the core of YAML 1.2 alone: true, false, null,
integers, floats, and everything else is a string; duplicate keys, anchors, aliases and tags are problems. Refuses to
know what the keys mean. The invariant: reading a file of any content ends, in bounded depth, with a tree or with
problems, never with another exception.

YAML 1.2.2: section 10.3, "Core Schema".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import yaml

from crossfade.mapping.places import Place, Report

_SURROGATE: Final = re.compile("[\ud800-\udfff]")  # not UTF-8, and not to be printed either
_DEEPEST: Final = 32  # a mapping nests five levels; the composer recurses, so hostile depth must end before Python does


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value. `text` is it as written, without quotes; `value` is what that means."""

    value: str | int | float | bool | None
    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class Listing:
    """A YAML sequence."""

    items: tuple[Node, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a block with what stands under it. Keys are text as written, whatever they look like."""

    key: str
    place: Place
    value: Node
    is_quoted: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """A YAML mapping, in file order, keys unique."""

    entries: tuple[Entry, ...]
    place: Place


Node = Scalar | Listing | Block


def describe(node: Node) -> str:
    """What a person would call it: `a list`, `the number 5`, `nothing`."""
    match node:
        case Listing():
            return "a list"
        case Block():
            return "a block of keys"
        case Scalar(value=None):
            return "nothing"
        case Scalar(value=bool(), text=text):
            return f"the truth value {text}"
        case Scalar(value=int() | float(), text=text):
            return f"the number {text}"
        case Scalar():
            return "a text"


class _TooDeep(yaml.MarkedYAMLError):
    """Nesting no mapping needs."""


class _Loader(yaml.SafeLoader):
    """Composes nodes only; nothing is ever constructed from a tag."""

    def __init__(self, text: str, report: Report) -> None:
        super().__init__(text)
        self._report = report
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs leave the parser untyped
        place = _place(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]
            self._report.add(place, "", f"aliases are not supported: write out what *{event.anchor} stands for.")
            return yaml.ScalarNode("tag:yaml.org,2002:null", "", event.start_mark, event.end_mark)  # type: ignore[arg-type]
        if event.anchor is not None:
            self._report.add(place, "", f"anchors are not supported: remove &{event.anchor}.")
        if event.tag is not None:
            self._report.add(place, "", f"tags are not supported: remove {event.tag!r}; quote the value if it is text.")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _TooDeep(problem="nested too deeply", problem_mark=event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)  # type: ignore[arg-type]
        self._depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {}
_CORE: Final = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)
for _name, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), _first)


def read_tree(text: str, report: Report) -> Node | None:
    """Read a whole file. Problems go to the report; None when no tree could be made of it."""
    try:
        loader = _Loader(text, report)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        column = len(before) - (before.rfind("\n") + 1) + 1
        report.add(
            Place(before.count("\n") + 1, column), "", f"the character {_name_of(error.character)} is not allowed."
        )
        return None
    try:
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _place(mark) if mark is not None else Place(1, 1)
        reason = error.problem or "this cannot be read"
        context = f" ({error.context})" if error.context else ""
        report.add(place, "", f"this is not YAML: {_plain(reason)}{_plain(context)}.")
        return None
    except (ValueError, OverflowError):  # of PyYAML's own chr() and int(): "\\UFFFFFFFF", or a %YAML of 5,000 digits
        report.add(_place(loader.get_mark()), "", "this is not YAML: the number here is too large.")
        return None
    finally:
        loader.dispose()
    return None if root is None else _convert(root, "", report)


def _plain(words: str) -> str:
    """PyYAML's reasons in words for people who never heard of tokens."""
    words = words.replace("expected <block end>, but found", "the indentation does not fit, found")
    return re.sub(r"'<([a-z ]+)>'", r"\1", words)


def _name_of(character: object) -> str:
    code = ord(character) if isinstance(character, str) else character
    return f"U+{code:04X}" if isinstance(code, int) else "found here"


def _place(mark: yaml.Mark | yaml.error.Mark) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _convert(node: yaml.Node, path: str, report: Report) -> Node:
    place = _place(node.start_mark)
    if isinstance(node, yaml.MappingNode):
        return Block(_entries(node, path, report), place)
    if isinstance(node, yaml.SequenceNode):
        return Listing(tuple(_convert(item, f"{path}[{i}]", report) for i, item in enumerate(node.value)), place)
    return _scalar(node, place, path, report)


def _entries(node: yaml.MappingNode, path: str, report: Report) -> tuple[Entry, ...]:
    entries: dict[str, Entry] = {}
    for key_node, value_node in node.value:
        place = _place(key_node.start_mark)
        if not isinstance(key_node, yaml.ScalarNode):
            report.add(place, path, "a key must be a plain name.")
            continue
        key = _storable(str(key_node.value), place, path, report)
        below = f"{path}.{key}" if path else key
        if (first := entries.get(key)) is not None:
            report.add(place, below, f"this key is already given in line {first.place.line}.")
            continue
        entries[key] = Entry(key, place, _convert(value_node, below, report), key_node.style in ("'", '"'))
    return tuple(entries.values())


def _scalar(node: yaml.Node, place: Place, path: str, report: Report) -> Scalar:
    text = _storable(str(node.value), place, path, report)
    kind = node.tag.rpartition(":")[2]
    value: str | int | float | bool | None = text
    if kind == "null":
        value = None
    elif kind == "bool":
        value = text.lower() == "true"
    elif kind == "int":
        value = _integer(text)
        if value is None:
            report.add(place, path, "this number is too long.")
    elif kind == "float":
        value = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return Scalar(value, text, place)


def _storable(text: str, place: Place, path: str, report: Report) -> str:
    """The text without what no database can hold, which escapes such as "\\0" and "\\ud83d" can bring into it."""
    if "\0" in text:
        report.add(place, path, "a NUL character is not allowed: PostgreSQL cannot store it.")
        text = text.replace("\0", "")
    if (half := _SURROGATE.search(text)) is not None:
        report.add(
            place,
            path,
            f"the escape for {_name_of(half[0])} is half a character: write the character itself, or \\U and its"
            " eight hex digits.",
        )
        text = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
    return text


def _integer(text: str) -> int | None:
    if len(text) > 200:  # no PostgreSQL integer comes near; Python's own limit would raise at 4,300
        return None
    if text.startswith("0o"):
        return int(text[2:], 8)
    if text.startswith("0x"):
        return int(text[2:], 16)
    return int(text)
