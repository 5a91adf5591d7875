"""Any other encoder or sequence classifier that transformers knows (DeBERTa, MPNet, ModernBERT, …): padded, in fp32, in its own code.

Slower than the engines with code of our own, and right for every family: what `architecture.py` cannot read comes here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from workers.arrays import Ids, Vectors
from workers.engines.contract.torch_errors import translated
from workers.engines.encoders.architecture import broken, fitting, read_config, read_labels, read_pooling, weight_files
from workers.engines.encoders.encoding import Encoding
from workers.engines.encoders.padding import Padded, pad
from workers.models.card import ModelCard


class TransformersEncoder(Encoding):
    """Raises TextmillError "model_broken" where the family is unknown or weights are missing."""

    padded = True

    def __init__(self, card: ModelCard, folder: Path, *, device: str) -> None:
        torch.set_num_threads(1)
        config = read_config(folder)
        with fitting(folder):
            self.labels = read_labels(config)
            self._filler = int(config.get("pad_token_id") or 0)
        self._model = _load(folder, classifier=bool(self.labels)).to(device).eval()
        self._device = torch.device(device)
        self._pooling = read_pooling(folder)
        self.dimensions = len(self.labels) or int(self._model.config.hidden_size)
        self.model_version = f"{card.weights_version}+transformers-float32"
        super().__init__(folder, max_tokens=card.max_tokens, vocabulary=self._model.get_input_embeddings().weight.shape[0])

    def prepare(self, batch: Sequence[Ids]) -> Padded:
        return pad(batch, self._filler)

    def run(self, padded: Padded) -> Vectors:
        with torch.inference_mode(), translated():
            mask = torch.from_numpy(padded.mask).to(self._device)
            ids = torch.from_numpy(padded.ids).to(self._device).long()
            out = self._model(input_ids=ids, attention_mask=mask.long())
            if self.labels:
                answers = out.logits
            elif self._pooling == "first":
                answers = functional.normalize(out.last_hidden_state[:, 0], dim=1)
            else:
                summed = (out.last_hidden_state * mask.unsqueeze(2)).sum(1)
                answers = functional.normalize(summed / mask.sum(1, keepdim=True), dim=1)
            vectors: Vectors = answers.float().cpu().numpy()
            return vectors


def _load(folder: Path, *, classifier: bool) -> Any:
    from transformers import AutoModel, AutoModelForSequenceClassification

    kind = AutoModelForSequenceClassification if classifier else AutoModel
    weight_files(folder)  # names a file that is cut off; transformers would say it with its content
    try:
        model, found = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # what transformers raises for a folder it cannot use differs by cause and quotes it
        raise broken(folder, f"transformers cannot load it ({type(error).__name__}); is its model_type one that it knows?") from None
    missing = [name for name in found["missing_keys"] if "pooler" not in name]  # which a sentence vector does not need
    if missing:
        raise broken(folder, f"{len(missing)} weights are missing, {sorted(missing)[0]} among them.")
    if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
        raise broken(folder, "a weight holds numbers that are not finite.")
    return model
