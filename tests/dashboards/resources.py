"""The row Resource Utilization: what can run out, on the source first, then on the daemon's own host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.dashboards import promql, shared
from tests.dashboards.parts import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    YELLOW,
    Column,
    Kind,
    Meaning,
    Panel,
    Query,
    Row,
    Step,
)

WAL_STATUSES: Final[Mapping[int, Meaning]] = {
    0: Meaning("no slot", GREY),
    1: Meaning("reserved", GREEN),
    2: Meaning("extended", YELLOW),
    3: Meaning("unreserved", ORANGE),
    4: Meaning("lost", RED),
}


def wal_status_number() -> str:
    """The slot's wal_status as a number of WAL_STATUSES; 0 before there is a slot."""
    each = [
        f"{number} * " + promql.stream("crossfade_slot_wal_status", f'wal_status="{meaning.text}"')
        for number, meaning in WAL_STATUSES.items()
        if number
    ]
    return promql.most("(\n  " + "\n  or ".join(each) + "\n)")


ROW: Final = Row(
    "Resource Utilization",
    (
        Panel(
            kind=Kind.LINES,
            title="WAL the slot keeps on the source",
            description="Kept is what the source cannot remove because of the slot; allowed is its"
            " max_slot_wal_keep_size (no line: unlimited, until the disk is full). Past the limit the source removes"
            " WAL that is still needed, and everything must be copied again. Rising: the stream is behind, paused or"
            " away.",
            unit="bytes",
            queries=(
                Query(promql.most(promql.stream("crossfade_slot_retained_wal_bytes")), "kept"),
                Query(promql.most(promql.stream("crossfade_slot_wal_keep_limit_bytes")), "allowed"),
                Query(promql.most(promql.stream("crossfade_slot_safe_wal_size_bytes")), "until it is lost"),
            ),
            width=8,
            least=0,
            runbooks=("CrossfadeSlotRetention", "CrossfadeSlotWillBeLost"),
        ),
        Panel(
            kind=Kind.STATES,
            title="Slot",
            description="reserved: fine. extended: more than max_wal_size is kept, still allowed. unreserved: the"
            " next checkpoint of the source may take WAL that is needed; raise max_slot_wal_keep_size now. lost:"
            " start over. Below: whether somebody streams from it; nobody does during the copy.",
            unit="none",
            queries=(Query(wal_status_number(), "WAL {{direction}}"),),
            width=8,
            meanings=WAL_STATUSES,
            steps=(Step(None, GREY),),
            runbooks=("CrossfadeSlotLost", "CrossfadeSlotWillBeLost"),
        ),
        Panel(
            kind=Kind.STATES,
            title="Slot in use",
            description="Whether somebody streams from the slot. Nobody does during the copy, for a moment at each"
            " restart, and while it is paused; longer than 2 minutes otherwise is CrossfadeSlotInactive.",
            unit="none",
            queries=(Query(promql.most(promql.stream("crossfade_slot_active")), "{{direction}}"),),
            width=8,
            meanings={0: Meaning("not in use", ORANGE), 1: Meaning("in use", GREEN)},
            steps=(Step(None, GREY),),
            runbooks=("CrossfadeSlotInactive",),
        ),
        Panel(
            kind=Kind.LINES,
            title="Pipe between reading and applying",
            description="Bytes read and not yet applied, and how many may wait (stream.pipe_bytes). Full for long:"
            " the target is the bottleneck, reading waits for it and the source keeps WAL.",
            unit="bytes",
            queries=(
                Query(promql.most(promql.stream("crossfade_queue_bytes")), "waiting"),
                Query(promql.most(promql.stream("crossfade_queue_limit_bytes")), "allowed"),
            ),
            width=8,
            least=0,
            runbooks=("CrossfadeQueueFull",),
        ),
        Panel(
            kind=Kind.LINES,
            title="Spilled on the source",
            description="What the source's decoding wrote to its disk because transactions did not fit in"
            " logical_decoding_work_mem. Slow, and it takes disk; raise the setting if it goes on.",
            unit="binBps",
            queries=(Query(promql.per_second(promql.stream("crossfade_slot_spilled_bytes_total")), "{{direction}}"),),
            width=8,
            least=0,
        ),
        Panel(
            kind=Kind.LINES,
            title="Oldest transaction",
            description="The age of the oldest transaction on either side that holds something back: on the source"
            " the beginning of the stream or of a copy, on the target vacuum. Ask its owner to end it.",
            unit="s",
            queries=(
                Query(
                    f"max by (workflow, endpoint)"
                    f" {promql.led(promql.flow('crossfade_oldest_snapshot_transaction_age_seconds'))}",
                    "{{endpoint}}",
                ),
            ),
            width=8,
            least=0,
            runbooks=("CrossfadeLongTransaction",),
        ),
        Panel(
            kind=Kind.LINES,
            title="Disks in use",
            description="own is the disk of the daemon's host. source and target are their servers', reckoned from"
            " source.disk_capacity and target.disk_capacity against databases and WAL, since SQL cannot see free"
            " space: not set, not shown. The source serves the application: its disk comes first.",
            unit="percentunit",
            queries=(Query(f"max by (workflow, endpoint) ({shared.disk_used()})", "{{endpoint}}"),),
            width=8,
            least=0,
            most=1,
            steps=shared.DISK_STEPS,
            lines=True,
            runbooks=("CrossfadeDiskSpaceLow",),
        ),
        Panel(
            kind=Kind.LINES,
            title="CPU of the daemon",
            description="Cores in use, of every instance. One stream uses little more than one: at 1 for long, with a"
            " lag, the daemon is the bottleneck.",
            unit="percentunit",
            queries=(Query(promql.process_per_second("process_cpu_seconds_total"), "{{instance}}"),),
            width=8,
            least=0,
        ),
        Panel(
            kind=Kind.LINES,
            title="Memory of the daemon",
            description="Resident memory of every instance. It depends on stream.pipe_bytes, stream.batch_bytes and"
            " the id caches, not on the size of transactions: operations.md, Memory, disk and sizing.",
            unit="bytes",
            queries=(Query(promql.process("process_resident_memory_bytes"), "{{instance}}"),),
            width=8,
            least=0,
        ),
        Panel(
            kind=Kind.LINES,
            title="Event loop wakes late",
            description="How late the daemon's loop woke when it last should have. Above"
            f" {shared.LIMITS['event_loop_lag_seconds']:g} s for 5 minutes"
            " the process lacks CPU or memory, and systemd's watchdog may end it: CrossfadeEventLoopBlocked.",
            unit="s",
            queries=(Query(promql.process("crossfade_event_loop_lag_seconds"), "{{instance}}"),),
            width=8,
            least=0,
            steps=shared.steps(shared.LIMITS["event_loop_lag_seconds"]),
            lines=True,
            runbooks=("CrossfadeEventLoopBlocked",),
        ),
        Panel(
            kind=Kind.LINES,
            title="Clocks",
            description="The servers' clocks minus the daemon's host's. The lag is not fooled by it (it is by the"
            " source's clock alone), but logs are hard to compare. Far from 0: look at NTP.",
            unit="s",
            queries=(
                Query(
                    f"max by (workflow, endpoint) {promql.led(promql.flow('crossfade_clock_skew_seconds'))}",
                    "{{endpoint}}",
                ),
            ),
            width=8,
        ),
        Panel(
            kind=Kind.LINES,
            title="Open files of the daemon",
            description="File descriptors in use, and how many the process may have. Rising without end is a leak:"
            " report it, and restart before the limit is reached.",
            unit="short",
            queries=(
                Query(promql.process("process_open_fds"), "{{instance}}"),
                Query(promql.process("process_max_fds"), "{{instance}} may have"),
            ),
            width=8,
            decimals=0,
            least=0,
        ),
        Panel(
            kind=Kind.NUMBER,
            title="Running for",
            description="How long each instance has been running. Short again and again: CrossfadeCrashLoop, and the"
            " last line of its log says why it ended.",
            unit="s",
            queries=(Query(f"time() - {promql.process('process_start_time_seconds')}", "{{instance}}"),),
            width=8,
            decimals=0,
            steps=(Step(None, BLUE),),
            runbooks=("CrossfadeCrashLoop",),
        ),
        Panel(
            kind=Kind.STATES,
            title="Who leads",
            description="Which instance holds the lock in the target and works; the others stand by and take over"
            " within 30 seconds. Two at the same time for a minute: CrossfadeTwoLeaders.",
            unit="none",
            queries=(Query(f"max by (instance) ({promql.flow('crossfade_leader')})", "{{instance}}"),),
            width=8,
            meanings={0: Meaning("stands by", BLUE), 1: Meaning("leads", GREEN)},
            steps=(Step(None, GREY),),
            runbooks=("CrossfadeNoLeader", "CrossfadeTwoLeaders"),
        ),
        Panel(
            kind=Kind.TABLE,
            title="What runs",
            description="Versions of each instance. compiled no: the hot modules run as Python, several times slower;"
            " see operations.md, Install.",
            unit="string",
            queries=(
                Query(
                    f"max by (instance, version, compiled, python, libpq) ({promql.process('crossfade_build_info')})"
                ),
            ),
            width=8,
            columns=(
                Column(field="instance", title="Instance"),
                Column(field="version", title="Version"),
                Column(field="compiled", title="Compiled"),
                Column(field="python", title="Python"),
                Column(field="libpq", title="libpq"),
            ),
        ),
    ),
)
