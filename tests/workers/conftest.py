"""The models and texts that the tests of the machine room run, and the store past all rights."""

from tests.db.conftest import as_superuser
from tests.workers.runtimes import article_vectors, articles, gemma_folder, minilm_runtime, models_home

__all__ = ["article_vectors", "articles", "as_superuser", "gemma_folder", "minilm_runtime", "models_home"]
