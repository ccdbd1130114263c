"""An SMTP client (RFC 5321) that gives one result for each recipient."""
