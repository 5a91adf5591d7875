"""A vector for every text."""

from workers.tasks.embed.task import TASK

__all__ = ["TASK"]
