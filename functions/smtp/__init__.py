"""A blocking SMTP client for relaying: mails streamed octet for octet, one result per recipient.

Python's smtplib rewrites a whole mail with a regular expression before it sends it, knows no
pipelining, and does not tell whether a lost mail may have been taken; hence this one.
"""
