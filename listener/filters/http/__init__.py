"""Filters that ask an HTTP endpoint."""
