"""Decodes bytes of mails with wrong charsets, and RFC 2047 encoded words.

Most values are plain ASCII. The tables for all others are imported with the first such value, because
they cost milliseconds at a start, of the server as of a cloud's function. Nothing here raises or takes
more than linear time.
"""

from __future__ import annotations


def decode(data: bytes, charset: str = "") -> str:
    """Text from bytes: by the charset if known, else as UTF-8 if valid, else as Windows-1252. Never
    raises; undecodable bytes become U+FFFD."""
    if not charset and data.isascii() and b"\x1b" not in data:
        return data.decode("ascii")
    from functions.message.reading import decoders

    return decoders.decode(data, charset)


def decode_words(value: bytes) -> str:
    """An unstructured header value as text, with decoded words (RFC 2047 section 6.2)."""
    if b"=?" not in value:
        return decode(value)
    from functions.message.reading import decoders

    return decoders.decode_words(value)
