"""A small decoder in OpenVINO's own form, as optimum-intel writes it: stateful, with a place for the order of its rows."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoTokenizer, DynamicCache
from transformers.cache_utils import DynamicLayer

from tests.workers.decoder_folders import make
from workers.engines.encoders.openvino_encoder import import_openvino

openvino = import_openvino()
NAMES = ("input_ids", "attention_mask", "position_ids")


def make_openvino(folder: Path) -> Any:
    """Writes the model, and returns transformers' own."""
    from openvino_tokenizers import convert_tokenizer

    model = make(folder)
    (folder / "model.safetensors").unlink()
    openvino.save_model(_stateful(model), folder / "openvino_model.xml", compress_to_fp16=False)
    read, told = convert_tokenizer(AutoTokenizer.from_pretrained(folder), with_detokenizer=True)
    openvino.save_model(read, folder / "openvino_tokenizer.xml")
    openvino.save_model(told, folder / "openvino_detokenizer.xml")
    return model


class _Step(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor, *past: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        cache: Any = DynamicCache()
        for keys, values in zip(past[::2], past[1::2], strict=True):
            layer: Any = DynamicLayer()  # type: ignore[no-untyped-call]
            layer.keys, layer.values, layer.dtype, layer.device, layer.is_initialized = keys, values, keys.dtype, keys.device, True
            cache.layers.append(layer)
        cache.layer_class_to_replicate = None
        tokens, all_tokens = input_ids.shape[1], attention_mask.shape[1]
        upto = torch.arange(all_tokens)[None, :] <= (torch.arange(tokens) + all_tokens - tokens)[:, None]
        mask = upto[None, None] & (attention_mask[:, None, None, :] > 0)
        out = self.model(input_ids=input_ids, attention_mask=mask, position_ids=position_ids, past_key_values=cache, use_cache=True)
        return (out.logits, *(kept for layer in cache.layers for kept in (layer.keys, layer.values)))


def _stateful(model: Any) -> Any:
    from openvino import opset13 as ops
    from openvino._offline_transformations import apply_make_stateful_transformation

    model.set_attn_implementation("sdpa")
    config = model.config
    shape = [-1, config.num_key_value_heads, -1, config.head_dim]
    past = [torch.zeros(2, shape[1], 3, shape[3]) for _ in range(2 * config.num_hidden_layers)]
    example = (torch.ones(2, 4, dtype=torch.long), torch.ones(2, 7, dtype=torch.long), torch.arange(3, 7).repeat(2, 1), *past)
    with torch.no_grad():
        made = openvino.convert_model(_Step(model), example_input=example)
    model.set_attn_implementation("eager")
    kept = [f"past_key_values.{layer}.{kind}" for layer in range(config.num_hidden_layers) for kind in ("key", "value")]
    said = [name.replace("past_key_values", "present") for name in kept]
    for place, name in zip(made.inputs, (*NAMES, *kept), strict=True):
        place.get_tensor().set_names({name})
        place.get_node().set_partial_shape(openvino.PartialShape([-1, -1] if name in NAMES else shape))
        place.get_node().set_element_type(openvino.Type.i64 if name in NAMES else openvino.Type.f32)
    for place, name in zip(made.outputs, ("logits", *said), strict=True):
        place.get_tensor().set_names({name})
    made.validate_nodes_and_infer_types()

    def number(*values: int) -> Any:
        return ops.constant(list(values), dtype=np.int64)

    order = ops.parameter([-1], np.int32, name="beam_idx")
    order.output(0).get_tensor().add_names({"beam_idx"})
    made.add_parameters([order])
    first = ops.constant(0, dtype=np.int64)
    rows = ops.gather(ops.shape_of(made.input("input_ids"), output_type="i64"), number(0), first)
    for name in kept:
        readers = list(made.input(name).get_target_inputs())
        ordered = ops.gather(made.input(name), order, first)
        for reader in readers:
            reader.replace_source_output(ordered.output(0))
    made.validate_nodes_and_infer_types()
    apply_make_stateful_transformation(made, dict(zip(kept, said, strict=True)))
    for node in made.get_ops():
        if node.get_type_name() == "ReadValue":
            nothing = ops.concat([rows, number(shape[1]), number(0), number(shape[3])], 0)
            node.set_arguments([ops.broadcast(ops.constant(0.0, dtype=np.float32), nothing).output(0)])
    made.validate_nodes_and_infer_types()
    return made
