"""Whether a model of the operator's own is whole: it is loaded as a worker loads it, on the CPU, and answers one text.

Nothing says beforehand what its folder must hold. In a process of its own, whose weights go with it: `textmill doctor` asks.
"""

import itertools
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from db.errors import TextmillError
from workers.batches.outcomes import FailedRow, OutOfMemory
from workers.engines.contract.plan import DtypeChoice, EngineChoice
from workers.models.card import ModelCard

TEXT: Final = "A first text."
WAIT_SECONDS: Final = 300.0  # on a machine that is busy with other things


@dataclass(frozen=True, slots=True)
class _SafeWay:
    """Whatever a worker here is told, and whatever a calibration found."""

    home: Path
    device: str = "cpu"
    lanes: int | None = 1
    budget_tokens: int | None = None
    engine: EngineChoice = "auto"
    dtype: DtypeChoice = "auto"
    vllm_python: Path | None = None

    @property
    def findings_folder(self) -> Path:
        return self.home


def why_broken(model_id: str) -> str | None:
    """A sentence, or None where it is whole."""
    try:
        done = subprocess.run(  # noqa: S603 -- this module, of a model that the operator named
            [sys.executable, "-P", "-m", __name__, model_id],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"It did not answer one text within {WAIT_SECONDS:.0f} s."
    if done.returncode == 0:
        return None
    return done.stdout.strip() or _how_it_ended(done.returncode)


def _how_it_ended(code: int) -> str:
    """Of a process that had no answer."""
    if code == -signal.SIGKILL:
        return "The process that tried it was killed before it had an answer: is there memory enough for its weights?"
    ended = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
    return f"The process that tried it ended {ended} before it had an answer, which may be the installation's fault and not the model's."


def _try(model_id: str) -> str | None:
    with TemporaryDirectory() as nothing_found_out:
        try:
            from workers.models import registry

            card, way = registry.get(model_id), _SafeWay(Path(nothing_found_out))
            is_sound = _embeds(card, way) if card.kind == "encoder" else _generates(card, way)
        except TextmillError as error:
            return error.message
        except OutOfMemory:
            return "There is not memory enough for its weights."
        except ImportError as error:
            return f"It cannot be tried here: the package {error.name or 'of its engine'} is missing or broken. Install textmill anew."
        except Exception as error:  # of a library: its text may quote a file
            return f"It cannot be loaded ({type(error).__name__}): is it whole?"
    return None if is_sound else "It answers a text with no numbers: its weights are broken."


def _embeds(card: ModelCard, way: _SafeWay) -> bool:
    from workers.engines.loading import load_encoder

    engine = load_encoder(card, way).engine
    ids, _ = engine.tokenize([TEXT])
    return all(number == number for number in engine.run(engine.prepare(ids))[0])


def _generates(card: ModelCard, way: _SafeWay) -> bool:
    from workers.engines.contract.decoding import DecoderRow
    from workers.engines.loading import load_decoder

    engine = load_decoder(card, way).engine
    ids, slots = engine.tokenize_prompt(TEXT), engine.slots()
    if isinstance(ids, FailedRow):
        return True  # of a tokenizer that knows none of these words
    slots.add([DecoderRow(ids, max_tokens=1)])
    ended = next(filter(None, (slots.step() for _ in itertools.count())))
    return not isinstance(ended[0].answer, FailedRow)


if __name__ == "__main__":
    told = _try(sys.argv[1])
    if told is not None:
        sys.stdout.write(told)
    raise SystemExit(0 if told is None else 1)
