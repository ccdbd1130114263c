"""A mail and its envelope: header fields, addresses, MIME parts, templates, events."""
