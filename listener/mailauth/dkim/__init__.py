"""DKIM signatures (RFC 6376) and ARC chains (RFC 8617): reading and verification."""
