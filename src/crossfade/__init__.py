"""Crossfade moves a live PostgreSQL application onto a new schema without stopping it."""

from crossfade import native

__version__ = "0.1.0"

native.install()
