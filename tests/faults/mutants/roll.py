"""All mutants."""

from typing import Final

from tests.faults.mutants import answers, decoding, doors, leases, machine_room, outcomes, secrecy, versions
from tests.faults.mutants.mutant import Mutant

ALL: Final[tuple[Mutant, ...]] = (
    *leases.MUTANTS,
    *outcomes.MUTANTS,
    *secrecy.MUTANTS,
    *machine_room.MUTANTS,
    *decoding.MUTANTS,
    *answers.MUTANTS,
    *versions.MUTANTS,
    *doors.MUTANTS,
)
