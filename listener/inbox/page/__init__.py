"""The page that shows the mails: what a browser reads of it."""
