"""The embedded default: a dataset that the project records itself."""

from vaco_curate.demo.pendulum import record_pendulum

__all__ = ["record_pendulum"]
