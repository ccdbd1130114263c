"""The configuration file as the listener reads it: models, loading, and messages about mistakes."""
