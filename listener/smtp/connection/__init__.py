"""One connection: its state machine, and the objects that it owns."""
