"""`python -m pyrovae`: the command line."""

from .cli.app import main

main()
