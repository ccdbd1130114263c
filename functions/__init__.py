"""The delivering half: the contract (envelope, spool object, outputs) and what carries it out."""

__version__ = "3.0.0.dev0"
