"""Record streams: the one format that shim, agent and server share (prose: docs/record-format.md).

Needs the standard library and msgpack, nothing else of ours. Runs on Python 3.6 and newer.
"""
