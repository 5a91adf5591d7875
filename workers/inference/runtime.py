"""The one door of a worker process to its models."""

from collections.abc import Sequence

from workers.engines.contract.generation import GenerateRequest
from workers.inference.loaded import LoadedModels
from workers.models import registry


class Runtime(LoadedModels):
    def warm(self, model_ids: Sequence[str]) -> None:
        """Loads these models and runs each once, so that the first shard does not pay for it."""
        for model_id in model_ids:
            if registry.get(model_id).kind == "encoder":
                self.encoder(model_id).answer(["A first text."])
            else:
                self.decoder(model_id).answer([GenerateRequest(prompt="A first", max_tokens=1)])
