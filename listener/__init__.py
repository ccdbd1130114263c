"""The listening half: SMTP in, flows decide, accepted mails go to the spool."""
