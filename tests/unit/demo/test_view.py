"""What the demonstration says of the status document."""

from __future__ import annotations

from typing import cast

import pytest

from crossfade.demo.view import Speedometer, duration, look, sentence, size
from crossfade.telemetry.document import StatusDocument


def _document(phase: str, *states: str, error: str | None = None) -> StatusDocument:
    return cast(
        "StatusDocument",
        {
            "phase": phase,
            "tables": [
                {"target": f"app.t{n}", "state": state, "rows_copied": 10 * n, "rows_estimated": 40}
                for n, state in enumerate(states, 1)
            ],
            "lag_seconds": 0.25,
            "lag_bytes": 4096,
            "rates": {"changes_per_second": 1234.4},
            "error": None if error is None else {"text": error},
        },
    )


def _look(document: StatusDocument | None, seconds_left: float | None = None) -> str:
    return sentence(look(document, written=5000, written_per_second=301.2, seconds_left=seconds_left))


def test_while_copying_rows_and_tables_are_told() -> None:
    view = look(_document("copy", "done", "running", "pending"), written=0, written_per_second=0, seconds_left=None)
    assert not view.is_copied
    assert _look(_document("copy", "done", "running", "pending")) == (
        "copy · 60 rows copied, 1 of 3 tables done · 5,000 transactions written (301/s)"
    )


def test_while_streaming_lag_and_throughput_are_told() -> None:
    assert _look(_document("streaming", "done", "done"), 7.6) == (
        "streaming · lag 250 ms, 4.0 kiB · 1,234 changes/s applied · 5,000 transactions written (301/s) · 8 s left"
    )


def test_a_daemon_that_does_not_answer_is_said_to_be_down() -> None:
    assert _look(None).startswith("crossfade does not answer · 5,000 transactions")


def test_an_error_is_told_as_it_is() -> None:
    assert _look(_document("failed", "done", error="public.users: refused.")).endswith(" · public.users: refused.")


@pytest.mark.parametrize(
    ("phase", "states", "copied"),
    [
        ("copy", ("done", "done"), False),
        ("catchup", ("done", "done"), True),
        ("streaming", ("done", "running"), False),
        ("streaming", (), False),
        ("failed", ("done",), False),
    ],
)
def test_copied_means_every_table_and_the_stream(phase: str, states: tuple[str, ...], copied: bool) -> None:
    assert look(_document(phase, *states), written=0, written_per_second=0, seconds_left=None).is_copied is copied


def test_speed_is_that_of_the_last_two_seconds() -> None:
    meter = Speedometer()
    assert meter.per_second(0.0, 0) == 0
    assert meter.per_second(1.0, 100) == pytest.approx(100)
    for second in range(2, 10):
        speed = meter.per_second(float(second), 100 + (second - 1) * 500)
    assert speed == pytest.approx(500)


def test_unknown_is_never_zero() -> None:
    assert (duration(None), size(None)) == ("unknown", "? bytes")
    assert (duration(0), duration(12.34), size(0), size(3 * 1024**2)) == ("0 ms", "12.3 s", "0 bytes", "3.0 MiB")
