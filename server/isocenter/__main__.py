"""`python -m isocenter` is the `isocenter` command."""

from isocenter.cli import main

main()
