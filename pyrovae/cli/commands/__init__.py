"""One file per command, named like the command; its function is called `NAME_command`.

A command checks its options, calls one function of the library, and prints or writes the result. To add one: write
`commands/NAME.py` with a function `NAME_command`, and enter it in `COMMANDS` of `cli/app.py`. Its arguments are the
options, and its docstring is the help text. At the top of the file import only the standard library, typer,
`pyrovae.errors` and the modules of `cli/`. Import the rest inside the function, so that no command waits for the
libraries of another.
"""
