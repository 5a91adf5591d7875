"""The models and texts that the tests of the machine room run."""

from tests.workers.runtimes import articles, gemma_folder, minilm_runtime, models_home

__all__ = ["articles", "gemma_folder", "minilm_runtime", "models_home"]
