"""A label for every text: of labels that the row, its job or a stored set brings, or of a head's or a classifier's own."""

from workers.tasks.classify.task import TASK

__all__ = ["TASK"]
