"""Reads the content of a mail that a stranger wrote: header block, parts, charsets, texts, dates."""
