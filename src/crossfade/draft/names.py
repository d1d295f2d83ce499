"""How alike two names are, as somebody would judge who reads both schemas side by side.

`tbl_CustOrders` and `customer_orders` are one name to a person: the case, the plural, a prefix that every table wears
and a usual abbreviation say nothing. Here names become words, and words are compared. Refuses to know tables, types and
foreign keys. The invariant: likeness is the same in both directions, 1.0 exactly for names that are the same words in
the same order, and never depends on what else there is.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final

Words = tuple[str, ...]

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W_0-9A-Za-z]+")
_IRREGULAR: Final = {
    "people": "person", "children": "child", "men": "man", "women": "woman", "feet": "foot", "mice": "mouse",
    "indices": "index", "indexes": "index", "matrices": "matrix", "vertices": "vertex", "criteria": "criterion",
    "data": "data", "media": "media", "news": "news", "series": "series", "species": "species", "status": "status",
    "bus": "bus", "address": "address", "analyses": "analysis",
    "bases": "base", "leaves": "leaf", "lives": "life",
    "quizzes": "quiz", "movies": "movie", "cookies": "cookie", "gas": "gas", "statuses": "status",
    "bonuses": "bonus", "viruses": "virus",
    "campuses": "campus", "buses": "bus", "ids": "id",
}  # fmt: skip
# Words that schemas write short. Left: as found; right: what it stands for (the first is the one compared).
_SHORT: Final = {
    "acct": "account", "addr": "address", "amt": "amount", "avg": "average", "bal": "balance", "cat": "category",
    "cfg": "config", "cnt": "count", "cntry": "country", "ctry": "country", "cust": "customer", "dept": "department",
    "descr": "description", "desc": "description", "dob": "birthday", "doc": "document", "emp": "employee",
    "fk": "id", "fname": "first name", "img": "image", "inv": "invoice", "lang": "language", "lname": "last name",
    "loc": "location", "max": "maximum", "mgr": "manager", "min": "minimum", "msg": "message", "nbr": "number",
    "no": "number", "nr": "number", "num": "number", "ord": "order", "org": "organisation",
    "organization": "organisation", "pct": "percent", "ph": "phone", "pic": "picture", "pk": "id", "pos": "position",
    "prod": "product", "pwd": "password", "passwd": "password", "qty": "quantity", "nm": "name",
    "ref": "reference", "seq": "sequence",
    "ship": "shipment", "shipping": "shipment", "sku": "sku", "stat": "status", "subscr": "subscription",
    "supp": "supplier", "tel": "phone", "telephone": "phone", "temp": "temporary", "tmp": "temporary",
    "trans": "transaction", "txn": "transaction", "txt": "text", "typ": "type", "usr": "user", "val": "value",
    "whse": "warehouse", "wh": "warehouse", "yr": "year", "mth": "month",
}  # fmt: skip
# Different words that mean one thing in schemas: near, not equal.
_ALIKE: Final[tuple[frozenset[str], ...]] = tuple(
    frozenset(_IRREGULAR.get(word, word) for word in group.split())
    for group in (
        "user account member login",
        "customer client buyer account",
        "product item article",
        "order purchase",
        "line item position detail",
        "created creation inserted added registered entered cre ins",
        "updated modified changed update upd mod",
        "deleted removed del",
        "at on date time timestamp dt ts when datetime",
        "name title label",
        "name full",
        "description text note comment remark body",
        "comment note remark",
        "state status",
        "price cost",
        "price amount",
        "amount total sum value",
        "email mail",
        "zip postcode postal post",
        "phone mobile",
        "count number quantity",
        "id key code",
        "code number",
        "category group class kind type",
        "vendor supplier",
        "company organisation firm",
        "employee staff worker",
        "image picture photo",
        "city town",
        "region province",
        "birthday birth born birthdate",
        "active enabled",
        "position rank sort order sequence",
        "parent manager boss",
        "log audit history journal",
        "message notification",
        "warehouse depot store",
        "shipment delivery dispatch",
        "rating score star",
        "config setting preference option parameter",
        "last latest",
        "sent shipped",
        "placed ordered",
        "start begin from valid",
        "end finish until to expires expiry",
        "paid payment",
        "invoice bill",
        "currency cur curr",
        "session login",
        "role permission",
        "tag label keyword",
    )
)
# Words that nearly every name could hold: they weigh less than the words that tell tables apart.
_LIGHT: Final = frozenset({"id", "at", "on", "date", "time", "is", "has", "flag", "of", "the", "timestamp", "by", "dt"})
_LIGHT_WEIGHT: Final = 0.45
_SYNONYM: Final = 0.8
_ABBREVIATION: Final = 0.75
_MISSPELT: Final = 0.7
_EXACT_WORDS: Final = 0.97  # the same words, one of them a well-known short form, or in another order
_SHARED_BY: Final = 0.6  # a prefix that this part of all names wears says nothing
_TABLE_PREFIXES: Final = frozenset({"tbl", "tb", "tab", "table", "t", "app", "sys"})


@functools.lru_cache(maxsize=65536)
def words(name: str) -> Words:
    """`tblCustOrders` -> ('tbl', 'customer', 'order'): lower case, singular, short forms written out."""
    found: list[str] = []
    for part in _WORD.findall(name):
        word = singular(part.lower())
        found.extend(_SHORT.get(word, word).split())
    return tuple(found) or (name,)


def singular(word: str) -> str:
    """The singular of an English plural; a word that is none stays as it is."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 4 and word.endswith("ies"):  # "ties", "dies" stay
        return f"{word[:-3]}y"
    if len(word) > 4 and word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def shared_prefix(names: Collection[str]) -> Words:
    """The words most of these names begin with and could do without; () when there are none."""
    prefix: Words = ()
    split = [words(name) for name in names]
    while len(split) >= 3:  # fewer show no habit
        n = len(prefix)
        following = Counter(each[n] for each in split if each[:n] == prefix and len(each) > n + 1)
        if not following:
            break
        word, count = following.most_common(1)[0]
        if count < _SHARED_BY * len(split):
            break
        prefix = (*prefix, word)
    return prefix


def table_words(name: str, prefix: Words) -> Words:
    """The words of a table's name without the schema's prefix, and without those that only say "table"."""
    found = without(words(name), prefix)
    while len(found) > 1 and found[0] in _TABLE_PREFIXES:
        found = found[1:]
    return found


def without(found: Words, prefix: Words) -> Words:
    """The words less a leading prefix, unless nothing would be left."""
    if prefix and len(found) > len(prefix) and found[: len(prefix)] == prefix:
        return found[len(prefix) :]
    return found


@functools.lru_cache(maxsize=262144)
def likeness(one: Words, other: Words) -> float:
    """0.0 (nothing in common) to 1.0 (the same words in the same order)."""
    if one == other:
        return 1.0
    if "".join(one) == "".join(other):
        return _EXACT_WORDS
    pairs = sorted(
        ((score, i, j) for i, a in enumerate(one) for j, b in enumerate(other) if (score := _word_likeness(a, b)) > 0),
        key=lambda each: (-each[0], each[1], each[2]),
    )
    left, right = set(range(len(one))), set(range(len(other)))
    gained = 0.0
    for score, i, j in pairs:
        if i in left and j in right:
            left.discard(i)
            right.discard(j)
            gained += score * (_weight(one[i]) + _weight(other[j]))
    total = _sum(one) + _sum(other)
    return min(_EXACT_WORDS, gained / total)


def _sum(found: Iterable[str]) -> float:
    return sum(_weight(word) for word in found)


def _weight(word: str) -> float:
    return _LIGHT_WEIGHT if word in _LIGHT else 1.0


@functools.lru_cache(maxsize=262144)
def _word_likeness(one: str, other: str) -> float:
    if one == other:
        return 1.0
    if any(one in group and other in group for group in _ALIKE):
        return _SYNONYM
    short, long = sorted((one, other), key=lambda word: (len(word), word))
    if len(short) >= 2 and short[0] == long[0] and _abbreviates(short, long):
        return _ABBREVIATION
    if len(short) >= 5 and _is_one_edit(short, long):
        return _MISSPELT
    return 0.0


def _abbreviates(short: str, long: str) -> bool:
    """`cat` or `ctgry` of `category`: its beginning, or its letters in order, most consonants among them."""
    if len(short) >= 3 and long.startswith(short):
        return True
    rest = iter(long)
    if len(short) < 3 or not all(letter in rest for letter in short):
        return False
    consonants = [letter for letter in long if letter not in "aeiou"]
    return len(short) * 2 >= len(consonants) and all(letter not in "aeiou" for letter in short[1:])


def _is_one_edit(short: str, long: str) -> bool:
    """One letter wrong, missing, or too many: a misspelling."""
    if len(long) - len(short) > 1:
        return False
    at = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return short[at + (len(short) == len(long)) :] == long[at + 1 :]
