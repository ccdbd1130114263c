"""The output `file`: each mail becomes one file."""
