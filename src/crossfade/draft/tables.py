"""Which source table a target table is most likely made of.

A name says most; the columns, weighed by how rare they are (every table has an `id`, few a `tracking_number`), say
whether the name may be believed; foreign keys say it again for the neighbours. Refuses to know what is written of it.
The invariant: a table is in one match at the most, and the same schemas give the same matches, whatever the order they
are read in.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from crossfade.catalog import Catalog, Table, TableKind, TableName
from crossfade.draft.columns import Candidate, match_columns
from crossfade.draft.names import Words, likeness, shared_prefix, table_words, without, words

LIKELY: Final = 0.5  # from here on a match is written; below, it is only offered
POSSIBLE: Final = 0.38

_LOOKED_AT: Final = 8  # candidates of each table whose columns are compared one by one
_ROUNDS: Final = 3  # what neighbours say changes after a round; it settles at once or never
_OF_NAME: Final = 0.5
_OF_COLUMNS: Final = 0.35
_OF_NEIGHBOURS: Final = 0.15
_SAME_NAME: Final = 0.9  # of tables of one name, unless their columns have nothing in common
_NOT_THE_SAME: Final = 0.99  # names that differ are never certain
_TELLING: Final = 2.0  # that much weight of columns is evidence without a name
_WITHOUT_NAME: Final = 0.7  # such tables need that much of their columns alike to be offered


@dataclass(frozen=True, slots=True)
class TableMatch:
    """`runner_up` is the next best source table for this target, whoever took it."""

    source: TableName
    target: TableName
    confidence: float
    runner_up: Candidate | None


def match_tables(
    sources: Sequence[Table], targets: Sequence[Table], *, known: Mapping[TableName, TableName] | None = None
) -> list[TableMatch]:
    """All matches that are at least possible, by target name. `known` pairs are settled and not looked at."""
    known = dict(known or {})
    settled = set(known.values())
    left = [table for table in sources if table.name not in known]
    right = [table for table in targets if table.name not in settled]
    scorer = _Scorer(sources, targets)
    candidates = scorer.candidates(left, right)
    pairs = dict(known)
    matches: list[TableMatch] = []
    for _ in range(_ROUNDS):
        matches = _assigned(
            {(one, other): scorer.score(one, other, pairs) for one, other in candidates}, known=frozenset(known)
        )
        now = {**known, **{match.source: match.target for match in matches if match.confidence >= LIKELY}}
        if now == pairs:
            break
        pairs = now
    return sorted(matches, key=lambda match: match.target)


def _assigned(scores: Mapping[tuple[TableName, TableName], float], *, known: frozenset[TableName]) -> list[TableMatch]:
    ranked = sorted(scores.items(), key=lambda each: (-each[1], each[0]))
    of_target: dict[TableName, list[tuple[TableName, float]]] = defaultdict(list)
    for (one, other), score in ranked:
        of_target[other].append((one, score))
    taken: set[TableName] = set(known)
    fed: set[TableName] = set()
    found = []
    for (one, other), score in ranked:
        if score < POSSIBLE or one in taken or other in fed:
            continue
        taken.add(one)
        fed.add(other)
        second = next(((name, value) for name, value in of_target[other] if name != one), None)
        found.append(
            TableMatch(one, other, score, Candidate(str(second[0]), second[1]) if second is not None else None)
        )
    return found


class _Scorer:
    """What is asked of every pair, computed once for each table."""

    def __init__(self, sources: Sequence[Table], targets: Sequence[Table]) -> None:
        self._sources = {table.name: table for table in sources}
        self._targets = {table.name: table for table in targets}
        self._source = _Side(sources)
        self._target = _Side(targets)
        self._columns: dict[tuple[TableName, TableName], tuple[float, float]] = {}

    def candidates(self, left: Sequence[Table], right: Sequence[Table]) -> list[tuple[TableName, TableName]]:
        """For each table the few of the other side that could be it, by name and words of columns alone."""
        index: dict[str, set[TableName]] = defaultdict(set)
        for table in right:
            for word in self._target.marks(table.name):
                index[word].add(table.name)
        rough: dict[tuple[TableName, TableName], float] = {}
        for table in left:
            marks = self._source.marks(table.name)
            shared: Counter[TableName] = Counter(other for word in marks for other in index.get(word, ()))
            for other in right:
                alike = likeness(self._source.words[table.name], self._target.words[other.name])
                common = shared[other.name]
                if alike > 0.2 or common:
                    union = len(marks) + len(self._target.marks(other.name)) - common
                    rough[table.name, other.name] = alike + common / max(1, union)
        best: set[tuple[TableName, TableName]] = set()
        for side in (0, 1):
            by_table: dict[TableName, list[tuple[float, tuple[TableName, TableName]]]] = defaultdict(list)
            for pair, score in rough.items():
                by_table[pair[side]].append((-score, pair))
            for found in by_table.values():
                best.update(pair for _, pair in sorted(found)[:_LOOKED_AT])
        return sorted(best)

    def score(self, one: TableName, other: TableName, pairs: Mapping[TableName, TableName]) -> float:
        """0.0 to 1.0; `pairs` are what neighbours are known to be."""
        alike = likeness(self._source.words[one], self._target.words[other])
        columns, weight = self._of_columns(one, other)
        neighbours = self._of_neighbours(one, other, pairs)
        if neighbours is None:
            score = (_OF_NAME * alike + _OF_COLUMNS * columns) / (_OF_NAME + _OF_COLUMNS)
        else:
            score = _OF_NAME * alike + _OF_COLUMNS * columns + _OF_NEIGHBOURS * neighbours
        if one.name == other.name and columns > 0.2:
            score = max(score, _SAME_NAME + 0.1 * columns)
        elif alike >= 0.97 and columns > 0.2:
            score = max(score, 0.8 + 0.15 * columns)
        elif columns >= _WITHOUT_NAME and weight >= _TELLING:
            score = max(score, columns * 0.8)
        return round(min(score, 1.0 if one.name == other.name else _NOT_THE_SAME), 2)

    def _of_columns(self, one: TableName, other: TableName) -> tuple[float, float]:
        """How much of both tables' columns is alike, rare ones counting more; and how much weight that was."""
        known = self._columns.get((one, other))
        if known is not None:
            return known
        source, target = self._sources[one], self._targets[other]
        of_source, of_target = self._source.weights(source), self._target.weights(target)
        total = sum(of_source.values()) + sum(of_target.values())
        gained = sum(
            match.confidence * (of_source[match.source.name] + of_target[match.target.name])
            for match in match_columns(source, target, {})
        )
        answer = (gained / total if total else 0.0, gained / 2)
        self._columns[one, other] = answer
        return answer

    def _of_neighbours(self, one: TableName, other: TableName, pairs: Mapping[TableName, TableName]) -> float | None:
        """The part of all references, to and from both tables, that lead to tables that belong together."""
        of_source, of_target = self._source.neighbours[one], self._target.neighbours[other]
        known = {pairs[name] for name in of_source if name in pairs}
        if not known or not of_target:
            return None
        return len(known & of_target) / max(len(known), len(of_target))


class _Side:
    """One database's tables as words, and how common each column is among them."""

    def __init__(self, tables: Sequence[Table]) -> None:
        by_schema: dict[str, list[str]] = defaultdict(list)
        for table in tables:
            by_schema[table.name.schema].append(table.name.name)
        prefixes = {schema: shared_prefix(names) for schema, names in by_schema.items()}
        self.words = {table.name: table_words(table.name.name, prefixes[table.name.schema]) for table in tables}
        self.neighbours: dict[TableName, set[TableName]] = {table.name: set() for table in tables}
        self._marks: dict[TableName, frozenset[str]] = {}
        self._common: Counter[Words] = Counter()
        for table in tables:
            for key in table.foreign_keys:
                self.neighbours[table.name].add(key.referenced)
                if key.referenced in self.neighbours:
                    self.neighbours[key.referenced].add(table.name)
            forms = [self._form(table, column.name) for column in table.columns]
            self._common.update(set(forms))
            marks = {" ".join(form) for form in forms} | {f"={word}" for word in self.words[table.name]}
            self._marks[table.name] = frozenset(marks)

    def marks(self, name: TableName) -> frozenset[str]:
        """What a table is found by: the words of its name, and its columns' names as words."""
        return self._marks[name]

    def weights(self, table: Table) -> Mapping[str, float]:
        """What each column that travels counts: one where it is the only one of its name, less where many have it."""
        return {
            column.name: max(0.1, self._common[self._form(table, column.name)] ** -0.7)
            for column in table.columns
            if not column.is_generated
        }

    def _form(self, table: Table, column: str) -> Words:
        return without(words(column), self.words[table.name])


def of_rows(catalog: Catalog) -> list[Table]:
    """Tables that hold rows of their own which can be replicated, by name: no partitions, views or foreign tables."""
    return sorted(_with_rows(catalog.tables.values()), key=lambda table: table.name)


def _with_rows(tables: Iterable[Table]) -> Iterable[Table]:
    for table in tables:
        if table.kind in {TableKind.ORDINARY, TableKind.PARTITIONED} and not table.is_partition:
            yield table
