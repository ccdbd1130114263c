"""Stored passwords and how they are checked: plain text, hashes, htpasswd files."""
