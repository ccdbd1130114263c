"""Delivery: one attempt at each output of a mail, and the record of its outcome."""
