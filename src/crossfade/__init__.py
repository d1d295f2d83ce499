"""Crossfade moves a live PostgreSQL application onto a new schema without stopping it."""

__version__ = "0.1.0"
