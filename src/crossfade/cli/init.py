"""`crossfade init`: the first configuration and mapping, drafted from both schemas; `--refresh`: what changed since.

Refuses to match anything (`draft` does) and to write over a file that is there. The invariant: no secret of a
connection string is written, and after an error nothing was.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crossfade.cli import exits
from crossfade.cli.schema import CONFIGURATION, CONFIGURATION_FILE, MAPPING, MAPPING_FILE, schema_text
from crossfade.draft.configuration import End, configuration_text, secret_advice, workflow_name
from crossfade.draft.proposal import Draft, draft
from crossfade.draft.refresh import refresh, refreshed_text
from crossfade.draft.write import mapping_text
from crossfade.faults import Fault, Misconfigured, Refused
from crossfade.mapping.load import load_mapping
from crossfade.mapping.reading import BLANK
from crossfade.session.both import read_both
from crossfade.session.dsn import Dsn, without_secrets
from crossfade.settings import load_settings

_MAPPING: Final = "mapping.yaml"
_SCHEMAS: Final = "schema"
_VARIABLES: Final = ("CROSSFADE_SOURCE__DSN", "CROSSFADE_TARGET__DSN")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asked for; '' for what was not given."""

    source: str
    target: str
    name: str
    zone: str


def init(config: Path, wishes: Wishes) -> int:
    """Draft both files, or the mapping alone for a configuration that is there and no connection string given."""
    if config.exists() and not _asks_for_configuration(wishes):
        return _mapping_only(config, wishes)
    if not wishes.source or not wishes.target:
        raise _no_databases(config)
    mapping = config.parent / _MAPPING
    for path in (config, mapping):
        _refuse_existing(path)
    source, target = without_secrets(wishes.source, where="--source"), without_secrets(wishes.target, where="--target")
    drafted = draft(*asyncio.run(read_both(wishes.source, wishes.target, purpose="init")))
    text = configuration_text(
        wishes.name or workflow_name(target.database),
        End(source.text, source.secrets),
        End(target.text, target.secrets),
        mapping=_MAPPING,
        schema=f"{_SCHEMAS}/{CONFIGURATION_FILE}",
    )
    config.parent.mkdir(parents=True, exist_ok=True)
    _write(config, text)
    _write_mapping(mapping, drafted, wishes.zone)
    _write_schema(config.parent, CONFIGURATION_FILE, CONFIGURATION)
    _say(drafted, [config, mapping], wishes)
    for side, dsn in (("source", source), ("target", target)):
        _tell_secrets(side, dsn)
    return exits.DONE


def _asks_for_configuration(wishes: Wishes) -> bool:
    """Whether somebody named databases on the command line; what the environment names, the configuration reads too."""
    from_environment = {os.environ.get(variable, "") for variable in _VARIABLES}
    return bool(wishes.name or {wishes.source, wishes.target} - from_environment - {""})


def _mapping_only(config: Path, wishes: Wishes) -> int:
    settings = load_settings(config)
    _refuse_existing(settings.mapping)
    dsns = settings.source.dsn.get_secret_value(), settings.target.dsn.get_secret_value()
    drafted = draft(*asyncio.run(read_both(*dsns, purpose="init")))
    settings.mapping.parent.mkdir(parents=True, exist_ok=True)
    _write_mapping(settings.mapping, drafted, wishes.zone)
    _say(drafted, [settings.mapping], wishes)
    return exits.DONE


def refresh_mapping(config: Path, output: Path | None) -> int:
    """Say what the mapping leaves open now, on stdout or into a new file."""
    if output is not None:
        _refuse_existing(output)
    settings = load_settings(config)
    spec = load_mapping(settings.mapping)
    dsns = settings.source.dsn.get_secret_value(), settings.target.dsn.get_secret_value()
    found = refresh(spec, *asyncio.run(read_both(*dsns, purpose="init")))
    if found.is_empty:
        exits.tell(f"{settings.mapping} covers both schemas: nothing to propose.")
        return exits.DONE
    text = refreshed_text(found)
    if output is None:
        exits.say(text.rstrip("\n"))
    else:
        _write(output, text)
        exits.tell(f"Written: {output}. {settings.mapping} was not touched.")
    return exits.DONE


def _with_zone(text: str, zone: str) -> str:
    """Every blank filled with the zone that was given; the reader of the file judges whether there is one."""
    return (
        text.replace(f'timezone: "{BLANK}"', f"timezone: {zone}").replace("; DECIDE: whose local time?", "")
        if zone
        else text
    )


# -- files and words ------------------------------------------------------------------------------------------------


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise Refused(
            "This file is there already, and init writes over nothing.",
            where=str(path),
            means="Nothing was written.",
            do="Name another place with --config, move the file away, or see what changed with `crossfade init "
            "--refresh`.",
        )


def _no_databases(config: Path) -> Fault:
    return Misconfigured(
        "Two databases are needed.",
        where="crossfade init",
        means="Nothing was written.",
        do="Give --source and --target, or CROSSFADE_SOURCE__DSN and CROSSFADE_TARGET__DSN in the environment"
        + (f" ({config} is there: without any of them its own are used)." if config.exists() else "."),
    )


def _write_mapping(path: Path, drafted: Draft, zone: str) -> None:
    _write(path, _with_zone(mapping_text(drafted, schema=f"{_SCHEMAS}/{MAPPING_FILE}"), zone))
    _write_schema(path.parent, MAPPING_FILE, MAPPING)


def _write_schema(folder: Path, name: str, which: str) -> None:
    """For editors, where the first line of each file names it; one that is there stays."""
    path = folder / _SCHEMAS / name
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        _write(path, schema_text(which))


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        _refuse_existing(path)
    except OSError as error:
        raise Misconfigured(
            f"The file cannot be written: {error.strerror or type(error).__name__}.", where=str(path)
        ) from None


def _say(drafted: Draft, written: list[Path], wishes: Wishes) -> None:
    for path in written:
        exits.say(f"Written: {path}")
    tables, columns = len(drafted.tables), sum(len(table.columns) for table in drafted.tables)
    exits.say(f"Matched {tables} tables and {columns} columns; {len(drafted.keyspaces)} keys get new ids.")
    decisions = [line for line in drafted.decisions if not (wishes.zone and line.startswith("whose local time"))]
    if decisions:
        exits.say(f"Left for you to decide ({len(decisions)}), marked in the mapping:")
        for line in decisions:
            exits.say(f"  - {line}")
    exits.say("Read the mapping, then: crossfade check")


def _tell_secrets(side: str, dsn: Dsn) -> None:
    if dsn.secrets:
        exits.tell(f"The {' and '.join(dsn.secrets)} of the {side} was not written down: {secret_advice(side)}.")
