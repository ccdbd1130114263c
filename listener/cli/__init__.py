"""The command `smtp-relay`: one module for each subcommand."""
