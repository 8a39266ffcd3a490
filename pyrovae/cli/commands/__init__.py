"""A file for each command of `pyrovae`, named as the command is."""
