"""HTTP requests that outputs make: addresses that are refused, signatures, a client with time limits."""
