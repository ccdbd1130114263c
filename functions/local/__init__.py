"""A spool in a folder, and in-process delivery out of it."""
