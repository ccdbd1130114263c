"""A spool in a folder, and the delivery by the process that fills it."""
