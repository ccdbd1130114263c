"""Replies to a browser: the page, and what it alone asks for."""
