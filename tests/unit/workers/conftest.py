"""The models and texts that the unit tests of the machine room run."""

from tests.workers.runtimes import fake_engine, fake_runtime, models_home

__all__ = ["fake_engine", "fake_runtime", "models_home"]
