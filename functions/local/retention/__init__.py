"""The limits of the folders that `file` outputs fill."""
