"""A head over an encoder, out of a whole file of examples; every row says which head it helped to make."""

from workers.tasks.train.task import TASK

__all__ = ["TASK"]
