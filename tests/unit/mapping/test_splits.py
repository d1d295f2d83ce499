"""One source table as several targets: what `check` takes and refuses, and what the plan says of it."""

from __future__ import annotations

from crossfade.mapping.plan import Plan
from tests.unit.mapping.builders import compiled, name, named, reference, table

IDS = "ids: {user: {from: public.users.id, to: uuid, strategy: uuid7}}\n"
MAPPING = f"""version: 1
{IDS}tables:
  app.accounts: {{from: public.users, columns: {{id: {{remap: user}}}}}}
  app.bios: {{from: public.users, only: true, columns: {{account_id: {{from: id, remap: user}}, bio: bio}}}}
"""
USERS = table("public.users", "id int!", "name text", "bio text", pk="id")
ACCOUNTS = table("app.accounts", "id uuid!", "name text", pk="id")
BIOS = table("app.bios", "account_id uuid!", "bio text", pk="account_id")


def plan_of(mapping: str = MAPPING) -> Plan:
    result = compiled(mapping, [USERS], [ACCOUNTS, BIOS])
    assert result.plan is not None, result.findings
    return result.plan


def test_a_column_that_one_part_takes_is_left_behind_by_no_other() -> None:
    plan = plan_of()
    assert {part.target.name: sorted(part.used) for part in plan.tables} == {
        "accounts": ["id", "name"],
        "bios": ["bio", "id"],
    }


def test_a_column_that_no_part_takes_must_be_dropped() -> None:
    users = table("public.users", "id int!", "name text", "bio text", "password text", pk="id")
    assert named(compiled(MAPPING, [users], [ACCOUNTS, BIOS])) == ["source_column_unused"]


def test_only_takes_just_the_columns_listed() -> None:
    bios = table("app.bios", "account_id uuid!", "bio text", "name text", pk="account_id")
    result = compiled(MAPPING, [USERS], [ACCOUNTS, bios])
    assert result.plan is not None
    (part,) = (each for each in result.plan.tables if each.target.name == "bios")
    assert [column.target.name for column in part.columns] == ["account_id", "bio"]
    bios = table("app.bios", "account_id uuid!", "bio text", "name text!", pk="account_id")
    assert named(compiled(MAPPING, [USERS], [ACCOUNTS, bios])) == ["target_column_unfed"]


def test_the_key_of_every_part_must_derive_from_the_identity() -> None:
    mapping = MAPPING.replace("account_id: {from: id, remap: user}, ", "")
    bios = table("app.bios", "bio text!", pk="bio")
    result = compiled(mapping, [USERS], [ACCOUNTS, bios])
    assert "identity_unmapped" in named(result)
    (finding,) = (each for each in result.findings if each.name == "identity_unmapped")
    assert finding.subject == "mapping.yaml:5:3"


def test_parts_are_published_once_and_in_one_way() -> None:
    assert plan_of().published == (name("public.users"),)
    mapping = MAPPING.replace("only: true", "only: true, append_only: true")
    result = compiled(mapping, [USERS], [ACCOUNTS, BIOS])
    assert named(result) == ["split_append_only"]
    both = mapping.replace("{from: public.users, columns", "{from: public.users, append_only: true, columns")
    assert plan_of(both).append_only == (name("public.users"),)


def test_I5_one_part_owns_the_new_ids() -> None:
    """Else a key that changes would move its entry once for each part."""
    assert [(part.target.name, part.owns) for part in plan_of().tables] == [("accounts", "user"), ("bios", None)]


def test_I5_a_part_that_keeps_the_old_id_owns_nothing() -> None:
    accounts = table("app.accounts", "id int!", "name text", pk="id")
    result = compiled(MAPPING.replace("remap: user", "remap: false", 1), [USERS], [accounts, BIOS])
    assert result.plan is not None
    assert [(part.target.name, part.owns) for part in result.plan.tables] == [("accounts", None), ("bios", "user")]


def test_parts_come_in_the_order_of_their_references() -> None:
    """Where foreign keys are enforced the referring part is written last, whatever the names; a new id never changes,
    so the key need not be deferrable."""
    bios = table(
        "app.a", "account_id uuid!", "bio text", pk="account_id", references=[reference("account_id", "app.accounts")]
    )
    result = compiled(MAPPING.replace("app.bios", "app.a"), [USERS], [ACCOUNTS, bios], replica_role=False)
    assert result.plan is not None, result.findings
    assert [part.target.name for part in result.plan.by_source()[name("public.users")]] == ["accounts", "a"]


def test_C5_a_key_that_may_change_needs_a_deferrable_reference_between_parts() -> None:
    mapping = "version: 1\n" + MAPPING.split(IDS)[1].replace("remap: user", "remap: false")
    accounts = table("app.accounts", "id int!", "name text", pk="id")
    for deferrable, findings in ((False, ["reference_order"]), (True, [])):
        refers = reference("account_id", "app.accounts", deferrable=deferrable)
        bios = table("app.bios", "account_id int!", "bio text", pk="account_id", references=[refers])
        assert named(compiled(mapping, [USERS], [accounts, bios], replica_role=False)) == findings
