"""`python -m tracker`: the command `tracker`, where its script is not on PATH."""

import sys

from ._cli import main

sys.exit(main())
