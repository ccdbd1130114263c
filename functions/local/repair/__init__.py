"""A part of the spool after a sync that failed: whether to trust it, and writing it anew."""
