"""Looks into a spool folder from outside, beside the server that owns it: read-only, and briefly."""
