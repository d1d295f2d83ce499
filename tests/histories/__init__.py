"""Random histories of a source that is only played, applied to real targets: what the fast path is checked against."""
