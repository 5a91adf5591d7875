"""The body of a causal language model, from token ids to its last hidden states: transformers' own module, whatever the family.

Ours are its attention (:mod:`workers.engines.decoders.attention`), which looks after keys and values itself, and on a CPU the linear
layers, whose weights are laid out once as oneDNN wants them.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn

from workers.engines.decoders.attention import NAME, StepPlan
from workers.engines.decoders.cache import Shape


class Body:
    """``model``: of a packed family of :mod:`workers.models.decoder_folder`, its weights on ``device``. It is changed: whoever hands it in
    uses it no more. ``shares``: a row may read keys and values that another row's prompt made."""

    shares: Final = True

    def __init__(self, model: Any, device: torch.device) -> None:
        config = model.config
        model.set_attn_implementation(NAME)
        self._base = model.base_model.eval()
        heads: int = config.num_attention_heads
        self.shape = Shape(
            layers=config.num_hidden_layers,
            heads=getattr(config, "num_key_value_heads", None) or heads,
            dimensions=getattr(config, "head_dim", None) or config.hidden_size // heads,
            dtype=model.dtype,
            device=device,
        )
        if device.type == "cpu" and torch.backends.mkldnn.is_available():
            _pack(self._base)

    def __call__(self, ids: Tensor, positions: Tensor, step_plan: StepPlan) -> Tensor:
        """[tokens] -> [tokens, hidden size]"""
        output = self._base(input_ids=ids[None], position_ids=positions[None], use_cache=False, step_plan=step_plan)
        hidden: Tensor = output.last_hidden_state[0]
        return hidden


class PackedLinear(nn.Module):
    """A linear layer in oneDNN's own layout."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, values: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(values, self._weight, self._bias, "none", [], "")
        return out


def _pack(module: nn.Module) -> None:
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, PackedLinear(child))
        else:
            _pack(child)
