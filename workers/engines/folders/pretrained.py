"""A model's weights through transformers' own code for its family. Nothing that a folder brings is executed, no pickle, no network."""

import threading
from pathlib import Path
from typing import Any, Final

import torch
from transformers.utils import logging as transformers_logging

from workers.batches.outcomes import EngineBroken, OutOfMemory
from workers.engines.contract.torch_errors import translated
from workers.engines.folders.files import broken, weight_files

# transformers sets the default dtype of the whole process while it builds a model: of two at once, one would be of both dtypes.
_one_at_a_time: Final = threading.Lock()


def load_pretrained(kind: Any, folder: Path, dtype: torch.dtype, *, attention: str | None = None, may_miss: str | None = None) -> Any:
    """``kind``: an Auto class of transformers; ``attention``: its implementation, by default the family's own; ``may_miss``: what names of
    weights hold that are not needed. Raises OutOfMemory, and TextmillError "model_broken" where the family is unknown, or a weight is
    missing, misshapen or not finite."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # a log is no terminal
    weight_files(folder)  # names a file that is cut off; transformers would say it with its content
    try:
        with _one_at_a_time, translated():
            model, found = kind.from_pretrained(
                folder,
                dtype=dtype,
                **({} if attention is None else {"attn_implementation": attention}),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OutOfMemory, EngineBroken, MemoryError):
        raise
    except Exception as error:  # what transformers raises for a folder it cannot use differs by cause and quotes it
        why = "is its model_type one that it knows, and do config.json and the weights belong together?"
        raise broken(folder, f"transformers cannot load it ({type(error).__name__}): {why}") from None
    missing = sorted(name for name in found["missing_keys"] if may_miss is None or may_miss not in name)
    if missing:
        raise broken(folder, f"{len(missing)} weights are missing, {missing[0]} among them.")
    if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
        raise broken(folder, "a weight holds numbers that are not finite.")
    return model.eval()
