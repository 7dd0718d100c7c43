"""Builds wheels and source distributions of all our distributions into dist/.

    python packaging/make_distributions.py

Each wheel is built from the source distribution beside it, so that both are known to be whole.
"""

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import wheels
from source_date import source_date_epoch

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "dist"
DISTRIBUTIONS = ("shim", "shim-wandb", "agent", "server")


def main() -> None:
    """Build them, and put them in place together."""
    os.environ["SOURCE_DATE_EPOCH"] = str(source_date_epoch())
    OUTPUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUTPUT, prefix=".new-") as scratch:
        fresh = Path(scratch)
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            list(pool.map(lambda part: wheels.build(part, fresh), DISTRIBUTIONS))
        for made in sorted(fresh.iterdir()):
            made.rename(OUTPUT / made.name)
            print(f"dist/{made.name}")


if __name__ == "__main__":
    main()
