"""Who sent this mail? SPF, DKIM, ARC, DMARC and BIMI, on bytes, asynchronously and within bounds.

`check.py` runs them all over one mail and gives a `Report` (results.py); `authres.py` writes it
into header fields. DNS is behind `Resolver` (dns/resolver.py). Nothing here knows SMTP, filters or
the configuration file.
"""
