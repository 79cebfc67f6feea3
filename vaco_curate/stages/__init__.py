"""One module for each command: read, compute, write, and return the facts.

Nothing is imported here, so that commands that need no torch do not import it.
"""
