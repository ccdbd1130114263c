"""The commands about mails: those that were sent, that wait, and that were given up."""
