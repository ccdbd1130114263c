"""The SMTP server (RFC 5321): listeners' endpoints, commands, replies, DATA."""
