"""Where in a file somebody wrote something wrong, and how to say it: every problem at once, with line and caret.

The mapping and the settings are read by different rooms but complain in one voice:
`mapping.yaml:9:5: tables.app.accounts.dropp: unknown key. Did you mean 'drop'?`, the line, a caret under the place.
Refuses to know what is being read. The invariant: reading goes on after a problem, so that a person mends a file
once and not once per mistake.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from crossfade.faults import Misconfigured

_WIDEST_LINE: Final = 160  # characters of a source line worth showing; minified files exist


class Place(NamedTuple):
    """Line and column as editors count them, from 1; the column counts characters, not bytes."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `path` is the dotted key it belongs to, '' for the file itself."""

    place: Place
    path: str
    text: str


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'drop'?` with its leading space, or '' when nothing is near."""
    # Similar words are of similar length; comparing only those keeps a thousand misnamed tables from taking minutes.
    slack = max(2, len(word) // 3)
    candidates = sorted({candidate for candidate in known if abs(len(candidate) - len(word)) <= slack})
    candidates = [candidate for candidate in candidates if len(set(candidate) ^ set(word)) <= 2 * slack]
    near = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    if not near:
        folded = {candidate.casefold(): candidate for candidate in candidates}
        near = [folded[word.casefold()]] if word.casefold() in folded else []
    return f" Did you mean {near[0]!r}?" if near else ""


class Report:
    """Problems of one file, gathered while it is read. `redact` may hide parts of a shown line (secrets)."""

    def __init__(self, file: str, text: str, *, redact: Callable[[str], str] | None = None) -> None:
        self._file = file
        self._lines = text.split("\n")
        self._redact = redact
        self._problems: list[Problem] = []

    def add(self, place: Place, path: str, text: str) -> None:
        """Remember one problem; the same text at the same place is told once."""
        problem = Problem(place, path, text)
        if problem not in self._problems:
            self._problems.append(problem)

    @property
    def problems(self) -> Sequence[Problem]:
        """In the order of the file."""
        return sorted(self._problems, key=lambda problem: problem.place)

    def raise_if_any(self) -> None:
        """Raise one `Misconfigured` that tells them all."""
        if self._problems:
            raise Misconfigured("\n".join(self.render()))

    def render(self) -> list[str]:
        """One string per problem: place, path and text, then the line and the caret where the file has that line."""
        return [self._rendered(problem) for problem in self.problems]

    def _rendered(self, problem: Problem) -> str:
        path = f"{problem.path}: " if problem.path else ""
        head = f"{self._file}:{problem.place}: {path}{problem.text}"
        if not 0 < problem.place.line <= len(self._lines):
            return head
        line = self._lines[problem.place.line - 1].rstrip("\r")
        if self._redact is not None:
            line = self._redact(line)
        if not line.strip():
            return head
        # A tab is one character to us and several to a terminal: keep it, so that the caret stands below its place.
        pad = "".join("\t" if character == "\t" else " " for character in line[: problem.place.column - 1])
        pad = pad.ljust(min(problem.place.column - 1, len(line)))
        if len(pad) > _WIDEST_LINE:
            return head
        shown = "".join(character if character.isprintable() or character == "\t" else "?" for character in line)
        return f"{head}\n    {shown[:_WIDEST_LINE]}\n    {pad}^"
