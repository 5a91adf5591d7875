import json
from pathlib import Path

import pytest

from tests.benchmarks.peers import conversions, environments, roster
from tests.benchmarks.peers.company import Places
from tests.benchmarks.peers.environments import CELERY, TORCH, Environment, NotInstalled

EMPTY = Environment("empty", (), torch=False)


class Pip:
    """Stands where pip would fetch."""

    def __init__(self, fails: bool = False) -> None:
        self.installed: list[str] = []
        self.fails = fails

    def __call__(self, python: Path, environment: Environment) -> None:
        self.installed.append(environment.name)
        if self.fails:
            raise NotInstalled("no such package")
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Pip:
    made = Pip()
    monkeypatch.setattr(environments, "_install", made)
    monkeypatch.setattr("venv.create", lambda folder, **options: environments._packages(folder).mkdir(parents=True))
    return made


def test_an_environment_is_made_once(pip: Pip, tmp_path: Path) -> None:
    assert environments.ensure(EMPTY, tmp_path) == environments.ensure(EMPTY, tmp_path) == tmp_path / "empty" / "bin" / "python"
    assert pip.installed == ["empty"]


def test_another_pin_makes_it_anew(pip: Pip, tmp_path: Path) -> None:
    environments.ensure(EMPTY, tmp_path)
    environments.ensure(Environment("empty", ("one==2",), torch=False), tmp_path)
    assert pip.installed == ["empty", "empty"]


def test_one_whose_making_was_cut_off_is_made_anew(pip: Pip, tmp_path: Path) -> None:
    pip.fails = True
    with pytest.raises(NotInstalled):
        environments.ensure(EMPTY, tmp_path)
    pip.fails = False
    environments.ensure(EMPTY, tmp_path)
    assert pip.installed == ["empty", "empty"]
    assert json.loads((tmp_path / "empty" / environments.STAMP).read_text())


def test_torch_is_installed_once_and_seen_by_those_that_need_it(pip: Pip, tmp_path: Path) -> None:
    environments.ensure(CELERY, tmp_path)
    environments.ensure(roster.PEERS[0].environment, tmp_path)
    assert pip.installed.count(TORCH.name) == 1
    (seen,) = tmp_path.glob("celery/lib/*/site-packages/*.pth")
    assert seen.read_text().strip() == str(next(tmp_path.glob("torch/lib/*/site-packages")))


def test_pips_reason_is_its_first_error() -> None:
    output = "WARNING: old\nERROR: Cannot install a and b.\nERROR: ResolutionImpossible: for help visit a page"
    assert environments.reason(output) == "Cannot install a and b."
    assert environments.reason("") == "no reason given"


def test_every_requirement_is_pinned() -> None:
    for peer in (*roster.PEERS, *roster.WRITERS, roster.NULL_PEER, *roster.REFERENCES):
        assert all("==" in requirement for requirement in (*peer.environment.requirements, *TORCH.requirements)), peer.name


def test_every_peer_has_its_program_and_a_name_of_its_own() -> None:
    names = [peer.name for peer in (*roster.PEERS, *roster.WRITERS, roster.NULL_PEER)]
    assert len(set(names)) == len(names)
    for peer in (*roster.PEERS, *roster.WRITERS, roster.NULL_PEER, *roster.REFERENCES):
        assert (conversions.CHILDREN / peer.script).is_file()
        assert peer.conversion is None or (conversions.CHILDREN / peer.conversion.script).is_file()


def test_an_unknown_peer_is_refused_with_the_names_of_those_there_are() -> None:
    assert [peer.name for peer in roster.chosen(["ray-data", "pipeline"])] == ["ray-data", "pipeline"]
    assert [peer.name for peer in roster.chosen([roster.VLLM_GENERATION])] == [roster.VLLM_GENERATION]
    with pytest.raises(ValueError, match=r"no such peer: nobody; there are pipeline, "):
        roster.chosen(["nobody"])


def test_who_writes_loads_the_decoder(tmp_path: Path) -> None:
    places = Places(*(tmp_path / name for name in ("venvs", "cache", "work", "model", "decoder", "calibration", "prototypes")))
    assert {places.model_of(peer) for peer in roster.WRITERS} == {tmp_path / "decoder"}
    assert {places.model_of(peer) for peer in roster.PEERS} == {tmp_path / "model"}


def test_the_model_folder_cuts_where_the_model_does(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "tokenizer_config.json").write_text('{"model_max_length": 512, "do_lower_case": true}')
    (package / "model.safetensors").write_bytes(b"weights")
    for _ in range(2):  # and is made anew over an old one
        folder = conversions.model_folder(package, tmp_path)
        assert json.loads((folder / "tokenizer_config.json").read_text()) == {"model_max_length": 256, "do_lower_case": True}
        assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "package"]
