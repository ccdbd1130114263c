"""An example of a plugin for smtp-relay."""
