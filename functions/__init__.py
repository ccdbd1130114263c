"""The delivering half: the contract (envelope, spool object, outputs) and the code that delivers."""

__version__ = "3.0.0"
