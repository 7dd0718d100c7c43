"""The Tracker server: stores runs exactly once and shows them live. Start reading at app.py."""

from importlib.metadata import version

__version__ = version("tracker-server")
