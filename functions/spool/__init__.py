"""The contract between the halves: spool objects, their keys, dead records."""
