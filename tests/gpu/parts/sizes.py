"""Encoders of the sizes people use, with random weights: speed by number format and token budget, and what half precision changes."""

from functools import partial
from typing import Any, Final

import numpy as np

from tests.gpu.card import Watch, own_index
from tests.gpu.finding import Finding, Setting
from tests.gpu.models import MEAN_TOKENS, SHAPES, batch_of, encoder, make, texts
from tests.gpu.timing import median_seconds
from workers.engines.encoders.architecture import read

BUDGETS: Final = (4_096, 16_384, 65_536)
FORMATS: Final = ("float32", "float16", "bfloat16")
LEAST_COSINE: Final = {"float16": 0.999, "bfloat16": 0.99}  # of each text's vector with its vector in fp32


def run(setting: Setting) -> Finding:
    found = Finding()
    for size in ("minilm-size", "bert-base", "bert-large") if setting.on_gpu else ("tiny",):
        folder = make(size, setting.folder)
        architecture = read(folder)
        made = texts(folder, 2 * BUDGETS[-1] // MEAN_TOKENS if setting.on_gpu else 40)
        exact = None
        for number_format in FORMATS if setting.on_gpu else ("float32", "bfloat16"):
            engine = encoder(folder, setting.device, number_format, architecture)
            answers = _answers(engine, made[:256])
            if exact is None:
                exact = answers
            else:
                cosine = float((answers * exact).sum(1).min())
                found.at_least(f"{size} in {number_format}: least cosine with fp32", cosine, LEAST_COSINE[number_format])
            for budget in BUDGETS if setting.on_gpu else (512,):
                staged = engine.prepare(batch_of(engine, made, budget))
                tokens = len(staged.packed.ids)
                with Watch(own_index() if setting.on_gpu else None) as watch:
                    seconds = median_seconds(partial(engine.run, staged), setting.device, times=10 if setting.on_gpu else 1)
                name = f"{size}_{number_format}_{budget}"
                found.figures[f"{name}_tokens_per_second"] = round(tokens / seconds)
                found.figures[f"{name}_tflops"] = round(tokens * SHAPES[size].flops_a_token() / seconds / 1e12, 1)
            found.figures[f"{size}_{number_format}_device_busy_percent"] = watch.figures()["device_busy_percent"]
            del engine
    return found


def _answers(engine: Any, some_texts: list[str]) -> np.ndarray:
    return engine.run(engine.prepare(engine.tokenize(some_texts)[0]))  # type: ignore[no-any-return]
