"""What a mapping leaves open, and nothing else."""

from __future__ import annotations

from crossfade.draft.proposal import draft
from crossfade.draft.refresh import refresh, refreshed_text
from crossfade.draft.write import mapping_text
from crossfade.mapping.load import parse_mapping
from tests.drafts.ddl import LEGACY, NEW, read_ddl
from tests.unit.mapping.builders import catalog, table


def test_a_finished_mapping_leaves_nothing_open() -> None:
    source = catalog(table("public.users", "id int", "created timestamp", "x int", pk="id"))
    target = catalog(table("app.accounts", "id uuid", "created timestamptz", "y int =", pk="id"))
    spec = parse_mapping(
        """
version: 1
ids: {user: {from: public.users.id, strategy: uuid4}}
tables:
  app.accounts:
    from: public.users
    columns: {id: {remap: user}, created: {timezone: UTC}}
    drop: [x]
"""
    )
    assert refresh(spec, source, target).is_empty


def test_only_what_came_is_proposed_for_sixty_tables() -> None:
    source, target = read_ddl(LEGACY), read_ddl(NEW)
    text = mapping_text(draft(source, target)).replace('"?"', "UTC")
    spec = parse_mapping(text)
    before = refreshed_text(refresh(spec, source, target))
    # What nobody decided is still open, and only that.
    assert "passwd_md5" in before
    assert "tbl_brand" not in before
    later = read_ddl(
        LEGACY.replace("website varchar(200)", "website varchar(200), founded date")
        + "CREATE TABLE tbl_gift_card (id serial PRIMARY KEY, amt numeric(12,2) NOT NULL, sold timestamp NOT NULL);\n"
        + "CREATE TABLE tbl_zzz (stripes integer PRIMARY KEY);\n"
    )
    designed = read_ddl(
        NEW.replace("website text", "website text, founded_on date")
        + "CREATE TABLE app.gift_cards (id uuid PRIMARY KEY, amount numeric(12,2) NOT NULL, "
        "sold_at timestamptz NOT NULL);\n"
    )
    after = refreshed_text(refresh(spec, later, designed))
    assert "founded_on: founded" in after
    assert "  gift_card: {from: public.tbl_gift_card.id, to: uuid, strategy: uuid7}" in after
    assert "id: {remap: gift_card}" in after
    assert "amount: amt" in after
    assert "  # - public.tbl_zzz" in after
    assert "website" not in after


def test_what_went_is_told_at_its_place() -> None:
    source = catalog(table("public.a", "id int", pk="id"))
    target = catalog(table("app.a", "id int", pk="id"))
    spec = parse_mapping("version: 1\nschemas: {public: app}\ntables:\n  app.a:\n    drop: [gone]\n")
    text = refreshed_text(refresh(spec, source, target))
    assert "# mapping.yaml:5:12: public.a on the source has no column 'gone' to drop." in text


def test_what_one_of_several_sources_leaves_open_is_proposed_in_its_own_entry() -> None:
    tables = [
        table("public.users", "id int", "name text", pk="id"),
        table("legacy.clients", "id int", "name text", "full_address text", pk="id"),
    ]
    target = catalog(table("app.people", "id bigint", "name text", "address text", pk="id"))
    text = """
version: 1
ids: {client: {from: legacy.clients.id, strategy: offset, by: 1000}}
tables:
  app.people: {from: [public.users, legacy.clients]}
"""
    found = refresh(parse_mapping(text), catalog(*tables), target)
    assert not found.unmatched
    proposed = refreshed_text(found)
    assert "  app.people:\n    from:\n      - table: legacy.clients\n        columns:\n" in proposed
    assert "full_address" in proposed
    whole = text.replace("legacy.clients]", "{table: legacy.clients, columns: {address: full_address}}]")
    assert refresh(parse_mapping(whole), catalog(*tables), target).is_empty
