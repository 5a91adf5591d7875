"""The models and texts that the tests of the machine room run."""

from tests.workers.runtimes import article_vectors, articles, gemma_folder, minilm_runtime, models_home

__all__ = ["article_vectors", "articles", "gemma_folder", "minilm_runtime", "models_home"]
