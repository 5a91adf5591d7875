"""A text for every prompt or chat."""

from workers.tasks.generate.task import TASK

__all__ = ["TASK"]
