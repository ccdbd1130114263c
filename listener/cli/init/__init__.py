"""The subcommand `init`: the configurations that it writes, and what it asks about each."""
