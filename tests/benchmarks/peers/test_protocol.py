import json
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.benchmarks.peers.conversions import CHILDREN
from tests.benchmarks.peers.protocol import Peer, PeerFailed

TEXTS = ["zero", "one", "two", "one more"]
# Embeds a text as the direction of its length, so that its nearest prototype is known.
LOAD = """
from serving import Embedding, serve
import numpy as np

def load(arguments):
    {loading}
    print("what a library prints")
    return Embedding(lambda texts: np.eye(9, dtype=np.float32)[[len(text) for text in texts]], threads=arguments.threads)

def crash(texts):
    raise ValueError("no such thing")

serve(load)
"""

# Says each prompt again, as one token.
WRITE = """
from serving import serve

class Echo:
    settings = {}

    def __init__(self, arguments):
        pass

    def write(self, prompts):
        return [(text, 1) for text, most in prompts]

serve(Echo)
"""


class Peers:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.started: list[Peer] = []
        self.texts = folder / "texts.json"
        self.texts.write_text(json.dumps(TEXTS))
        self.prototypes = folder / "prototypes.json"
        self.prototypes.write_text(json.dumps([[float(place == length) for place in range(9)] for length in (4, 3, 8)]))

    def start(self, loading: str = "pass") -> Peer:
        return self.start_code(LOAD.format(loading=textwrap.indent(textwrap.dedent(loading), "    ").strip()))

    def start_code(self, code: str) -> Peer:
        script = self._folder / f"peer{len(self.started)}.py"
        script.write_text(code)
        arguments = ["--model", ".", "--made", ".", "--threads", "2", "--prototypes", str(self.prototypes)]
        variables = {**os.environ, "PYTHONPATH": str(CHILDREN)}
        self.started.append(Peer([sys.executable, str(script), *arguments], variables, script.with_suffix(".log")))
        return self.started[-1]


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    made = Peers(tmp_path)
    yield made
    for peer in made.started:
        peer.end()


def test_a_peer_labels_the_rows_that_are_named_in_their_order(peers: Peers) -> None:
    peer = peers.start()
    assert peer.ready(30)["settings"] == {"threads": 2}
    run = peer.run(peers.texts, peers.prototypes, [3, 0, 1], timeout_seconds=30, others={})
    assert run.labels == (2, 0, 1)
    assert run.docs == 3
    assert 0 < run.seconds < 30


def test_vectors_are_written_where_they_are_asked_for(peers: Peers, tmp_path: Path) -> None:
    import numpy as np

    peer = peers.start()
    peer.ready(30)
    peer.run(peers.texts, peers.prototypes, [0, 1], timeout_seconds=30, others={}, vectors=tmp_path / "vectors.npy")
    assert np.load(tmp_path / "vectors.npy").argmax(1).tolist() == [4, 3]


def test_a_peer_that_cannot_load_says_why(peers: Peers) -> None:
    with pytest.raises(PeerFailed, match="ValueError: no weights here"):
        peers.start('raise ValueError("no weights here\\nand more")').ready(30)


def test_a_peer_that_dies_is_told_of_by_its_last_words(peers: Peers) -> None:
    with pytest.raises(PeerFailed, match="it has ended: Segmentation of a kind"):
        peers.start_code('import sys; sys.exit("Segmentation of a kind")').ready(30)


def test_a_peer_that_does_not_answer_is_given_up(peers: Peers) -> None:
    with pytest.raises(PeerFailed, match="no answer within 0 s"):
        peers.start_code("import sys; sys.stdin.read()").ready(0.2)


def test_what_is_no_json_is_a_failure_not_an_error(peers: Peers) -> None:
    with pytest.raises(PeerFailed, match="JSON"):
        peers.start_code('print("hello")').ready(30)


def test_a_writer_answers_prompts_and_its_tokens_are_counted(peers: Peers, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps([["one", 8], ["another", 9]]))
    peer = peers.start_code(WRITE)
    peer.ready(30)
    said = peer.write(prompts, 2, timeout_seconds=30)
    assert (said.texts, said.tokens) == (("one", "another"), 2)
    assert 0 < said.seconds < 30
    with pytest.raises(PeerFailed, match="2 of 3 prompts"):
        peer.write(prompts, 3, timeout_seconds=30)


def test_too_few_labels_are_a_failure(peers: Peers) -> None:
    peer = peers.start_code('import sys; sys.stdin.readline(); print(\'{"seconds": 1.0, "labels": [0]}\')')
    with pytest.raises(PeerFailed, match="1 of 2 texts"):
        peer.run(peers.texts, peers.prototypes, [0, 1], timeout_seconds=30, others={})


def test_the_end_of_a_peer_is_the_end_of_what_it_started(peers: Peers) -> None:
    peer = peers.start_code(
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "print('{\"child\": %d}' % child.pid, flush=True)\n"
        "sys.stdin.read()"
    )
    child = psutil.Process(int(str(peer.ready(30)["child"])))
    peer.end()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
