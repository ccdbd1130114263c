"""Replies that show the HTML of a mail, without what reaches out."""
