"""Hypothesis without deadlines: how long an example takes says nothing on a shared machine."""

from hypothesis import settings

settings.register_profile("protocol", deadline=None, print_blob=True)
settings.load_profile("protocol")
