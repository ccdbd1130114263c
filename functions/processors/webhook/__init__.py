"""The output `webhook`."""
