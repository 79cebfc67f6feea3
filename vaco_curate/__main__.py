"""``python -m vaco_curate``: the command line."""

from vaco_curate_cli.start import start

start()
