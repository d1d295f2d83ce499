"""One keyspace's id map as the stream sees it: what an old id means now, and what it meant a moment ago.

The applier asks this state for every id it writes or looks for, and writes what it recorded to the map's table in the
same target transaction as the rows. Refuses to know the table, the driver and how ids are made (`ids`). The invariant:
the state equals what the table will hold once the recorded writes are made, so that a commit needs no re-reading and
a rollback only forgets.

The rules, each with its reason:

1. An id is given at first sight, whether the row that owns it or a reference comes first (I1). DELETE and TRUNCATE
   leave entries alone: references may still come, and the same old id gets the same new one.
2. A key changed on the source moves its entry: the new id stays, because everything on the target refers to it (I5).
3. If the new key has an entry already (a child copied at a later snapshot, a deleted row), the row takes that entry's
   id and the old key's entry stays: what refers to either key on the target keeps its meaning.
4. Until the source transaction ends, an old image of a *reference* may still name the former key, because PostgreSQL
   logs the parent's change first and the cascade behind it. The former key then means the former id (the alias).
   An old image never allocates: what has no id was never written.
5. Between alias and live entry of one key (keys shifted in one statement: 2 becomes 3 while 3 becomes 4) the row
   change decides: see `resolve_old`, `resolve_kept` and `resolve_deleted`. The row that owns the key is always the
   live one. Moves are numbered, because cascades come in the order of the moves they follow. Cascades are not marked
   as such: a reference changed by hand in the very step of the last move passes for one, and is only found to be none
   when the row it would then mean is not there.
6. What a rollback took back is forgotten, cached entries and aliases alike.
7. Within a batch nothing is evicted and absent keys are remembered; between batches a cache past its limit is cut to
   half of that and absence is forgotten, since another stream that shares the map may have filled it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from crossfade.mapping.plan import Keyspace
from crossfade.wire.stock import Stock

CACHE_LIMIT: Final = 100_000  # entries; some 200 bytes each with a uuid's text


@dataclass(frozen=True, slots=True)
class Created:
    """To insert: `news[i]` was made for `olds[i]`. Somebody sharing the map may win: then `learn` tells the winner.

    A run of many, since there may be a million of them in a batch.
    """

    olds: list[bytes] = field(default_factory=list)
    news: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Moved:
    """To move: delete the entry of `old`, insert one of `to` with the same `new`."""

    old: bytes
    to: bytes
    new: bytes


Write = Created | Moved


def in_order(olds: Iterable[bytes]) -> list[bytes]:
    """Each once, numbers from the smallest to the largest: the indexes of map and rows then grow at their ends. Quick
    for what comes in that order, as most new rows do."""
    return sorted(sorted(dict.fromkeys(olds)), key=len)


class IdState:
    """The id map of one keyspace during a stream. Old and new ids are normalised text; NULL never gets here.

    The order of calls for each batch: `missing` for the ids in it, read those from the table, `learn` or
    `learn_absent` them; then, change by change, the `resolve_…` methods, `allocate` and `owner_key_changed`, with
    `begin_transaction` at each source transaction; `take_writes` and write them; then `commit` or `rollback` after the
    target did.
    """

    __slots__ = (
        "_absent",
        "_aliases",
        "_allocate",
        "_allocate_many",
        "_forgets_all",
        "_fresh",
        "_fresh_unwritten",
        "_limit",
        "_moved_at",
        "_moved_to",
        "_moves_seen",
        "_stale",
        "_undo",
        "_unwritten",
        "keyspace",
        "known",
        "stock",
    )

    def __init__(
        self,
        keyspace: Keyspace,
        allocate: Callable[[bytes], bytes],
        *,
        allocate_many: Callable[[Sequence[bytes]], list[bytes]] | None = None,
        stock: Stock | None = None,
        cache_limit: int = CACHE_LIMIT,
    ) -> None:
        self.keyspace: Final = keyspace
        self.stock: Final = stock  # to be filled before `allocate` is asked, by whoever can wait
        self.known: Final[dict[bytes, bytes]] = {}  # live entries, ours of this batch included
        self._allocate = allocate
        self._allocate_many = allocate_many or (lambda olds: [allocate(old) for old in olds])
        self._limit = cache_limit
        self._forgets_all = False  # the undo log was given up in this target transaction
        self._absent: set[bytes] = set()  # known to have no entry, in this batch
        self._aliases: dict[bytes, bytes] = {}  # former key -> its id, in this source transaction
        self._moves_seen = 0
        self._moved_at: dict[bytes, int] = {}  # former key -> the number of its move, in this source transaction
        self._moved_to: dict[bytes, bytes] = {}  # former key -> the key it became in that move
        self._undo: dict[bytes, bytes | None] = {}  # key -> its entry at the last commit, for keys we changed since
        # What `allocate_many` made since the last commit, and of that what is unwritten: runs of keys, put into `_undo`
        # and `_stale` one by one only when somebody asks for a single one.
        self._fresh: list[Sequence[bytes]] = []
        self._fresh_unwritten: list[Sequence[bytes]] = []
        self._unwritten: list[Write] = []
        self._stale: set[bytes] = set()  # keys of unwritten entries: what the table says of them is out of date

    @property
    def has_writes(self) -> bool:
        """There is something that the map's table does not hold yet."""
        return bool(self._unwritten)

    def begin_transaction(self) -> None:
        """A source transaction begins: whatever cascades the one before had are over (rule 4)."""
        self._aliases.clear()
        self._moved_at.clear()
        self._moved_to.clear()

    def missing(self, olds: Iterable[bytes]) -> set[bytes]:
        """Those that must be read from the table before anything can be said about them."""
        return set(olds).difference(self.known).difference(self._absent)

    def unknown(self, olds: Iterable[bytes]) -> list[bytes]:
        """Those that have no id here, as they come; once the table was asked for them, nowhere."""
        known = self.known
        return [old for old in olds if old not in known]

    def learn(self, old: bytes, new: bytes) -> None:
        """The table holds this entry.

        It wins over our own allocation once that was taken for writing (another stream was first); it is stale, and
        ignored, while a write of ours for this key waits to be taken.
        """
        while self._fresh_unwritten:
            self._stale.update(self._fresh_unwritten.pop())
        if old in self._stale:
            return
        self._absent.discard(old)
        self.known[old] = new

    def learn_absent(self, olds: Iterable[bytes]) -> None:
        """The table was asked and holds no entry for these; remembered within the batch only (rule 7)."""
        self._absent.update(set(olds).difference(self.known))

    def resolve_new(self, old: bytes) -> bytes | None:
        """The id for a new image or a reference in one. None: to be loaded, or allocated when the table has none."""
        return self.known.get(old)

    def resolve_owner(self, old: bytes) -> bytes | None:
        """The id of the row that owned key `old` just before this change: always the live entry (rule 5).

        Ask before `owner_key_changed`. None: unknown, or never written.
        """
        return self.known.get(old)

    def resolve_old(
        self, old: bytes, becomes: bytes | None = None, *, since: int = 0
    ) -> tuple[bytes | None, bytes | None]:
        """The id a *referring* row carries on the target, from its old image in an UPDATE, and an alternative.

        `becomes` is the same column in the new image. The key's former id comes first, as the update is most likely the
        cascade of the parent's; unless that cannot be (`cascade_of`). The alternative is for a row that the first did
        not find. Never allocates; (None, None): no such row was written.
        """
        live, alias = self.known.get(old), self._aliases.get(old)
        if alias is None or alias == live:
            return live, None
        follows = becomes is None or self.cascade_of(old, becomes, since=since) is not None
        return (alias, live) if follows or live is None else (live, alias)

    def cascade_of(self, old: bytes, becomes: bytes, *, since: int = 0) -> int | None:
        """The number of the move that a reference's change from `old` to `becomes` is the cascade of, if it is one.

        `since` is the last move whose cascade has reached the same table: those before it are done (numbers never begin
        again, so that it stays true in later transactions).
        A cascade takes the very step its parent took. Once keys have changed places by way of a third, who goes the
        whole way at once is another row, which refers to another parent from now on; so is who goes to a key that
        somebody else has taken meanwhile.
        """
        alias = self._aliases.get(old)
        if alias is None or self._moved_to[old] != becomes or self.known.get(becomes, alias) != alias:
            return None
        number = self._moved_at[old]
        return number if number >= since else None

    def resolve_kept(self, old: bytes, cascade: int | None) -> tuple[bytes | None, bytes | None]:
        """The id a referring row carries in a column that its UPDATE left alone, and an alternative.

        `cascade` is the number of the move this very update follows in another column (`cascade_of`), or None. Cascades
        come in the order of the moves: what moved later has not reached the row yet, its key still means the former id;
        what moved earlier has, so that its key can only mean the new holder, as it does once all cascades are done.
        """
        live, alias = self.known.get(old), self._aliases.get(old)
        if alias is None or alias == live:
            return live, None
        waits = cascade is not None and self._moved_at[old] >= cascade
        return (alias, live) if waits or live is None else (live, alias)

    def resolve_waiting(self, old: bytes) -> bytes | None:
        """The former id of a key that nobody holds now: what an UPDATE's new image means that a cascade will follow."""
        return self._aliases.get(old)

    def resolve_deleted(self, old: bytes) -> tuple[bytes | None, bytes | None]:
        """The id a referring row carries on the target, from the old image of its DELETE, and an alternative.

        The cascades of a statement are done when the next begins, so what is deleted refers to the live entry; only
        where no key took the former one's place can the row still carry the former id.
        """
        live, alias = self.known.get(old), self._aliases.get(old)
        if live is None:
            return alias, None
        return live, alias if alias != live else None

    def allocate(self, old: bytes) -> bytes:
        """Make an id for `old`, which has none. Raises `ValueError` when it has: a row with two ids is lost."""
        if old in self.known:
            raise ValueError(f"keyspace {self.keyspace.name}: an id was asked for that is already in the map")
        new = self._allocate(old)
        self._put(old, new)
        run = self._run()
        run.olds.append(old)
        run.news.append(new)
        self._stale.add(old)
        return new

    def allocate_many(self, olds: Sequence[bytes]) -> None:
        """Make ids for `olds`, each named once, none of which has one. Raises `ValueError` when one has."""
        if not self.known.keys().isdisjoint(olds):
            raise ValueError(f"keyspace {self.keyspace.name}: an id was asked for that is already in the map")
        news = self._allocate_many(olds)
        if self._absent:
            self._absent.difference_update(olds)
        self.known.update(zip(olds, news, strict=True))
        self._fresh.append(olds)
        self._fresh_unwritten.append(olds)
        run = self._run()
        run.olds.extend(olds)
        run.news.extend(news)

    def _run(self) -> Created:
        """Where to note new entries: behind whatever was noted before."""
        last = self._unwritten[-1] if self._unwritten else None
        if isinstance(last, Created):
            return last
        run = Created()
        self._unwritten.append(run)
        return run

    @property
    def unwritten(self) -> int:
        """How many entries wait to be taken."""
        return sum(len(write.olds) if isinstance(write, Created) else 1 for write in self._unwritten)

    @property
    def has_aliases(self) -> bool:
        """A key moved in this source transaction: what its cascades mean, only the rules for old images know."""
        return bool(self._aliases)

    def owner_key_changed(self, old: bytes, to: bytes) -> None:
        """The row with key `old` in the owning table has key `to` from now on (rules 2 and 3).

        Both must be known or known absent: without that the choice between the rules would be a guess, hence a
        `ValueError`. An absent `old` has nothing to move.
        """
        if self.missing((old, to)):
            raise ValueError(f"keyspace {self.keyspace.name}: a key changed before the map was read for both keys")
        new = self.known.get(old)
        if new is None or old == to or to in self.known:
            return
        self._remember(old)
        del self.known[old]
        self._absent.add(old)
        self._aliases[old] = new
        self._moves_seen += 1
        self._moved_at[old] = self._moves_seen
        self._moved_to[old] = to
        self._put(to, new)
        self._unwritten.append(Moved(old, to, new))
        self._stale.update((old, to))

    def take_writes(self) -> list[Write]:
        """What is to be written to the table, in order, each once: in the transaction of the rows that use it."""
        writes, self._unwritten = self._unwritten, []
        self._fresh_unwritten.clear()
        self._stale.clear()
        return writes

    def make_room(self) -> None:
        """Before `missing` is asked for a batch or a piece: drop the oldest entries of a full cache, to be read again
        from the table; not while it lacks some of them."""
        if not self._unwritten:
            self._evict()

    def written(self) -> None:
        """What `take_writes` gave is in the table now, uncommitted: memory may let go of it, with `make_room`.

        A transaction of millions of new ids must not hold them all (rule 7): past the limit a rollback forgets the
        whole cache instead of undoing it.
        """
        self._absent.clear()
        if len(self._undo) + sum(map(len, self._fresh)) > self._limit:
            self._undo.clear()
            self._fresh.clear()
            self._forgets_all = True

    def commit(self) -> None:
        """The target has committed. Raises `ValueError` when writes were never taken: ids in use would be lost."""
        if self._unwritten:
            raise ValueError(f"keyspace {self.keyspace.name}: committed with {len(self._unwritten)} entries unwritten")
        self._forget()

    def rollback(self) -> None:
        """The target has rolled back: forget everything since the last commit (rule 6)."""
        if self._forgets_all:
            self.known.clear()
            self._undo.clear()
            self._fresh.clear()
        for run in self._fresh:
            for old in run:
                self.known.pop(old, None)
        for old, before in self._undo.items():
            if before is None:
                self.known.pop(old, None)
            else:
                self.known[old] = before
        self._unwritten.clear()
        self._fresh_unwritten.clear()
        self._stale.clear()
        self._forget()

    def _put(self, old: bytes, new: bytes) -> None:
        self._remember(old)
        self._absent.discard(old)
        self.known[old] = new

    def _remember(self, old: bytes) -> None:
        while self._fresh:  # what they were made for had no entry at the last commit
            for made in self._fresh.pop():
                self._undo.setdefault(made, None)
        self._undo.setdefault(old, self.known.get(old))

    def _forget(self) -> None:
        self._undo.clear()
        self._fresh.clear()
        self._aliases.clear()
        self._moved_at.clear()
        self._moved_to.clear()
        self._absent.clear()
        self._forgets_all = False
        self._evict()

    def _evict(self) -> None:
        """Keep the newer half of what a full cache holds: a dict keeps the order in which keys came, and to make it
        anew costs less than to take each of many out."""
        if len(self.known) > self._limit:
            newest = list(islice(reversed(self.known.items()), self._limit // 2))
            self.known.clear()
            self.known.update(reversed(newest))
