"""One file per command, named like the command; its function is called `NAME_command`.

A command checks its options, calls one function of the library, and prints or writes the result. To add one: write
`commands/NAME.py` with a function `NAME_command`, whose arguments are its options and whose docstring is its help text, and
enter it in `COMMANDS` of `cli/app.py`. At the top of the file import only the standard library, typer, `pyrovae.errors` and the
modules of `cli/`; import the rest inside the function, so that no command waits for the libraries of another.
"""
