"""A spool in a bucket, the same for every cloud: runs, sweep, dead letters."""
