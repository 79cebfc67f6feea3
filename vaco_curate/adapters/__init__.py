"""Bridges to other learners' dataset classes; each imports its library, nothing imports them eagerly."""
