"""Filters: one file each, holding its options, its class and its build()."""
