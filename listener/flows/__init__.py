"""Flows: the answers of filters become one verdict for each recipient."""
