"""Whether a text is of one of OpenAI's categories of harm, by a head or a classifier that knows some of them."""

from workers.tasks.moderate.task import TASK

__all__ = ["TASK"]
