"""The shipped files: found, filled in as psql would, and in step with each other."""

from __future__ import annotations

import re

import pytest

from crossfade.demo.pairs import MAPS, PAIRS
from crossfade.demo.scripts import CONFIG, ROLES, render, role_script
from crossfade.mapping.load import load_mapping
from crossfade.settings import load_settings

DSNS = {"CROSSFADE_SOURCE__DSN": "host=a dbname=shop", "CROSSFADE_TARGET__DSN": "host=b dbname=shop"}


def test_variables_are_quoted_as_psql_quotes_them() -> None:
    text = """SELECT :'a', :"a", :a, x::int, ':a', $$ :a $$ -- :a's"""
    assert render(text, {"a": """o'"x"""}) == """SELECT 'o''"x', "o'""x", o'"x, x::int, ':a', $$ :a $$ -- :a's"""


def test_a_variable_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        render("SELECT :'role'", {})


@pytest.mark.parametrize("name", ["source-role.sql", "target-role.sql", "target-replica-role.sql", "publication.sql"])
def test_role_scripts_are_found_and_complete(name: str) -> None:
    text = role_script(name, role="r", schema="s", DBNAME="d", publication="p", append_publication="p_append")
    assert re.search(r""":['"]\w""", re.sub(r"--[^\n]*", "", text)) is None


def test_the_shipped_configuration_is_complete_but_for_the_databases() -> None:
    settings = load_settings(CONFIG, environment=DSNS)
    assert settings.name == "shop"
    assert settings.source.dsn.get_secret_value() == DSNS["CROSSFADE_SOURCE__DSN"]
    assert settings.mapping.is_file()
    assert settings.stream.publication == "crossfade"


def test_the_shipped_mapping_reads_without_a_complaint() -> None:
    spec = load_mapping(CONFIG.with_name("mapping.yaml"))
    assert {f"id_{name}" for name in spec.keyspaces} == set(MAPS)


def test_every_compared_table_is_published_and_nothing_else() -> None:
    script = re.sub(r"--[^\n]*", "", (ROLES / "publication.sql").read_text())
    assert set(re.findall(r"public\.\w+", script)) == {pair.source for pair in PAIRS}
