"""The ways a model could be run on this machine, and how each is loaded. A package that is not installed is one way fewer, no error."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar, Final, Generic, TypeVar

from workers.batches.policy import Policy
from workers.engines.contract.engine import Engine
from workers.engines.contract.plan import EngineName, NumberFormat, Plan
from workers.machine.cpu import BF16_FLAGS

VNNI_FLAGS: Final = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})

EngineT = TypeVar("EngineT", bound=Engine)
Make = Callable[[Plan], EngineT]


@dataclass(frozen=True, slots=True)
class Candidate(Generic[EngineT]):
    """`refused` says why it cannot run here; then it must not be made. `policy` is what it starts from."""

    engine: EngineName
    format: NumberFormat
    policy: Policy
    make: Make[EngineT]
    refused: str | None = None

    @property
    def name(self) -> str:
        return f"{self.engine} {self.format}"

    def plan(self, lanes: int, threads: int) -> Plan:
        return Plan("cpu", self.format, lanes, self.policy, self.engine, threads)

    def load(self, lanes: int, threads: int) -> EngineT:
        return self.make(self.plan(lanes, threads))


class Candidates(ABC, Generic[EngineT]):
    """Of one model in one folder, fp32 first, which the others are held against. ``splits_cores``: each of them runs on few lanes of many
    threads or on many of few, and it is worth finding out on which."""

    splits_cores: ClassVar[bool]

    @property
    @abstractmethod
    def packed(self) -> bool:
        """Whether the model is of a shape that runs without padding."""

    @abstractmethod
    def __iter__(self) -> Iterator[Candidate[EngineT]]: ...

    @property
    def reference(self) -> Candidate[EngineT]:
        return next(iter(self))

    def find(self, engine: EngineName, number_format: NumberFormat) -> Candidate[EngineT] | None:
        return next((one for one in self if one.engine == engine and one.format == number_format), None)


def no_bf16(flags: frozenset[str]) -> str | None:
    """Why that format is not worth a try with these flags of the CPU, or None."""
    return None if flags & BF16_FLAGS else "this CPU does not multiply bf16 in hardware"


def no_int8(flags: frozenset[str]) -> str | None:
    return None if flags & VNNI_FLAGS else "this CPU has no int8 dot product (VNNI)"


def missing(*packages: str) -> str | None:
    """Why an engine that needs them cannot run here, or None."""
    return next((f"the package {name} is not installed" for name in packages if find_spec(name) is None), None)
