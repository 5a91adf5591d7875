"""All mutants."""

from typing import Final

from tests.faults.mutants import (
    answers,
    calibration,
    chains,
    content,
    decoding,
    doors,
    forecasts,
    leases,
    machine_room,
    outcomes,
    own_decoders,
    redaction,
    scoring,
    secrecy,
    servers,
    versions,
    writers,
)
from tests.faults.mutants.mutant import Mutant

ALL: Final[tuple[Mutant, ...]] = (
    *leases.MUTANTS,
    *outcomes.MUTANTS,
    *secrecy.MUTANTS,
    *machine_room.MUTANTS,
    *decoding.MUTANTS,
    *answers.MUTANTS,
    *calibration.MUTANTS,
    *own_decoders.MUTANTS,
    *scoring.MUTANTS,
    *servers.MUTANTS,
    *versions.MUTANTS,
    *doors.MUTANTS,
    *redaction.MUTANTS,
    *chains.MUTANTS,
    *content.MUTANTS,
    *forecasts.MUTANTS,
    *writers.MUTANTS,
)
