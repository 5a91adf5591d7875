"""Small models of all families with random weights, held against transformers in fp32 on the CPU, text by text."""

import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from tests.gpu.finding import Finding, Setting
from tests.gpu.models import card, encoder
from tests.workers.families import FAMILIES, LABELS, PACKED, WORDS, make
from workers.arrays import Ids, Vectors
from workers.engines.encoders.transformers_encoder import TransformersEncoder
from workers.models.folders import VARIABLE

TEXTS: Final = [" ".join(WORDS[(at * 3 + size) % len(WORDS)] for at in range(size)) for size in (1, 9, 4, 4, 40, 17, 2, 60, 60)]
# Of the largest number that the reference answers with (at least 1): rounding of the format, through two layers.
CLOSE: Final = {"float32": 1e-4, "float16": 0.01, "bfloat16": 0.05}


def run(setting: Setting) -> Finding:
    found = Finding()
    os.environ[VARIABLE] = str(setting.folder)
    formats = CLOSE if setting.on_gpu else ("float32", "bfloat16")  # a CPU multiplies no fp16
    worst = dict.fromkeys(formats, 0.0)
    for family in FAMILIES:
        for classifier in (False, True):
            folder = setting.folder / f"{family}{'-classifier' if classifier else ''}"
            model = make(family, folder, classifier=classifier)
            for number_format in formats if family in PACKED else ("float32",):
                engine = _engine(family, folder, setting.device, number_format)
                batch = engine.tokenize(TEXTS)[0]
                answers = engine.run(engine.prepare(batch))
                expected = _one_by_one(model, batch, classifier=classifier)
                off = float(np.abs(answers - expected).max() / max(1.0, np.abs(expected).max()))
                worst[number_format] = max(worst[number_format], off)
                if not off <= CLOSE[number_format] or (classifier and engine.labels != tuple(LABELS.values())):
                    found.check(f"{folder.name} in {number_format}", False, f"{off:.2g} off")
    for number_format, off in worst.items():
        found.at_most(f"{number_format}: farthest from fp32, all families", off, CLOSE[number_format])
        found.figures[f"farthest_{number_format}"] = off
    if setting.on_gpu:
        _one_call(found, setting)
    return found


def _one_call(found: Finding, setting: Setting) -> None:
    """Which of the above went through the one-call attention."""
    engine = encoder(setting.folder / "bert", setting.device, "bfloat16")
    used = engine._varlen is not None
    found.figures["one_call_attention"] = "used" if used else "not on this GPU or torch"


def _engine(family: str, folder: Path, device: str, number_format: str) -> Any:
    if family in PACKED:
        return encoder(folder, device, number_format)
    return TransformersEncoder(card(folder), folder, device=device)


def _one_by_one(model: torch.nn.Module, batch: list[Ids], *, classifier: bool) -> Vectors:
    """transformers' own answer for each text alone: nothing is padded."""
    with torch.inference_mode():
        outs = [model(input_ids=torch.tensor(ids[None].astype(np.int64))) for ids in batch]
    if classifier:
        return torch.cat([out.logits for out in outs]).numpy()
    means = torch.cat([out.last_hidden_state.mean(1) for out in outs])
    return torch.nn.functional.normalize(means, dim=1).numpy()
