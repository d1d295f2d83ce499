"""The command line: names, options and help; every command lives in a file of its own.

Refuses to import anything heavy before a command needs it, so that `--help` answers at once. The invariant: arguments
in, one call, exit code out (`exits`).
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from crossfade.cli import exits

Config = Annotated[
    Path,
    typer.Option(
        "--config", "-c", envvar="CROSSFADE_CONFIG", help="The configuration file.", show_default=True, metavar="FILE"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
DEFAULT_CONFIG: Final = Path("config/crossfade.toml")

app = typer.Typer(
    name="crossfade",
    help="Moves a live PostgreSQL application onto a new schema without stopping it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # they print local variables, and those hold connection strings
    context_settings={"help_option_names": ["-h", "--help"]},
)


mapping_app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
config_app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
app.add_typer(mapping_app, name="mapping", help="Compare mappings.")
app.add_typer(config_app, name="config", help="Look at the configuration.")


class Until(StrEnum):
    caught_up = "caught-up"


class SchemaOf(StrEnum):
    mapping = "mapping"
    configuration = "configuration"


class Goal(StrEnum):
    copied = "copied"
    caught_up = "caught-up"
    verified = "verified"


@app.command()
def init(
    config: Config = DEFAULT_CONFIG,
    source: Annotated[
        str,
        typer.Option("--source", envvar="CROSSFADE_SOURCE__DSN", help="The database that serves today.", metavar="DSN"),
    ] = "",
    target: Annotated[
        str,
        typer.Option("--target", envvar="CROSSFADE_TARGET__DSN", help="The one with the new schema.", metavar="DSN"),
    ] = "",
    name: Annotated[str, typer.Option("--name", help="The workflow's name; else made of the target's.")] = "",
    zone: Annotated[
        str, typer.Option("--timezone", help="Whose local time timestamps hold, where timestamptz awaits them.")
    ] = "",
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Propose only what the mapping does not say yet, on stdout.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", help="With --refresh: a new file for the proposal.", metavar="FILE")
    ] = None,
) -> None:
    """Draft configuration and mapping from both schemas."""
    import zoneinfo

    from crossfade.cli.init import Wishes, refresh_mapping
    from crossfade.cli.init import init as call

    if refresh:
        exits.finish(lambda: refresh_mapping(config, output))
    if output is not None:
        raise typer.BadParameter("it belongs to --refresh", param_hint="--output")
    if zone and zone not in zoneinfo.available_timezones():
        raise typer.BadParameter(f"there is no time zone {zone!r}; such as Europe/Berlin", param_hint="--timezone")
    exits.finish(lambda: call(config, Wishes(source, target, name, zone)))


@app.command()
def check(
    config: Config = DEFAULT_CONFIG,
    json_output: Json = False,
    data: Annotated[
        bool, typer.Option("--data", help="Read the source's tables, and count the rows the target would refuse.")
    ] = False,
    data_timeout: Annotated[
        str, typer.Option("--data-timeout", metavar="DURATION", help="How long --data may take in all.")
    ] = "10m",
    show_values: Annotated[
        bool, typer.Option("--show-values", help="With --data: print such rows' values, too, and not only keys.")
    ] = False,
    explain: Annotated[
        str | None,
        typer.Option("--explain", metavar="TABLE", help="Tell where every column of a target table comes from."),
    ] = None,
) -> None:
    """Look for everything that would stand in the way."""
    from crossfade.cli.check import Data
    from crossfade.cli.check import check as call
    from crossfade.cli.durations import seconds

    limit = seconds(data_timeout, option="--data-timeout")
    if show_values and not data:
        raise typer.BadParameter("only with --data", param_hint="--show-values")
    if explain is not None and data:
        raise typer.BadParameter("not together with --data", param_hint="--explain")
    asked = Data(limit, show_values) if data else None
    exits.finish(lambda: call(config, json_output, data=asked, table=explain))


@mapping_app.command("diff")
def mapping_diff(
    old: Annotated[Path | None, typer.Argument(help="The mapping before; left out: the one in progress.")] = None,
    new: Annotated[Path | None, typer.Argument(help="The mapping after; left out: the configured one.")] = None,
    config: Config = DEFAULT_CONFIG,
    offline: Annotated[bool, typer.Option("--offline", help="By the two files alone, without the databases.")] = False,
    json_output: Json = False,
) -> None:
    """What a change of the mapping means for a workflow that runs."""
    from crossfade.cli.mapping import diff as call

    exits.finish(lambda: call(config, old, new, offline=offline, json_output=json_output))


@config_app.command("show")
def config_show(
    config: Config = DEFAULT_CONFIG,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value came from.")] = False,
    json_output: Json = False,
) -> None:
    """Every setting as it is in force, secrets masked."""
    from crossfade.cli.config import show as call

    exits.finish(lambda: call(config, origin=origin, json_output=json_output))


@app.command()
def schema(which: Annotated[SchemaOf, typer.Argument(help="Of which file.")]) -> None:
    """A JSON Schema for editors, of the mapping or the configuration."""
    from crossfade.cli.schema import schema as call

    exits.finish(lambda: call(which.value))


@app.command()
def run(
    config: Config = DEFAULT_CONFIG,
    until: Annotated[
        Until | None, typer.Option("--until", help="End once what is committed now is durable on the target.")
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Exit 4 at once when another instance leads, instead of standing by.")
    ] = False,
) -> None:
    """The daemon: copy, then follow, until told to stop."""
    from crossfade.cli.run import run as call

    exits.finish(lambda: call(config, until_caught_up=until is Until.caught_up, no_wait=no_wait))


@app.command()
def status(
    config: Config = DEFAULT_CONFIG,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again every second.")] = False,
    json_output: Json = False,
    fail_if_lag_above: Annotated[
        str | None,
        typer.Option("--fail-if-lag-above", metavar="DURATION", help="Exit 3 when lag is more (5s), or not known."),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", metavar="FILE", help="Write all a helper needs, no secrets and no rows, as .tar.gz."),
    ] = None,
) -> None:
    """Where things stand, also without a daemon."""
    if bundle is not None:
        if watch or fail_if_lag_above is not None:
            raise typer.BadParameter("not together with --watch or --fail-if-lag-above", param_hint="--bundle")
        from crossfade.cli.bundle import bundle as write

        exits.finish(lambda: write(config, bundle, json_output=json_output))
    from crossfade.cli.durations import seconds
    from crossfade.cli.status import status as call

    limit = None if fail_if_lag_above is None else seconds(fail_if_lag_above, option="--fail-if-lag-above")
    exits.finish(lambda: call(config, watch=watch, json_output=json_output, fail_if_lag_above=limit))


@app.command()
def wait(
    config: Config = DEFAULT_CONFIG,
    goal: Annotated[Goal, typer.Option("--for", help="What to wait for.")] = Goal.caught_up,
    timeout: Annotated[str, typer.Option("--timeout", metavar="DURATION", help="Exit 3 after this long.")] = "10m",
    json_output: Json = False,
) -> None:
    """Wait for the copy, or for what the source has committed now.

    `caught-up`: what is committed on the source at this moment is durable on the target.
    `copied`: every table is copied.
    """
    from crossfade.cli.durations import seconds
    from crossfade.cli.wait import wait as call

    limit = seconds(timeout, option="--timeout")
    exits.finish(lambda: call(config, goal=goal.value, timeout=limit, json_output=json_output))


@app.command()
def pause(config: Config = DEFAULT_CONFIG) -> None:
    """Stop reading and applying; the slot retains WAL."""
    from crossfade.cli.control import control as call

    exits.finish(lambda: call(config, "pause"))


@app.command()
def resume(config: Config = DEFAULT_CONFIG) -> None:
    """Go on after a pause or, at once, after an error."""
    from crossfade.cli.control import control as call

    exits.finish(lambda: call(config, "resume"))


@app.command()
def teardown(
    config: Config = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the workflow's name.")] = False,
) -> None:
    """Remove slot, publications and our schema; no target table."""
    from crossfade.cli.teardown import teardown as call

    exits.finish(lambda: call(config, yes=yes))


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave servers and daemon running at the end.")] = False,
    live_seconds: Annotated[float, typer.Option("--seconds", min=1, help="How long the live writes go on.")] = 20,
    rows: Annotated[int, typer.Option("--rows", min=100, help="About how many rows to begin with.")] = 200_000,
    rate: Annotated[float, typer.Option("--rate", min=1, help="Live transactions a second.")] = 300,
    kill: Annotated[bool, typer.Option("--kill/--no-kill", help="Kill the daemon once on the way.")] = True,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, other sample rows.")] = 2026,
) -> None:
    """Show it all on two servers of its own, with live writes."""
    from crossfade.cli.demo import demo as call

    exits.finish(lambda: call(keep=keep, seconds=live_seconds, rows=rows, rate=rate, kill=kill, seed=seed))


@app.command()
def healthcheck(config: Config = DEFAULT_CONFIG) -> None:
    """Ask the daemon on this host whether it lives."""
    from crossfade.cli.healthcheck import healthcheck as call

    exits.finish(lambda: call(config))


@app.command()
def version(json_output: Json = False) -> None:
    """Which version this is."""
    from crossfade.cli.version import version as call

    exits.finish(lambda: call(json_output))
