"""Names as a person compares them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.draft.names import likeness, shared_prefix, singular, table_words, without, words


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("users", "user"), ("categories", "category"), ("addresses", "address"), ("boxes", "box"), ("people", "person"),
        ("warehouses", "warehouse"), ("statuses", "status"), ("status", "status"), ("analysis", "analysis"),
        ("branches", "branch"), ("children", "child"), ("indices", "index"), ("ties", "tie"), ("glass", "glass"),
        ("news", "news"), ("taxes", "tax"), ("bonus", "bonus"), ("id", "id"), ("is", "is"),
    ],
)  # fmt: skip
def test_singular(plural: str, one: str) -> None:
    assert singular(plural) == one


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tblCustOrders", ("tbl", "customer", "order")),
        ("ORDER_LINES", ("order", "line")),
        ("HTTPLog", ("http", "log")),
        ("street2", ("street", "2")),
        ("qty", ("quantity",)),
        ("größe", ("gr", "öß", "e")),
        ("", ("",)),
        ("__", ("__",)),
    ],
)
def test_words(name: str, expected: tuple[str, ...]) -> None:
    assert words(name) == expected


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["tbl_users", "tbl_orders", "tbl_items"], ("tbl",)),
        (["usr_id", "usr_name", "usr_mail", "created"], ("user",)),
        (["users", "orders", "items"], ()),
        (["x_a", "x_b"], ()),  # two are no habit
        (["shop_crm_a", "shop_crm_b", "shop_crm_c"], ("shop", "crm")),
        ([], ()),
    ],
)
def test_a_prefix_that_most_names_wear(names: list[str], prefix: tuple[str, ...]) -> None:
    assert shared_prefix(names) == prefix


def test_a_prefix_is_not_taken_off_a_name_that_is_nothing_else() -> None:
    assert without(words("tbl"), ("tbl",)) == ("tbl",)
    assert table_words("t_users", ()) == ("user",)


@pytest.mark.parametrize(
    ("one", "better", "worse"),
    [
        ("users", "accounts", "orders"),
        ("created_at", "creation_date", "updated_at"),
        ("ship_addr_id", "shipping_address_id", "billing_address_id"),
        ("category", "ctgry", "country"),
        ("customer_name", "cust_nm", "customer_id"),
        ("adress", "address", "access"),
        ("order_line", "order_items", "order_notes"),
        ("mail", "email", "male"),
    ],
)
def test_what_is_nearer(one: str, better: str, worse: str) -> None:
    assert likeness(words(one), words(better)) > likeness(words(one), words(worse))


_WORDS = st.lists(
    st.sampled_from(["user", "id", "order", "name", "at", "cat", "category", "xy", "7"]), min_size=1, max_size=4
)


@given(_WORDS, _WORDS)
def test_likeness_is_the_same_in_both_directions(one: list[str], other: list[str]) -> None:
    forward, backward = likeness(tuple(one), tuple(other)), likeness(tuple(other), tuple(one))
    assert forward == pytest.approx(backward, abs=0.15)  # several words may be paired in several ways
    assert 0.0 <= forward <= 1.0
    assert (forward == 1.0) == (one == other)


@given(st.text(max_size=40))
def test_any_name_has_words(name: str) -> None:
    assert words(name)
    assert likeness(words(name), words(name)) == 1.0
