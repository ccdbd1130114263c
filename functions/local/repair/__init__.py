"""A part of the spool after a failed sync: whether it can be trusted, and its rebuilding."""
