"""The way in: the console script `crossfade`.

A container asks `crossfade healthcheck` every few seconds, so that one command goes past the framework of all others.
Refuses to know any command but that. The invariant: it is answered by the standard library alone.
"""

from __future__ import annotations

import sys

from crossfade.cli import exits


def main() -> None:
    """Run the command that `sys.argv` names; exits with its code."""
    sys.excepthook = exits.crash
    if sys.argv[1:2] == ["healthcheck"] and not {"-h", "--help"} & set(sys.argv):
        from crossfade.cli.healthcheck import main as quick

        exits.finish(lambda: quick(sys.argv[2:]))
    from crossfade.cli.commands import app

    app(prog_name="crossfade")


if __name__ == "__main__":
    main()
