"""Entry point of the bundle: the installed command, with the arguments of the manifest."""

from isocenter.cli import main

main()
