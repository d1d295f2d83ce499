"""The drills of docs/runbooks/drills.md, run for real: `make drills`.

Two servers, a daemon, writers and a Prometheus with the shipped rules; each drill breaks one thing, waits until
everything that the document promises is shown at the same time, prints what was shown, does what the document says, and
waits until all is well and both sides hold the same rows."""
