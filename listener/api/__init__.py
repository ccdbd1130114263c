"""The filter interface: sessions, transactions, decisions, and the filter itself."""
