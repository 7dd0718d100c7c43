"""Which client's calls this module follows, and the version that libraries are told."""

import tracker

#: The release of wandb's client that signatures and attributes were taken from.
CLIENT_VERSION = "0.28.3"

VERSION = CLIENT_VERSION + "+tracker." + tracker.__version__
