"""A worker whose wall clock is wrong by SKEW_SECONDS, and steps by STEP_SECONDS once the model has been called a few times.

The monotonic clock is the kernel's and no setting of the time moves it. The log of the model's calls keeps the true time, because it is
compared with the store's.
"""

import os
import time
from types import SimpleNamespace

SKEW_SECONDS = float(os.environ["SKEW_SECONDS"])
STEP_SECONDS = float(os.environ.get("STEP_SECONDS", "0"))
CALLS_BEFORE_STEP = 5


def main() -> int:
    true_time = time.time
    calls = 0

    def wrong_time() -> float:
        return true_time() + SKEW_SECONDS + (STEP_SECONDS if calls > CALLS_BEFORE_STEP else 0.0)

    def told_time() -> float:
        nonlocal calls
        calls += 1
        return true_time()

    time.time = wrong_time
    from workers.engines import fake

    vars(fake)["time"] = SimpleNamespace(time=told_time, sleep=time.sleep)
    from workers.host.main import main as work

    return work()


if __name__ == "__main__":
    raise SystemExit(main())
