"""Mail authentication: SPF, DKIM, ARC, DMARC and BIMI, on bytes, asynchronously and within bounds.

`check.py` runs all checks on one mail and returns a `Report` (results.py); `authres.py` writes it
into header fields. DNS is behind `Resolver` (dns/resolver.py). This package knows nothing of SMTP,
filters or the configuration file.
"""
