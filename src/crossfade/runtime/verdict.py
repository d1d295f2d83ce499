"""What the findings of a preflight amount to for a daemon: one fault, with everything that was found in its text.

Refuses to look at anything itself. The invariant: the worst kind of finding decides, in the order of the exit codes.
"""

from __future__ import annotations

from crossfade.faults import Fault, Misconfigured, Refused, Unreachable
from crossfade.findings import Finding, Kind


def amounting_to(errors: list[Finding], *, resuming: bool) -> Fault:
    """One fault out of every error found: the worst kind decides what is done about it."""
    text = "\n".join(
        f"  {finding.subject}: {finding.sentence}" + (f"\n    {finding.remedy}" if finding.remedy else "")
        for finding in errors
    )
    kinds = {finding.kind for finding in errors}
    count = f"{len(errors)} finding{'s' if len(errors) > 1 else ''} of `crossfade check` stand in the way:\n{text}\n"
    means = "Nothing was changed." if not resuming else "Nothing is lost; the slot keeps the changes."
    if Kind.CONFIGURATION in kinds:
        return Misconfigured(count, means=means)
    if Kind.UNREACHABLE in kinds:
        return Unreachable(count, means=means)
    # A daemon that has begun waits for the cause to go away; one that has not says no.
    return Fault(count, means=means) if resuming else Refused(count, means=means)
