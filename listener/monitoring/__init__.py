"""Metrics and health: events, counters in shared memory, and their HTTP server."""
