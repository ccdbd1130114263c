"""A part of the spool after a failed sync: the decision to trust it, and its rebuilding."""
