"""The subcommand `completion`: what it reads of the parsers, and what it writes for each shell."""
