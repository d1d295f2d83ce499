"""What is said of a stream that has to come in text."""

from __future__ import annotations

import pytest

from crossfade.findings import Severity
from crossfade.preflight.forms import form
from crossfade.preflight.remarks import Remark
from tests.unit.mapping.builders import compiled, table, with_oids
from tests.unit.preflight.build import only


def said(*columns: str, wanted: str = "auto", source_version: int = 150018) -> list[Remark]:
    tables = [with_oids(table("public.t", "id int", *columns, pk="id"))]
    made = compiled("version: 1\nschemas: {public: public}\n", tables, tables)
    assert made.plan is not None, made.findings
    return list(form(made.plan, wanted=wanted, source_version=source_version, target_version=150018))


def test_nothing_is_said_of_a_stream_in_binary() -> None:
    assert said("n int", "b bytea") == []


@pytest.mark.parametrize(
    ("columns", "severity"),
    [(("m <e>public.mood",), Severity.INFO), (("m <e>public.mood", "b bytea"), Severity.WARNING)],
)
def test_F1_F15_the_column_is_named_and_it_is_worse_beside_a_bytea(
    columns: tuple[str, ...], severity: Severity
) -> None:
    finding = only(said(*columns)).finding
    assert (finding.severity, finding.subject) == (severity, "source public.t")
    assert "column m" in finding.sentence
    assert ("public.t.b" in finding.sentence) is (severity is Severity.WARNING)


def test_F1_whoever_wants_text_is_told_what_it_costs() -> None:
    assert only(said("n int", wanted="text")).finding.severity is Severity.INFO
    finding = only(said("b bytea[]", wanted="text")).finding
    assert finding.severity is Severity.WARNING
    assert finding.subject == "stream.wire"
    assert "public.t.b" in finding.sentence


def test_an_old_source_is_named_as_a_whole() -> None:
    finding = only(said("n int", source_version=130021)).finding
    assert finding.subject == "source"
    assert "before version 14" in finding.sentence
