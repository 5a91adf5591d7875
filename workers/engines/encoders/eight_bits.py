"""Weights in eight bits: symmetric, with a scale for each output of a linear layer."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def eight_bits(weight: Tensor) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """[out, in] -> whole numbers [out, in] within ±127 and their scales [out, 1]."""
    values = weight.numpy()
    scale: NDArray[np.float32] = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-12) / np.float32(127)
    return np.clip(np.round(values / scale), -127, 127).astype(np.int8), scale
