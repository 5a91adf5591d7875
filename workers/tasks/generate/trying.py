"""Rows of a generation on their way: each try of one asks the decoder for all of its answers, and the job's checks are what lets them pass.

A row whose answers do not pass is asked again at once, with the next seeds, while its neighbours go on; after the last try it fails with
the check that it did not pass. What all tries said counts.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from db.queue.row import WorkRow
from workers.batches.outcomes import BatchShare, FailedRow
from workers.batches.ticket import Ticket
from workers.content.checking import Checker, NotInstalled
from workers.content.checks import InvalidChecks, kind_of, read_checks
from workers.engines.contract.decoding import Generation
from workers.engines.contract.generation import GenerateRequest
from workers.inference.continuous import TAKEN_BACK
from workers.inference.decoder import Answering, Decoder
from workers.logs import place_of
from workers.stages import StageSeconds
from workers.tasks.generate.by_writer import ByWriter, Writing
from workers.tasks.generate.told import Usage, text_of

UNFIT: Final = "check_failed"
AT_ONCE: Final = 0.001  # seconds that a later try's answers are waited for where an earlier one's still come

log = logging.getLogger("textmill.shard")


class OpenRow:
    """A row of which some answers are there. One that lost an answer to a drain stays open: it is asked again as a whole."""

    def __init__(self, row: WorkRow) -> None:
        self.row = row
        self.tries = 0
        self.used = Usage()
        self.left = 0
        self._answers: list[Generation | FailedRow] = []
        self._unfit: FailedRow | None = None

    def begin(self) -> list[GenerateRequest]:
        """The next try's, one for each answer."""
        requests = list(self.row.ask.each(self.tries))
        self.tries += 1
        self.left = len(requests)
        self._answers = [TAKEN_BACK] * self.left
        self._unfit = None
        return requests

    def take(self, nth: int, answer: Generation | FailedRow) -> bool:
        """Whether the row has ended with it."""
        self._answers[nth] = answer
        self.left -= 1
        if self.left or any(one is TAKEN_BACK for one in self._answers):
            return False
        if self.failed is None:
            self.used = self.used.plus(Usage.of(self.row.ask, self.said))
        return True

    def pass_by(self, unfit: FailedRow | None) -> None:
        """What came of the checks."""
        self._unfit = unfit

    @property
    def failed(self) -> FailedRow | None:
        return next((one for one in self._answers if isinstance(one, FailedRow)), self._unfit)

    @property
    def rule(self) -> str | None:
        """What decided its first answer, where rules or a template did."""
        return next((one.rule for one in self._answers if isinstance(one, Generation)), None)

    @property
    def said(self) -> list[list[Generation]]:
        """Of each prompt its answers."""
        said = [one for one in self._answers if not isinstance(one, FailedRow)]
        return [said[first : first + self.row.ask.n] for first in range(0, len(said), self.row.ask.n)]

    @property
    def checked(self) -> list[tuple[str, list[str]]]:
        """Each answer's text, with the parts of its prompt."""
        ask = self.row.ask
        return [
            (text_of(ask, one), [message.content for message in request.messages] or ([] if request.prompt is None else [request.prompt]))
            for request, answers in zip(ask.requests, self.said, strict=True)
            for one in answers
        ]


class Trying:
    """The rows of one call, for one thread. ``spec``: the job's."""

    def __init__(self, decoder: Decoder | ByWriter, ticket: Ticket, rows: Sequence[OpenRow], spec: Mapping[str, Any]) -> None:
        self._decoder = decoder
        self._ticket = ticket
        self._tries = int(spec.get("tries") or 1)
        self._checker, unfit = _checker_of(spec)
        self.checks = self._checker is not None
        self._share, self._stages = BatchShare(), StageSeconds()
        self._under_way: list[tuple[Answering | Writing, list[tuple[OpenRow, int]]]] = []
        self._may_begin = True
        self._unasked: list[OpenRow] = []
        if unfit is None:
            self._begin(rows)
        else:
            self._unasked += rows
            for row in rows:
                row.pass_by(unfit)

    @property
    def left(self) -> bool:
        return bool(self._under_way or self._unasked)

    def take(self, seconds: float) -> list[OpenRow]:
        """Rows that ended since, after so long, or at once when none is left. Raises what :meth:`Answering.take` does."""
        ended, self._unasked = self._unasked, []
        for number, (answering, places) in enumerate(self._under_way):
            for place, answer in answering.take(AT_ONCE if number else seconds):
                row, nth = places[place]
                if row.take(nth, answer):
                    ended.append(row)
            self._share.add(answering.share)
            self._stages.add(answering.stages)
            answering.share, answering.stages = BatchShare(), StageSeconds()
        self._under_way = [(answering, places) for answering, places in self._under_way if answering.left]
        for row in ended:
            if row.failed is None:
                row.pass_by(self._judged(row))
        again = {row: None for row in ended if self._is_tried_again(row)}
        if again and self._may_begin:
            self._begin(list(again))
        return [row for row in ended if row not in again]

    def taken(self) -> tuple[BatchShare, StageSeconds]:
        """What was taken since this was asked took."""
        share, stages = self._share, self._stages
        self._share, self._stages = BatchShare(), StageSeconds()
        return share, stages

    def take_back(self) -> None:
        """What has not begun never does: such a row is left as it is, and so is one that would be tried again."""
        self._may_begin = False
        for answering, _ in self._under_way:
            answering.take_back()

    def _begin(self, rows: Sequence[OpenRow]) -> None:
        asked = [(row, row.begin()) for row in rows]
        places = [(row, nth) for row, requests in asked for nth in range(len(requests))]
        requests = [request for _, own in asked for request in own]
        self._under_way.append((self._decoder.begin(requests, self._ticket), places))

    def _judged(self, row: OpenRow) -> FailedRow | None:
        if self._checker is None:
            return None
        try:
            failed = self._checker.failed(row.checked)
        except Exception as error:  # a fault of ours, whose message may hold the answer
            log.error("an answer could not be checked: %s at %s", type(error).__name__, place_of(error))
            return FailedRow("engine_error")
        return None if failed is None else FailedRow(f"{UNFIT}:{failed.kind}:{failed.place}|{row.tries}")

    def _is_tried_again(self, row: OpenRow) -> bool:
        """A greedy row would say the same again."""
        is_unfit = row.failed is not None and row.failed.code.startswith(UNFIT)
        return is_unfit and row.tries < self._tries and all(request.sampling.temperature > 0 for request in row.row.ask.requests)


def _checker_of(spec: Mapping[str, Any]) -> tuple[Checker | None, FailedRow | None]:
    """None of a job without checks, and where this worker cannot check: then with what fails each row."""
    given = spec.get("checks")
    if not given:
        return None, None
    try:
        checks = read_checks(given)
    except InvalidChecks:  # of a newer version
        return None, FailedRow("check_unavailable")
    try:
        return Checker(checks), None
    except NotInstalled as missing:
        return None, FailedRow(f"check_unavailable:{kind_of(checks[missing.place])}")
