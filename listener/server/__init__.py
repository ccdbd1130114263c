"""Serving processes: sockets, workers, reload and drain."""
