"""Filters that limit what a client may send, and how much."""
