"""Inboxes for tests: stored mails, and what shows them."""
