"""Loading by transformers, which changes what is the whole process's."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from workers.engines.folders.pretrained import load_pretrained


def test_models_are_loaded_one_at_a_time(tmp_path: Path) -> None:
    """Each would meet another in the middle of it; alone it waits for nobody and goes on."""
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    meeting, met = threading.Barrier(2), list[bool]()

    class Kind:
        @staticmethod
        def from_pretrained(*_: object, **__: object) -> tuple[Any, dict[str, list[str]]]:
            try:
                meeting.wait(0.2)
                met.append(True)
            except threading.BrokenBarrierError:
                meeting.reset()
            return torch.nn.Linear(1, 1), {"missing_keys": []}

    with ThreadPoolExecutor(2) as pool:
        for loading in [pool.submit(load_pretrained, Kind, tmp_path, torch.float32) for _ in range(2)]:
            loading.result()
    assert met == []
