"""The peers' processes: installed, converted for, started one after the other, ended together.

A peer that cannot be installed, loaded or started has no process but a reason, and the benchmark goes on without it.
"""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.benchmarks.guard import MARK
from tests.benchmarks.peers import conversions, environments
from tests.benchmarks.peers.environments import Environment, NotInstalled
from tests.benchmarks.peers.protocol import Peer, PeerFailed
from tests.benchmarks.peers.roster import PeerSpec

READY_SECONDS: Final = 180.0
KEPT_VARIABLES: Final = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", MARK)


@dataclass(frozen=True, slots=True)
class Places:
    """``venvs`` and ``cache`` outlast a run; ``work`` (texts, prototypes, logs) goes with it. ``model`` is the encoder's folder."""

    venvs: Path
    cache: Path
    work: Path
    model: Path
    decoder: Path
    calibration: Path  # texts that a static quantisation measures its ranges on
    prototypes: Path

    def model_of(self, spec: PeerSpec) -> Path:
        return self.decoder if spec.writes else self.model


@dataclass
class Member:
    """``reason``: why it does not run, or not any longer; ``left_out``: by a rule of the roster, so that nothing failed."""

    spec: PeerSpec
    peer: Peer | None = None
    reason: str | None = None
    left_out: bool = False
    settings: Mapping[str, object] = field(default_factory=dict)


class Company:
    """Use as a context: leaving it ends every process."""

    def __init__(self, places: Places, cores: int, cpu_flags: frozenset[str], redis_url: str) -> None:
        self._places = places
        self._cores = cores
        self._cpu_flags = cpu_flags
        self._redis_url = redis_url
        self._members: list[Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for member in self._members:
            if member.peer is not None:
                member.peer.end()

    def prepare(self, spec: PeerSpec, *, asked_for: bool = False) -> Member:
        """Its environment and its form of the model, without a process."""
        member = Member(spec)
        self._members.append(member)
        if spec.asked_for and not asked_for:
            member.left_out, member.reason = True, spec.asked_for
        elif spec.flag is not None and spec.flag not in self._cpu_flags:
            member.left_out, member.reason = True, f"this CPU has no {spec.flag}"
        else:
            try:
                environments.ensure(spec.environment, self._places.venvs)
                if spec.conversion is not None:
                    conversions.ensure(
                        spec.conversion,
                        self._places.model_of(spec),
                        self._places.cache,
                        self._places.venvs,
                        self._places.calibration,
                        child_environment(self._cores),
                    )
            except (NotInstalled, PeerFailed) as error:
                member.reason = str(error)
            except (OSError, subprocess.SubprocessError) as error:
                member.reason = f"{type(error).__name__} while it was installed"
        return member

    def start(self, member: Member, *, prototypes: bool = True) -> None:
        """Its process, loaded and waiting. ``prototypes``: False for the one that makes them, and for those that write."""
        spec, places = member.spec, self._places
        if member.reason is not None:
            return
        variables = child_environment(spec.threads_each or self._cores)
        if spec.broker:
            variables["PEER_REDIS_URL"] = self._redis_url
        command = [
            *(str(places.venvs / spec.environment.name / "bin" / "python"), str(conversions.CHILDREN / spec.script)),
            *("--model", str(places.model_of(spec)), "--made", str(places.cache), "--threads", str(self._cores), "--option", spec.option),
            *(("--prototypes", str(places.prototypes)) if prototypes else ()),
        ]
        member.peer = Peer(command, variables, places.work / f"{spec.name}.log")
        try:
            member.settings = as_settings(member.peer.ready(READY_SECONDS).get("settings"))
        except PeerFailed as error:
            self.drop(member, str(error))

    def drop(self, member: Member, reason: str) -> None:
        """Goes on without it."""
        member.reason = reason
        if member.peer is not None:
            member.peer.end()
            member.peer = None

    def versions(self, environment: Environment) -> dict[str, str]:
        return environments.versions(environment, self._places.venvs)


def as_settings(told: object) -> dict[str, object]:
    return {str(name): value for name, value in told.items()} if isinstance(told, dict) else {}


def child_environment(threads: int) -> dict[str, str]:
    """Nothing of ours and no hub: a library that would fetch fails at once instead."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {
        **kept,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "true",
        "RAYON_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "INFINITY_ANONYMOUS_USAGE_STATS": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "DO_NOT_TRACK": "1",
        "PYTHONWARNINGS": "ignore",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
