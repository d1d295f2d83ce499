from __future__ import annotations

from collections.abc import Callable

import pytest

from crossfade.cli import exits
from crossfade.faults import Fault, Locked, Misconfigured, ProtocolViolation, Refused, Transient, Unreachable


def _ends(call: Callable[[], int]) -> object:
    with pytest.raises(SystemExit) as left:
        exits.finish(call)
    return left.value.code


def _raising(error: BaseException) -> Callable[[], int]:
    def call() -> int:
        raise error

    return call


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Refused("No."), 3),
        (Locked("Locked."), 4),
        (Unreachable("Down."), 5),
        (Misconfigured("Wrong."), 78),
        (Transient("Gone for now."), 1),
        (ProtocolViolation("Odd."), 1),
        (Fault("What?"), 1),
    ],
)
def test_each_policy_has_its_code_and_is_told_once(fault: Fault, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert _ends(_raising(fault)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"crossfade: {fault}\n"


def test_the_command_s_own_code_is_kept() -> None:
    assert _ends(lambda: 3) == 3


def test_a_fault_inside_task_groups_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    inner = ExceptionGroup("tasks", [RuntimeError("wake"), ExceptionGroup("deeper", [Refused("The slot is gone.")])])
    assert _ends(_raising(inner)) == 3
    assert "The slot is gone." in capsys.readouterr().err


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        exits.finish(_raising(ZeroDivisionError()))
    with pytest.raises(ExceptionGroup):
        exits.finish(_raising(ExceptionGroup("tasks", [ZeroDivisionError()])))


def test_interrupted_as_shells_expect() -> None:
    assert _ends(_raising(KeyboardInterrupt())) == 130


def test_K6_a_crash_tells_places_and_no_text_but_ours(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("Key (email)=(ada@example.org) already exists")
    except ValueError as error:
        exits.crash(ValueError, ExceptionGroup("tasks", [error, Refused("Ours.")]), None)
    err = capsys.readouterr().err
    assert "ada@example.org" not in err.replace(_line_of_code(), "")
    assert "ValueError\n" in err
    assert "test_exits.py" in err
    assert "Refused: Ours." in err


def _line_of_code() -> str:
    """The raising line itself, which a traceback shows; in real code it holds no values."""
    return 'raise ValueError("Key (email)=(ada@example.org) already exists")'
