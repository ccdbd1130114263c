"""The servers of others that this one is measured against, with their sources and configurations."""
