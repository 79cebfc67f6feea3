"""The command line of vaco-curate: parse, call a stage, display."""
