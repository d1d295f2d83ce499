"""CPU seconds from /proc: a strange name shifts no field, no process of a tree is left out or counted twice."""

from __future__ import annotations

import os

import pytest

from tests.bench import cpu
from tests.bench.cpu import Cpu, Process, parse_stat, seconds, settled, tree

_STAT = "4711 (a name) with (parts) S 42 1 1 0 -1 4194560 1 2 0 0 10 20 300 4000 20 0 1 0 99 1 1"


def test_a_name_with_parentheses_does_not_shift_the_fields() -> None:
    assert parse_stat(_STAT) == Process(4711, 42, 10 + 20 + 300 + 4000)


def test_a_tree_is_the_process_and_all_below_it() -> None:
    among = [Process(1, 0, 1000), Process(10, 1, 1), Process(11, 10, 2), Process(12, 11, 4), Process(20, 1, 8)]
    assert {process.pid for process in tree(10, among)} == {10, 11, 12}
    assert seconds(10, among) == pytest.approx(7 / os.sysconf("SC_CLK_TCK"))


def test_a_process_that_is_gone_has_no_tree() -> None:
    assert tree(99, [Process(1, 0, 1)]) == []


def test_the_difference_of_two_samples_keeps_what_there_is_none_of() -> None:
    assert Cpu(3.0, None, 5.0).since(Cpu(1.0, None, 1.0)) == Cpu(2.0, None, 4.0)
    assert Cpu(3.0, 2.0, 5.0).since(Cpu(1.0, 0.5, 1.0)) == Cpu(2.0, 1.5, 4.0)


def test_what_is_reaped_while_we_look_is_not_lost() -> None:
    alive = [Process(10, 1, 1), Process(11, 10, 50)]
    lost = [Process(10, 1, 1)]  # 11 was reaped after 10 was read: its time is nowhere
    reaped = [Process(10, 1, 51)]
    looks = iter([alive, lost, reaped])
    assert seconds(10, settled([10], lambda *_: next(looks))) == pytest.approx(51 / os.sysconf("SC_CLK_TCK"))


def test_our_own_process_is_found_and_has_a_peak() -> None:
    assert tree(os.getpid(), cpu.processes())[0].pid == os.getpid()
    assert cpu.peak_mb(os.getpid()) > 1
