"""Writes a folder that installs and starts textmill where nothing can be downloaded: `make bundle`.

In it: wheels of textmill and of every locked package for each Python asked for, the models (they are packages), what `make gpu` runs, a
manifest with the size, SHA-256 and licence of every file, and `install`. What the lock pins is checked against the lock's hashes while it
is downloaded; torch, which the lock leaves out, and what follows are held by the manifest.

Runs in the development environment: which packages a Python needs is read off what is installed here.
"""

import argparse
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.message import Message
from email.parser import HeaderParser
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Final

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
LOCK: Final = ROOT / "deploy" / "requirements.lock"
PYTHONS: Final = ("3.11", "3.12", "3.13")
EXTRAS: Final = ("embedded", "models", "demo", "openvino", "onnxruntime")
TORCH: Final = "torch"
# A Python without ensurepip (Debian's, unless python3-venv is there) gets its pip from the bundle too.
PIP: Final = ("pip", "26.3", "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13")
# The C libraries that a wheel may ask for, the oldest first: of two wheels the one that runs on more machines is taken.
GLIBC: Final = (17, 24, 26, 27, 28, 31, 34, 35)
# What `python -m tests.gpu` reads beside the installed packages.
SUITE: Final = (
    "tests/__init__.py",
    "tests/gpu",
    "tests/benchmarks/__init__.py",
    "tests/benchmarks/machine.py",
    "tests/benchmarks/mill.py",
    "tests/benchmarks/watching.py",
    "tests/waiting.py",
    "tests/workers/__init__.py",
    "tests/workers/engines/__init__.py",
    "tests/workers/engines/decoders/__init__.py",
    "tests/workers/engines/decoders/driving.py",
    "tests/workers/families.py",
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of the bundle, by its path in it."""

    path: str
    bytes: int
    sha256: str
    licence: str = ""


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="make bundle", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--to", type=Path, default=ROOT / "build" / "bundle")
    parser.add_argument("--pythons", nargs="+", default=list(PYTHONS), choices=PYTHONS, metavar="3.N")
    parser.add_argument("--torch", default="none", help="a requirement, a wheel file, or none: the other machine has a torch")
    parser.add_argument("--torch-pythons", nargs="*", default=[f"3.{sys.version_info.minor}"], metavar="3.N", help="that get the torch")
    parser.add_argument("--extras", nargs="*", default=list(EXTRAS), choices=EXTRAS, metavar="EXTRA", help=f"of {', '.join(EXTRAS)}")
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="packages that the other machine has, with * for many")
    asked = parser.parse_args(arguments)
    if asked.to.exists() and not (asked.to / "manifest.json").exists() and any(asked.to.iterdir()):
        raise SystemExit(f"{asked.to} holds something else; name another folder with TO=.")
    made = asked.to.with_name(asked.to.name + ".partial")  # a run that is cut off leaves nothing that looks whole
    shutil.rmtree(made, ignore_errors=True)
    wheels = made / "wheels"
    wheels.mkdir(parents=True)
    pins = read_pins(LOCK.read_text())
    pip(["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT)])
    told: dict[str, dict[str, object]] = {}
    for python in asked.pythons:
        names, unpinned = needed(python, asked.extras, pins, with_torch=asked.torch != "none" and python in asked.torch_pythons)
        if unpinned:
            raise SystemExit(f"The lock has no {', '.join(unpinned)}, which Python {python} needs: run `make lock`.")
        left_out = [name for name in names if any(fnmatch(name, pattern) for pattern in " ".join(asked.without).split())]
        fetched = download([pins[name] for name in names if name not in left_out], python, wheels)
        torch = download_torch(asked.torch, python, wheels, pins) if python in asked.torch_pythons else []
        brought = f"{torch[0].name} and {len(torch) - 1} beside it" if torch else "no torch"
        say(f"Python {python}: {len(fetched)} locked wheels, {brought}")
        write_requirements(made / f"requirements-{python}.txt", [*own_wheels(wheels), *fetched, *torch])
        told[python] = {
            "wheels": len(fetched) + len(torch) + 1,
            "torch": torch[0].name if torch else None,
            "must_be_there": sorted([*left_out, *([] if torch else ["torch>=2.11"])]),
        }
    lay_out(made)
    seal(made, told)
    shutil.rmtree(asked.to, ignore_errors=True)
    made.rename(asked.to)
    show(asked.to, told)


def read_pins(lock: str) -> dict[str, str]:
    """Of each package its entry in a lock file: name, version and hashes, as pip reads them."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in lock.splitlines():
        if not line or line.startswith("#"):
            continue
        if not line.startswith(" "):
            name = canonicalize_name(re.split(r"[=\[ ]", line)[0])
        found.setdefault(name, []).append(line)
    return {name: "\n".join(lines) for name, lines in found.items()}


def needed(python: str, extras: Iterable[str], pins: Mapping[str, str], *, with_torch: bool) -> tuple[list[str], list[str]]:
    """The packages that textmill with these extras needs on that Python, less torch; and those among them that the lock does not pin.

    What only torch needs is among them where the bundle brings the torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.20"}
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(line) for line in wanted]
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        for extra in ("", *one.extras):
            if (name, extra) in seen or (name == TORCH and not with_torch):
                continue
            seen.add((name, extra))
            waiting += [each for each in _requires(name) if each.marker is None or each.marker.evaluate({**environment, "extra": extra})]
    names = sorted({name for name, _ in seen} - {TORCH})
    return [name for name in names if name in pins], [name for name in names if name not in pins]


def _requires(name: str) -> list[Requirement]:
    """Of the version that is installed here, which is the locked one; nothing for what only another Python needs."""
    try:
        return [Requirement(line) for line in requires(name) or []]
    except PackageNotFoundError:
        return []


def download(entries: Sequence[str], python: str, wheels: Path) -> list[Path]:
    """The wheels of these entries of the lock for that Python, checked against its hashes. Raises SystemExit where one is not to be had."""
    name, version, sha256 = PIP
    lock = wheels.parent / f".lock-{python}.txt"
    lock.write_text("\n".join([*entries, f"{name}=={version} --hash=sha256:{sha256}"]) + "\n")
    try:
        return fetch(["--no-deps", "--require-hashes", "--requirement", str(lock)], python, wheels)
    finally:
        lock.unlink()


def download_torch(torch: str, python: str, wheels: Path, pins: Mapping[str, str]) -> list[Path]:
    """torch first, then what its build needs and the lock does not know (a CUDA build: NVIDIA's libraries)."""
    if torch == "none":
        return []
    constraints = wheels.parent / ".constraints.txt"
    constraints.write_text("\n".join(re.split(r"[ \\]", entry)[0] for entry in pins.values()) + "\n")
    try:
        locked = {path.name for path in wheels.iterdir()}
        fetched = fetch(["--constraint", str(constraints), torch], python, wheels)
    finally:
        constraints.unlink()
    new = [path for path in fetched if path.name not in locked or path.name.startswith("torch-")]
    return sorted(new, key=lambda path: not path.name.startswith("torch-"))


def fetch(arguments: Sequence[str], python: str, wheels: Path) -> list[Path]:
    """What pip downloads for that Python, put among the other wheels."""
    own = wheels.parent / f".fetched-{python}"
    shutil.rmtree(own, ignore_errors=True)
    machine = platform.machine()
    platforms = [f"manylinux{year}_{machine}" for year in ("1", "2010", "2014")] + [f"manylinux_2_{minor}_{machine}" for minor in GLIBC]
    target = ["--python-version", python, "--implementation", "cp", "--only-binary", ":all:"]
    target += [word for one in [*platforms, f"linux_{machine}"] for word in ("--platform", one)]
    # Other wheels of this run are at hand: those that fit any Python are not downloaded again.
    pip(["download", "--find-links", str(wheels), *target, "--dest", str(own), *arguments])
    moved = [path.replace(wheels / path.name) for path in sorted(own.iterdir())]
    own.rmdir()
    return moved


def pip(arguments: Sequence[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"pip could not {arguments[0]} what the bundle needs; what it said is above.")


def own_wheels(wheels: Path) -> list[Path]:
    return sorted(wheels.glob("textmill-*.whl"))


def write_requirements(path: Path, wheels: Iterable[Path]) -> None:
    """By version and by the hash of the very file: pip takes these wheels and no other that somebody laid beside them."""
    lines = []
    for wheel in sorted(set(wheels)):
        head = metadata(wheel)
        if head["Name"] != PIP[0]:  # `install` takes it first
            lines.append(f"{canonicalize_name(head['Name'])}=={head['Version']} --hash=sha256:{sha256_of(wheel)}\n")
    path.write_text("".join(lines))


def lay_out(folder: Path) -> None:
    """The files that are not wheels."""
    shutil.copy(HERE / "install", folder / "install")
    (folder / "install").chmod(0o755)
    shutil.copy(ROOT / "LICENSE", folder / "LICENSE")
    for name in SUITE:
        source, place = ROOT / name, folder / "checks" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__", "reports", "test_*"))
        else:
            shutil.copy(source, place)


def seal(folder: Path, pythons: Mapping[str, object]) -> None:
    """Writes the manifest for people and programs, and SHA256SUMS over all of it, which `install` checks."""
    files = list(kept_files(folder))
    floors = [glibc_of(one.path.rpartition("/")[2]) for one in files if one.path.endswith(".whl")]
    manifest = {
        "format": 1,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "glibc_at_least": f"2.{max(floors, default=GLIBC[0])}",
        "pythons": pythons,
        "bytes": sum(one.bytes for one in files),
        "files": [asdict(one) for one in files],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    sums = [f"{one.sha256}  {one.path}\n" for one in [*files, _kept(folder, folder / "manifest.json")]]
    (folder / "SHA256SUMS").write_text("".join(sums))


def kept_files(folder: Path) -> Iterator[Kept]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in {"manifest.json", "SHA256SUMS"}:
            yield _kept(folder, path)


def _kept(folder: Path, path: Path) -> Kept:
    licence = licence_of(metadata(path)) if path.suffix == ".whl" else "Apache-2.0"
    return Kept(path.relative_to(folder).as_posix(), path.stat().st_size, sha256_of(path), licence)


def glibc_of(wheel: str) -> int:
    """The second number of the oldest C library that the wheel of this name runs with."""
    minors = [int(minor) for tag in parse_wheel_filename(wheel)[3] for minor in re.findall(r"manylinux_2_(\d+)_", tag.platform)]
    return min(minors, default=GLIBC[0])


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        return HeaderParser().parsestr(archive.read(name).decode())


def licence_of(head: Message) -> str:
    """What the package says of itself; the texts of the licences lie in the wheels."""
    classified = [line.rpartition(" :: ")[2] for line in head.get_all("Classifier", []) if line.startswith("License ::")]
    said = head.get("License-Expression") or " / ".join(classified) or (head.get("License") or "").strip().partition("\n")[0]
    return said or "see the wheel"


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def show(folder: Path, pythons: Mapping[str, Mapping[str, object]]) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    say(f"{folder}: {size / 1e6:,.0f} MB, {sum(1 for _ in (folder / 'wheels').iterdir())} wheels")
    for python, facts in pythons.items():
        missing = facts["must_be_there"]
        assert isinstance(missing, list)
        if missing:
            say(f"Python {python}: not in the bundle, so the other machine must have it: {', '.join(missing)}")
    say(f"SHA-256 of SHA256SUMS, which stands for all of it: {sha256_of(folder / 'SHA256SUMS')}")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
