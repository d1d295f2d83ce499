"""Reading a file that a person wrote: the whole of it as text, or a sentence that says why not.

Mapping and configuration are read alike: bounded, so that a path to something else does not fill the memory, and as
UTF-8, so that a name is never guessed. Refuses to know what is in it. The invariant: no byte of a file that was
refused is shown beyond the one that was no text.
"""

from __future__ import annotations

from pathlib import Path

from crossfade.faults import Misconfigured
from crossfade.mapping.places import Place, Report

_MIB = 1024 * 1024


def read_text(path: Path, *, called: str, largest_mib: int, do: str) -> str:
    """UTF-8, with or without a byte order mark; `called` is what the file should have been ("mapping").

    Raises `Misconfigured` because it cannot be read (`do` says what to do then), because it is larger than that many
    MiB, or naming the place of the first bad byte.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(largest_mib * _MIB + 1)
    except OSError as error:
        raise Misconfigured(
            f"The {called} cannot be read: {error.strerror or type(error).__name__}.", where=str(path), do=do
        ) from None
    if len(raw) > largest_mib * _MIB:
        raise Misconfigured(f"This file is larger than {largest_mib} MiB: it is no {called}.", where=str(path))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", "replace")
        column = len(before) - (before.rfind("\n") + 1) + 1
        report = Report(path.name, "")
        report.add(
            Place(before.count("\n") + 1, column),
            "",
            f"this file is not UTF-8 (byte 0x{raw[error.start]:02X}). Save it as UTF-8.",
        )
        raise Misconfigured("\n".join(report.render())) from None
