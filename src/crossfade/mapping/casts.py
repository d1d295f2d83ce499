"""Conversions that the daemon carries out, and those that lose something and must be asked for (`cast: lossy`).

What the target's own input function makes of the source's text without loss is `conversions`; here is what lies beside
it: booleans and numbers, timestamps and days, and whatever rounds or cuts. Refuses to know rows. The invariant: without
`cast: lossy` no value changes but by the rules the documentation tells; with it, the verdict says what is lost.

PostgreSQL: datatype-boolean, datatype-datetime, datatype-numeric ("Numeric Types", rounding), datatype-character.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from crossfade.catalog import Column
from crossfade.mapping.conversions import (
    CHAR,
    INTEGERS,
    NUMERIC,
    TEXT,
    TIMESTAMP,
    VARCHAR,
    Fit,
    Verdict,
    judge,
    length_limit,
    precision_and_scale,
)
from crossfade.mapping.plan import Rule, Verbatim
from crossfade.mapping.rules import Conversion, Convert

_FLOATS: Final = frozenset({"real", "double precision"})
_WORD: Final = 5  # characters of "false"

Cast = tuple[Verdict, Rule]
_EXACT: Final = Verdict(Fit.EXACT)


def cast(source: Column, target: Column, *, is_lossy: bool) -> Cast:
    """Whether and how `source` becomes `target`. `is_lossy` is what the mapping allows.

    A verdict that is REFUSED without it and not with it says so in its remedy.
    """
    if source.type_kind == target.type_kind == "b" and not _is_array(source) and not _is_array(target):
        found = _daemons(source, target, is_lossy=is_lossy)
        if found is not None:
            return found
    verdict = judge(source, target)
    if is_lossy:
        return _lossy(source, target, verdict)
    if verdict.fit is Fit.REFUSED and _lossy(source, target, verdict)[0].fit is not Fit.REFUSED:
        remedy = f"{verdict.remedy} Or allow the loss: {{cast: lossy}}."
        verdict = dataclasses.replace(verdict, remedy=remedy)
    return verdict, Verbatim()


def _is_array(column: Column) -> bool:
    return column.base_type.endswith("[]")


def _checked(sentence: str) -> Verdict:
    return Verdict(Fit.CHECKED, sentence, "Make sure that no row has such a value.")


def _daemons(source: Column, target: Column, *, is_lossy: bool) -> Cast | None:
    """What the target's input function cannot read, or would read as something else."""
    pair = (source.base_type, target.base_type)
    is_whole = source.base_type in INTEGERS or (
        source.base_type == NUMERIC and (bounds := precision_and_scale(source)) is not None and bounds[1] == 0
    )
    if is_whole and target.base_type == "boolean":
        if is_lossy:
            return _EXACT, Convert(Conversion.TRUTH, is_lossy=True)
        verdict = Verdict(
            Fit.CHECKED,
            "numbers other than 0 and 1 are refused",
            "Make sure that no row has another, or say that all of them mean true: {cast: lossy}.",
        )
        return verdict, Convert(Conversion.TRUTH)
    if source.base_type == "boolean" and target.base_type in INTEGERS:
        return _EXACT, Convert(Conversion.NUMBER)
    if source.base_type == "boolean" and target.base_type in {TEXT, VARCHAR}:
        limit = length_limit(target)
        fits = limit is None or limit >= _WORD
        verdict = _EXACT if fits else _checked(f"values are true and false, longer than {target.type_name}")
        return verdict, Convert(Conversion.WORD)
    if pair == (TIMESTAMP, "date"):
        if is_lossy:
            return _EXACT, Convert(Conversion.DAY, is_lossy=True)
        verdict = Verdict(
            Fit.CHECKED,
            "timestamps with a time of day other than midnight are refused",
            "Make sure that no row has one, or cut it off: {cast: lossy}.",
        )
        return verdict, Convert(Conversion.DAY)
    return None


def _lossy(source: Column, target: Column, verdict: Verdict) -> Cast:
    """With `cast: lossy`: what is refused or checked otherwise and yet has a meaning."""
    arrays = _is_array(source) or _is_array(target)
    if verdict.rounds:  # arrays too: their elements are rounded one by one
        return _EXACT, Convert(Conversion.BY_TARGET, is_lossy=True)
    if source.type_kind != "b" or target.type_kind != "b" or arrays:
        return verdict, Verbatim()
    if target.base_type in INTEGERS and source.base_type in {NUMERIC, *_FLOATS} and verdict.fit is Fit.REFUSED:
        conversion = Conversion.ROUNDED if source.base_type == NUMERIC else Conversion.ROUNDED_EVEN
        beyond = _checked(f"NaN, and numbers outside the range of {target.type_name}, are refused")
        return beyond, Convert(conversion, is_lossy=True)
    if source.base_type in _FLOATS and target.base_type == NUMERIC:
        return _checked(f"NaN, and numbers too large for {target.type_name}, may be refused"), Convert(
            Conversion.BY_TARGET, is_lossy=True
        )
    limit = length_limit(target) or 0
    if source.base_type == CHAR and target.base_type in {TEXT, VARCHAR}:
        return _EXACT, Convert(Conversion.UNPADDED, is_lossy=True, limit=limit)
    is_cut = source.base_type in {TEXT, VARCHAR, CHAR} and target.base_type in {VARCHAR, CHAR} and limit > 0
    if is_cut and verdict.fit is not Fit.EXACT:
        return _EXACT, Convert(Conversion.CUT, is_lossy=True, limit=limit)
    return verdict, Verbatim()
