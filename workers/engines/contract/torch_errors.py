"""What torch raises, in the words of the batcher: out of memory, device lost, or somebody's row."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from workers.batches.outcomes import EngineBroken, OutOfMemory

CPU_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory")


@contextmanager
def translated() -> Iterator[None]:
    """Raises OutOfMemory or EngineBroken in place of torch's errors; every other exception passes."""
    try:
        yield
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        raise OutOfMemory from None
    except torch.AcceleratorError:
        # After an illegal access or a device-side assert every later call of this process fails too.
        raise EngineBroken from None
    except RuntimeError as error:
        if any(phrase in str(error) for phrase in CPU_OUT_OF_MEMORY):
            raise OutOfMemory from None
        raise
