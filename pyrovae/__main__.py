"""`python -m pyrovae`: the command line."""

from .cli import main

main()
