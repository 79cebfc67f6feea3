"""``python -m vaco_curate``: the command line."""

from vaco_curate_cli.main import main

main()
