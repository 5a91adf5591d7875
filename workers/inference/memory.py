"""What models held goes back to the system, so that another process, or another model on the same GPU, can have it."""

import ctypes
import gc
import sys


def give_memory_back() -> None:
    """A second or less. Cycles are looked for among what was set aside as lasting too (:mod:`workers.host.garbage_collection`): weights are
    in some. Then torch's cache on a GPU goes, and what the allocator would keep a good part of (glibc only)."""
    lasting = gc.get_freeze_count() > 0
    if lasting:
        gc.unfreeze()
    gc.collect()
    if lasting:
        gc.freeze()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
