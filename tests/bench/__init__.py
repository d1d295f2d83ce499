"""How fast crossfade is beside the server's own replication, on this machine: see docs/performance.md."""
