from __future__ import annotations

import dataclasses
import random
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.catalog import TableName
from crossfade.faults import RowRefused
from crossfade.mapping.plan import Keyspace, Strategy
from crossfade.wire.ids import Allocator, Uuid7, allocator, normalise

NOW = 1_700_000_000_000


def keyspace(strategy: Strategy, *, by: int = 0, new_type: str = "uuid") -> Keyspace:
    return Keyspace("user", TableName("public", "users"), "id", "integer", new_type, strategy, by)


def zeros(size: int) -> bytes:
    return bytes(size)


def made(strategy: Strategy, *, by: int = 0, new_type: str = "uuid", seed: int = 1) -> Callable[[bytes], bytes]:
    rng = random.Random(seed)
    return allocator(keyspace(strategy, by=by, new_type=new_type), clock=lambda: NOW, randomness=rng.randbytes)


def test_uuid7_is_laid_out_as_the_rfc_says() -> None:
    new = Uuid7(lambda: 0x017F22E279B0, lambda size: b"\xff" * size)()
    assert str(new) == "017f22e2-79b0-77ff-bfff-ffffffffffff"
    assert (new.version, new.variant) == (7, uuid.RFC_4122)
    assert str(Uuid7(lambda: 1, zeros)()) == "00000000-0001-7000-8000-000000000000"


@given(st.lists(st.integers(-5, 20), max_size=200), st.integers())
def test_uuid7_only_grows_whatever_the_clock_does(steps: list[int], seed: int) -> None:
    now = NOW

    def clock() -> int:
        return now

    following = Uuid7(clock, random.Random(seed).randbytes)
    last = following()
    for step in steps:
        now += step
        new = following()
        assert new.int > last.int
        assert (new.version, new.variant) == (7, uuid.RFC_4122)
        assert new.int >> 80 >= now
        last = new


def test_uuid7_borrows_the_next_millisecond_when_one_is_full() -> None:
    following = Uuid7(lambda: NOW, random.Random(7).randbytes)
    ids = [following() for _ in range(20_000)]
    assert ids == sorted(set(ids))
    assert NOW < ids[-1].int >> 80 <= NOW + 10


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 5_000)), max_size=5), st.integers(0, 2**32))
def test_uuid7_many_continue_where_one_left_off(steps: list[tuple[int, int]], seed: int) -> None:
    now = NOW
    following = Uuid7(lambda: now, random.Random(seed).randbytes)
    seen = [str(following()).encode()]
    for step, count in steps:
        now += step
        many = following.many(count)
        assert len(many) == count
        seen += [*many, str(following()).encode()]
    assert seen == sorted(set(seen))
    for each in seen:
        parsed = uuid.UUID(each.decode())
        assert str(parsed).encode() == each
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)


def test_uuid7_survives_a_clock_outside_its_range() -> None:
    assert Uuid7(lambda: -5, zeros)().int >> 80 == 0
    assert Uuid7(lambda: 2**60, zeros)().int >> 80 == 2**48 - 1


def test_uuid4_is_random_and_marked_as_such() -> None:
    allocate = made(Strategy.UUID4)
    ids = {uuid.UUID(allocate(b"1").decode()) for _ in range(100)}
    assert len(ids) == 100
    assert {(each.version, each.variant) for each in ids} == {(4, uuid.RFC_4122)}


def test_uuid5_is_the_same_in_every_run_and_any_place() -> None:

    assert made(Strategy.UUID5, seed=1)(b"42") == made(Strategy.UUID5, seed=2)(b"42")
    assert made(Strategy.UUID5)(b"42").decode() == str(uuid.uuid5(uuid.NAMESPACE_URL, "public.users:42"))
    assert made(Strategy.UUID5)("ключ".encode()) != made(Strategy.UUID5)(b"42")


@pytest.mark.parametrize(
    ("old", "by", "new_type", "new"),
    [
        (b"7", 1_000, "bigint", b"1007"),
        (b"-7", 7, "integer", b"0"),
        (b"32766", 1, "smallint", b"32767"),
        (b"9223372036854775807", -1, "bigint", b"9223372036854775806"),
    ],
)
def test_offset_adds(old: bytes, by: int, new_type: str, new: bytes) -> None:
    assert made(Strategy.OFFSET, by=by, new_type=new_type)(old) == new


@pytest.mark.parametrize(
    ("old", "by", "new_type"),
    [
        (b"32767", 1, "smallint"),
        (b"-2147483648", -1, "integer"),
        (b"9223372036854775807", 1, "bigint"),
        (b"x", 1, "bigint"),
    ],
)
def test_offset_refuses_what_the_new_type_cannot_hold_and_does_not_tell_the_value(
    old: bytes, by: int, new_type: str
) -> None:
    with pytest.raises(RowRefused) as caught:
        made(Strategy.OFFSET, by=by, new_type=new_type)(old)
    assert old.decode().lstrip("-") not in str(caught.value).replace("next", "").replace("fix", "")


def test_offset_refuses_what_belongs_to_another_source_of_the_table() -> None:
    bounded = dataclasses.replace(keyspace(Strategy.OFFSET, by=1000, new_type="bigint"), lower=1000, upper=2000)
    make = allocator(bounded, clock=lambda: NOW, randomness=zeros)
    assert isinstance(make, Allocator)
    assert make.many([b"0", b"999"]) == [b"1000", b"1999"]
    for old in (b"-1", b"1000"):
        with pytest.raises(RowRefused, match="belongs to another source") as caught:
            make(old)
        assert "keyspace" in caught.value.where


@pytest.mark.parametrize(
    ("old", "kind"),
    [
        (b"{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "uuid"),
        (b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "uuid"),
        (b"a0eebc999-c0b4ef8bb6d6bb9bd380a11", "uuid"),
        (b"", "integer"),
        (b"1.0", "integer"),
        (b"32768", "smallint"),
        (b"99999999999999999999", "bigint"),
    ],
)
def test_what_is_no_id_is_refused_without_its_value(old: bytes, kind: str) -> None:
    with pytest.raises(RowRefused) as caught:
        normalise(old, kind)
    assert not old or old.decode() not in str(caught.value)


@given(st.uuids())
def test_a_uuid_has_one_spelling(value: uuid.UUID) -> None:
    for spelling in (str(value), value.hex, str(value).upper(), "{" + str(value) + "}"):
        assert normalise(spelling.encode(), "uuid").decode() == str(value)


def test_other_types_are_taken_as_they_are() -> None:
    assert normalise(b" A ", "text") == b" A "
