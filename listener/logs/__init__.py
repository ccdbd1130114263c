"""Log records: their format, their destinations, and the record of each mail."""
