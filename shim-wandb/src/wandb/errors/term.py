"""wandb.errors.term: lines on the terminal."""

from tracker import termerror, termlog, termsetup, termwarn

__all__ = ["termerror", "termlog", "termsetup", "termwarn"]
