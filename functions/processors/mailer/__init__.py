"""The output `mailer`: send the mail to an SMTP server, edited and signed."""
