"""The models and texts that the unit tests of the machine room run."""

from tests.workers.runtimes import articles, fake_engine, fake_runtime, minilm_runtime, models_home

__all__ = ["articles", "fake_engine", "fake_runtime", "minilm_runtime", "models_home"]
