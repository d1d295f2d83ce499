"""Faults, injected and counted, and campaigns of them against a running daemon."""
