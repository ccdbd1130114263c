"""Stored passwords and their checks: plain text, hashes, htpasswd files."""
