"""Durations on the command line, written as in the configuration: 500ms, 30s, 10m, 6h."""

from __future__ import annotations

from datetime import timedelta

import typer
from pydantic_core import PydanticCustomError

from crossfade.settings import parse_duration


def seconds(text: str, *, option: str) -> float:
    """Seconds of `text`; a usage error (exit 2) naming `option` when it is no duration."""
    try:
        parsed = parse_duration(text)
    except PydanticCustomError as error:
        raise typer.BadParameter(error.message(), param_hint=option) from None
    if not isinstance(parsed, timedelta):
        raise typer.BadParameter("not a duration", param_hint=option)
    return parsed.total_seconds()
