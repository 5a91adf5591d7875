"""The garbage collector of a long-running process."""

import gc
import subprocess
import sys

CYCLES = """
import gc
from workers.host.garbage_collection import calm_the_collector
kept = [[] for _ in range(1000)]
calm_the_collector()
class Node:
    alive = 0
    def __init__(self):
        self.itself = self
        Node.alive += 1
    def __del__(self):
        Node.alive -= 1
most = 0
for _ in range(300_000):
    Node()
    most = max(most, Node.alive)
print(most, gc.get_freeze_count() >= 1000)
"""


def test_cycles_are_still_found_and_what_was_loaded_is_left_alone() -> None:
    told = subprocess.run([sys.executable, "-c", CYCLES], check=True, capture_output=True, text=True).stdout.split()
    assert int(told[0]) < 100_000
    assert told[1] == "True"
    assert gc.isenabled()
