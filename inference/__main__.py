"""`python -m inference` is the command `weightproof`."""

from inference.cli import main

main()
