"""OAuth 2 access tokens for the next server of the output `mailer`."""
