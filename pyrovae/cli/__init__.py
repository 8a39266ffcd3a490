"""The `pyrovae` command. `commands/` has one file per command; a command parses, calls the library, prints."""
