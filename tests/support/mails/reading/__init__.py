"""Mails as strangers write them, and what an event has to say about them."""
