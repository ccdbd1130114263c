"""Parts of the configuration that both halves read: types, secrets, registries, plugins."""
