"""The models that the tests of the machine room load."""

from tests.workers.runtimes import gemma_folder, models_home

__all__ = ["gemma_folder", "models_home"]
