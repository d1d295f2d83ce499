"""The row Error Rate: what failed, where, and how often it was tried again."""

from __future__ import annotations

from typing import Final

from tests.dashboards import promql, shared
from tests.dashboards.parts import GREEN, GREY, ORANGE, Kind, Meaning, Panel, Query, Row, Step

ROW: Final = Row(
    "Error Rate",
    (
        Panel(
            kind=Kind.LINES,
            title="Batches that failed",
            description="Of all that were tried. They are tried again and nothing is lost; above the line for 5"
            " minutes CrossfadeHighErrorRate wakes somebody: deadlocks with other sessions, timeouts, a full disk. A"
            " gap: nothing was tried.",
            unit="percentunit",
            queries=(Query(shared.failed_share(), "failed"),),
            width=8,
            least=0,
            steps=shared.ERROR_STEPS,
            lines=True,
            runbooks=("CrossfadeHighErrorRate",),
        ),
        Panel(
            kind=Kind.LINES,
            title="Errors by cause",
            description="Attempts that ended with an error, by the part of the daemon and the class of SQLSTATE: 08"
            " connection, 22 a value, 23 a constraint, 28 login, 40 deadlock, 42 schema or rights, 53 resources"
            " (disk), 55 lock or slot in use, 57 the server goes away, -- no server spoke. `crossfade status` has"
            " the text.",
            unit="short",
            queries=(
                Query(
                    promql.grown(
                        promql.flow("crossfade_errors_total"), "workflow, component, sqlstate_class", "$__rate_interval"
                    )
                    + " > 0",
                    "{{component}} {{sqlstate_class}}",
                ),
            ),
            width=8,
            least=0,
            stacked=True,
            empty="no errors",
            runbooks=("CrossfadeHighErrorRate", "CrossfadeNotWorking"),
        ),
        Panel(
            kind=Kind.LINES,
            title="Tried again, connected again",
            description="Attempts that will be made again after an error, and connections made again. One now and"
            " then is a network; many to one side is a server that goes away: CrossfadeNotWorking.",
            unit="short",
            queries=(
                Query(
                    promql.grown(promql.flow("crossfade_reconnects_total"), "workflow, endpoint", "$__rate_interval"),
                    "connected to {{endpoint}} again",
                ),
                Query(
                    promql.grown(promql.flow("crossfade_retries_total"), "workflow, operation", "$__rate_interval"),
                    "{{operation}} tried again",
                ),
            ),
            width=8,
            least=0,
            runbooks=("CrossfadeNotWorking", "CrossfadeCrashLoop"),
        ),
        Panel(
            kind=Kind.STATES,
            title="Paused, and why",
            description="Who paused it. operator: somebody did, `crossfade resume` goes on. The others are guards,"
            " which go on by themselves: target_full and own_disk when there is room again, error_rate when batches"
            " succeed. The slot keeps WAL meanwhile.",
            unit="none",
            queries=(Query(f"max by (workflow, reason) {promql.led(promql.flow('crossfade_paused'))}", "{{reason}}"),),
            width=8,
            meanings={0: Meaning("no", GREEN), 1: Meaning("paused", ORANGE)},
            steps=(Step(None, GREY),),
            runbooks=("CrossfadePaused",),
        ),
        Panel(
            kind=Kind.LINES,
            title="Alerts told by the daemon",
            description="What its own hooks sent (settings under [hooks]), for teams without Prometheus. failed: the"
            " command or the address does not answer, the log says how; dropped: there was too much to tell.",
            unit="short",
            queries=(
                Query(
                    promql.grown(
                        promql.flow("crossfade_notifications_total"), "workflow, channel, outcome", "$__rate_interval"
                    ),
                    "{{channel}} {{outcome}}",
                ),
            ),
            width=8,
            least=0,
        ),
        Panel(
            kind=Kind.NUMBER,
            title="Settings read again",
            description="Whether the settings were taken when they were last read: at the start, or at a SIGHUP."
            " refused: the file holds a mistake, which the log names; what ran before goes on.",
            unit="none",
            queries=(Query(promql.process("crossfade_config_last_reload_successful"), "{{instance}}"),),
            width=8,
            meanings={0: Meaning("refused", ORANGE), 1: Meaning("taken", GREEN)},
            steps=(Step(None, GREY),),
        ),
    ),
)
