"""What stands in for Cython's module of that name where it is not installed: nothing is compiled then."""

from __future__ import annotations

from typing import Final

compiled: Final = False
