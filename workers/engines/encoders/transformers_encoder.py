"""Any other encoder or sequence classifier that transformers knows (DeBERTa, MPNet, ModernBERT, …): padded, in fp32, in its own code.

Slower than the engines with code of our own, and right for every family: what `architecture.py` cannot read comes here.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional
from transformers import AutoModel, AutoModelForSequenceClassification

from workers.arrays import Ids, Vectors
from workers.engines.contract.torch_errors import translated
from workers.engines.encoders.architecture import read_pooling
from workers.engines.encoders.encoding import Encoding
from workers.engines.encoders.padding import Padded, pad
from workers.engines.folders.files import fitting, read_config
from workers.engines.folders.pretrained import load_pretrained
from workers.models.card import ModelCard
from workers.models.folder_config import read_labels


class TransformersEncoder(Encoding):
    """Raises TextmillError "model_broken" where the family is unknown or weights are missing."""

    padded = True

    def __init__(self, card: ModelCard, folder: Path, *, device: str) -> None:
        torch.set_num_threads(1)
        config = read_config(folder)
        with fitting(folder):
            self.labels = read_labels(config)
            self._filler = int(config.get("pad_token_id") or 0)
        kind = AutoModelForSequenceClassification if self.labels else AutoModel
        # A sentence vector does not need the pooler.
        self._model = load_pretrained(kind, folder, torch.float32, may_miss="pooler").to(device)
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
