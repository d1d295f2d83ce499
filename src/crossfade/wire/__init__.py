"""The hot path: tuples to rows, folded, converted and encoded, by position and without an object per field."""
