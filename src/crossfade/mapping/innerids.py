"""Arrays of ids, ids inside documents, polymorphic references: whether the mapping's words fit both columns.

Refuses to know how they are carried out (`wire/references`). The invariant: a rule it returns names keyspaces that
exist, takes ids of their type out of the source column, and makes ids that the target column holds.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from crossfade.mapping.collect import Collector
from crossfade.mapping.conversions import TEXT, VARCHAR, Fit, element, judge
from crossfade.mapping.feeds import Feed
from crossfade.mapping.idrules import InnerIds, OtherOwner, RemapArray, RemapBy, RemapPaths
from crossfade.mapping.keyspaces import Keyspaces, check_remapped
from crossfade.mapping.places import did_you_mean
from crossfade.mapping.plan import Keyspace
from crossfade.mapping.spellings import printed

_DOCUMENTS: Final = frozenset({"json", "jsonb"})
_TEXTS: Final = frozenset({TEXT, VARCHAR})


def compile_inner(feed: Feed, rule: InnerIds, keyspaces: Keyspaces, collect: Collector) -> InnerIds | None:
    """The rule as it is carried out; None after an error."""
    match rule:
        case RemapArray():
            return rule if _check_array(feed, rule, keyspaces, collect) else None
        case RemapPaths():
            return rule if _check_document(feed, collect) else None
        case RemapBy():
            return _pair(feed, rule, keyspaces, collect)


def _refuse(feed: Feed, collect: Collector, sentence: str, remedy: str, path: str = "remap") -> None:
    collect.error("type_of_remapped", feed.at(path), f"{feed}: {sentence}.", remedy)


def _check_array(feed: Feed, rule: RemapArray, keyspaces: Keyspaces, collect: Collector) -> bool:
    if not feed.target.base_type.endswith("[]"):
        _refuse(
            feed, collect, f"an array of ids cannot become {feed.target.type_name}", "Make the target column an array."
        )
        return False
    keyspace = keyspaces.by_name.get(rule.keyspace)
    if keyspace is None:
        return True  # its own error was told
    problem = check_remapped(keyspace, element(feed.source), element(feed.target), is_declared=False)
    if problem is not None:
        _refuse(feed, collect, f"of its elements, {problem[0]}", problem[1])
    return problem is None


def _check_document(feed: Feed, collect: Collector) -> bool:
    fits = feed.source.base_type in _DOCUMENTS and feed.target.base_type in _DOCUMENTS
    if not fits:
        _refuse(
            feed,
            collect,
            f"paths lead into json and jsonb, not from {feed.source.type_name} to {feed.target.type_name}",
            "For a column that holds one id, or an array of them, write {remap: user}.",
        )
        return False
    verdict = judge(feed.source, feed.target)
    if verdict.fit is Fit.CHECKED:
        collect.warning("type_narrowed", feed.place, f"{feed}: {verdict.sentence}.", verdict.remedy)
    return True


def _pair(feed: Feed, rule: RemapBy, keyspaces: Keyspaces, collect: Collector) -> RemapBy | None:
    asked = feed.pair.source.column(rule.by)
    if asked is None or asked.is_generated:
        names = [column.name for column in feed.pair.source.columns if not column.is_generated]
        collect.error(
            "pair_type_column",
            feed.at("remap.by"),
            f"{feed.pair.source.name} on the source has no column {rule.by!r} that is sent, to say whose id "
            f"{feed.source.name} is.{did_you_mean(rule.by, names)}",
            "Name the column with the type.",
        )
        return None
    is_fine = _check_asked(feed, rule, collect)
    of: dict[str, str] = {}
    for written, name in rule.of:
        try:
            key = printed(written, asked)
        except ValueError:
            collect.error(
                "pair_type_column",
                feed.at("remap.by"),
                f"{feed.pair.source.name}.{rule.by} is {asked.type_name}: its values cannot be told apart by what is "
                "written here.",
                "The type can be an integer, text, varchar, char(n), boolean, uuid or an enum.",
            )
            return None
        if key is None or key in of:
            is_fine = False
            why = f"never holds {written!r}" if key is None else f"is given {written!r} twice, in other words"
            collect.error(
                "pair_type_value",
                feed.at(f"remap.of.{written}"),
                f"{feed.pair.source.name}.{rule.by} {why}.",
                "Correct or remove it.",
            )
            continue
        of[key] = name
        keyspace = keyspaces.by_name.get(name)
        if keyspace is not None:
            is_fine &= _check_one(feed, keyspace, f"remap.of.{written}", collect)
    if rule.otherwise is OtherOwner.KEEP and judge(feed.source, feed.target).fit is Fit.REFUSED:
        is_fine = False
        _refuse(
            feed,
            collect,
            f"ids that are kept are {feed.source.type_name}, which {feed.target.type_name} cannot hold",
            "Choose another 'otherwise', or make the target column text.",
            "remap.otherwise",
        )
    return dataclasses.replace(rule, of=tuple(of.items())) if is_fine else None


def _check_asked(feed: Feed, rule: RemapBy, collect: Collector) -> bool:
    """The type column is not dropped on the way."""
    spec = feed.pair.spec
    if spec is None or rule.by not in spec.drop:
        return True
    collect.error(
        "column_used_and_dropped",
        spec.drop[rule.by],
        f"{feed.pair.source.name}.{rule.by} is dropped here and says whose id {feed.feeds} is in line "
        f"{feed.place.line}.",
        "Remove it here: what is used for nothing else need not be dropped.",
    )
    return False


def _check_one(feed: Feed, keyspace: Keyspace, path: str, collect: Collector) -> bool:
    """Ids of one keyspace: out of the source column, into the target column. Texts take ids of every type."""
    source, target = feed.source, feed.target
    if source.base_type in _TEXTS:
        source = dataclasses.replace(source, base_type=keyspace.old_type if keyspace.old_type != TEXT else TEXT)
    if target.base_type in _TEXTS:
        target = dataclasses.replace(target, base_type=keyspace.new_type, typmod=-1)
    problem = check_remapped(keyspace, source, target, is_declared=False)
    if problem is not None:
        _refuse(feed, collect, f"{problem[0]} ({feed.target.type_name})", problem[1], path)
    return problem is None
