"""What a row of the legacy shop should be in the new schema, said a second time, as SQL.

The comparison reads this and nothing of the mapping. Refuses to know how rows travel. The invariant: written by hand
from legacy.sql and app.sql; whoever changes config/mapping.yaml changes this as well, or the demonstration fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_ZONE: Final = "America/New_York"


@dataclass(frozen=True, slots=True)
class Pair:
    """One source table and what it became.

    `key` holds expressions (source, target) that identify a row, as the source knows it; empty where nothing does,
    then rows are counted by content. `columns` are (name, source expression, target expression); every expression
    is made text before it is compared. The source table is s in them, the target table t, `target_joins` adds to it.
    """

    source: str
    target: str
    key: tuple[tuple[str, str], ...]
    columns: tuple[tuple[str, str, str], ...]
    target_joins: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The compared columns, by their names on the target."""
        return tuple(name for name, _, _ in self.columns)

    def source_sql(self) -> str:
        """(key, digest, count) of every source row, sorted by key."""
        return self._lines(0, f"{self.source} AS s")

    def target_sql(self) -> str:
        """(key, digest, count) of every target row, sorted by key."""
        return self._lines(1, f"{self.target} AS t {self.target_joins}")

    def source_columns_sql(self) -> str:
        """(key, [digest of each column]) of the source rows whose keys are given."""
        return self._columns(0, f"{self.source} AS s")

    def target_columns_sql(self) -> str:
        """(key, [digest of each column]) of the target rows whose keys are given."""
        return self._columns(1, f"{self.target} AS t {self.target_joins}")

    def _key(self, side: int) -> str:
        # An id without an entry in its map is NULL here; it must not make the whole key NULL.
        return " || '.' || ".join(f"coalesce(({pair[side]})::text, '?')" for pair in self.key)

    def _row(self, side: int) -> str:
        # The text of a record quotes its fields, so ('a,b', 'c') and ('a', 'b,c') differ, and so do NULL and ''.
        return f"ROW({', '.join(f'({column[1 + side]})::text' for column in self.columns)})::text"

    def _lines(self, side: int, rows: str) -> str:
        if self.key:
            return f'SELECT {self._key(side)} COLLATE "C", md5({self._row(side)}), 1 FROM {rows} ORDER BY 1'
        return f"SELECT md5({self._row(side)}) COLLATE \"C\", '', count(*) FROM {rows} GROUP BY 1 ORDER BY 1"

    def _columns(self, side: int, rows: str) -> str:
        digests = ", ".join(f"md5(({column[1 + side]})::text)" for column in self.columns)
        return f"SELECT {self._key(side)}, ARRAY[{digests}] FROM {rows} WHERE {self._key(side)} = ANY (%s)"


def same(*names: str) -> tuple[tuple[str, str, str], ...]:
    """Columns that have the same name and value on both sides."""
    return tuple((name, f"s.{name}", f"t.{name}") for name in names)


def renamed(old: str, new: str) -> tuple[str, str, str]:
    """A column that changed its name."""
    return (new, f"s.{old}", f"t.{new}")


def instant(old: str, new: str = "") -> tuple[str, str, str]:
    """A local time of New York that became an instant; the server decides about the odd hours (later, shifted)."""
    return (new or old, f"s.{old} AT TIME ZONE '{_ZONE}'", f"t.{new or old}")


def earlier_instant(name: str) -> tuple[str, str, str]:
    """The same, where an hour that came twice means its first coming: an hour before, if that reads the same there."""
    later = f"(s.{name} AT TIME ZONE '{_ZONE}')"
    first = f"({later} - interval '1 hour')"
    return (name, f"CASE WHEN {first} AT TIME ZONE '{_ZONE}' = s.{name} THEN {first} ELSE {later} END", f"t.{name}")


def const(name: str, text: str) -> tuple[str, str, str]:
    """A column every row has the same value in."""
    return (name, f"'{text}'", f"t.{name}")


def join(keyspace: str, column: str, alias: str) -> str:
    """Look the old id of a target column up."""
    return f" LEFT JOIN crossfade.id_{keyspace} AS {alias} ON {alias}.new = t.{column}"


def looked_up(old: str, new: str, alias: str) -> tuple[str, str, str]:
    """A remapped reference: the old id behind it. NULL stays NULL, and is told apart from an id nobody handed out."""
    return (new, f"s.{old}", f"CASE WHEN t.{new} IS NOT NULL THEN coalesce({alias}.old::text, '?') END")


# Tables of crossfade's own in the target.
MAPS: Final = ("id_user", "id_order", "id_product", "id_shipment", "id_warehouse", "id_category")

PAIRS: Final = (
    Pair(
        "public.users",
        "app.accounts",
        key=(("s.id", "k.old"),),
        columns=(
            *same("email", "plan_code", "tags", "birthday", "balance", "last_ip"),
            renamed("name", "full_name"),
            looked_up("referred_by", "referred_by", "r"),
            const("email_verified", "false"),
            const("locale", "en-US"),
            instant("created_at"),
            instant("last_login", "last_login_at"),
            instant("expires_at"),
            instant("deleted_at"),
        ),
        target_joins=join("user", "id", "k") + join("user", "referred_by", "r"),
    ),
    Pair(
        "public.categories",
        "app.product_categories",
        key=(("s.id", "k.old"),),
        columns=(
            *same("name", "position"),
            looked_up("parent_id", "parent_id", "p"),
            ("id", "s.id + 1000000", "t.id"),
        ),
        target_joins=join("category", "id", "k") + join("category", "parent_id", "p"),
    ),
    Pair(
        "public.products",
        "app.products",
        key=(("s.id", "k.old"),),
        columns=(
            *same("sku", "description", "attributes", "photo", "flags", "price", "weight", "rating", "warranty"),
            *same("stock", "is_active"),
            renamed("name", "title"),
            looked_up("category_id", "category_id", "c"),
            const("currency", "USD"),
            earlier_instant("updated_at"),
        ),
        target_joins=join("product", "id", "k") + join("category", "category_id", "c"),
    ),
    Pair(
        "public.warehouses",
        "app.warehouses",
        key=(("s.code", "k.old"),),
        columns=same("city", "opened_on"),
        target_joins=join("warehouse", "id", "k"),
    ),
    Pair(
        "public.orders",
        "app.orders",
        key=(("s.id", "k.old"),),
        columns=(
            *same("status", "total", "note", "shipped_on"),
            looked_up("user_id", "account_id", "u"),
            const("channel", "legacy"),
            instant("placed_at"),
        ),
        target_joins=join("order", "id", "k") + join("user", "account_id", "u"),
    ),
    Pair(
        "public.order_lines",
        "app.order_items",
        key=(("s.order_id", "o.old"), ("s.line_no", "t.position")),
        columns=(
            *same("quantity", "unit_price", "discounts"),
            looked_up("product_id", "product_id", "p"),
            ("amount", "s.quantity * s.unit_price", "t.amount"),
        ),
        target_joins=join("order", "order_id", "o") + join("product", "product_id", "p"),
    ),
    Pair(
        "public.shipments",
        "app.shipments",
        key=(("s.id", "k.old"),),
        columns=(
            looked_up("order_id", "order_id", "o"),
            renamed("line_no", "position"),
            looked_up("warehouse_code", "warehouse_id", "w"),
            *same("tracking", "weights"),
            instant("sent_at"),
        ),
        target_joins=join("shipment", "id", "k")
        + join("order", "order_id", "o")
        + join("warehouse", "warehouse_id", "w"),
    ),
    Pair(
        "public.audit_log",
        "app.audit_log",
        key=(),
        columns=(
            instant("at"),
            *same("actor", "action", "detail"),
            looked_up("product_id", "product_id", "p"),
        ),
        target_joins=join("product", "product_id", "p"),
    ),
    Pair(
        "public.events",
        "app.activity",
        key=(("s.id", "t.id"), (instant("occurred_at")[1], "t.occurred_at")),
        columns=(
            *same("kind", "payload"),
            looked_up("user_id", "account_id", "u"),
        ),
        target_joins=join("user", "account_id", "u"),
    ),
)
