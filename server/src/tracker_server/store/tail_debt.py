"""TailDebt: which sets have tails that are worth merging or folding. A hint; the tables are the truth."""

import threading
from dataclasses import dataclass

#: A tail of this many records, or of this many points, is folded into chunks.
FOLD_RECORDS = 4096
FOLD_POINTS = 1_000_000
#: More tail rows than this are merged, so that reading them stays cheap.
TAIL_ROWS_MAX = 64
#: A set that got nothing for this long has its tails merged into one.
QUIET_S = 60.0


@dataclass
class Debt:
    """Tail rows of one set since the last merge or fold, and when the last one came (monotonic s)."""

    rows: int = 0
    records: int = 0
    points: int = 0
    at: float = 0.0

    def due(self, now: float) -> bool:
        return (
            self.records >= FOLD_RECORDS
            or self.points >= FOLD_POINTS
            or self.rows > TAIL_ROWS_MAX
            or (self.rows > 1 and now - self.at > QUIET_S)
        )


class TailDebt:
    """Counted by the writer, read by the folder."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._debts: dict[int, Debt] = {}
        self._now = 0.0

    def add(self, points_id: int, records: int, points: int, rows: int = 1) -> None:
        """Count new tail rows of a set."""
        with self._lock:
            # An unknown set may have a quiet row already; looking once for nothing is cheap.
            debt = self._debts.setdefault(points_id, Debt(rows=1))
            debt.rows += rows
            debt.records += records
            debt.points += points
            debt.at = self._now

    def due(self, now: float) -> list[int]:
        """Return the sets to look at now. A set with one quiet tail row is forgotten."""
        with self._lock:
            self._now = now
            due = [points_id for points_id, debt in self._debts.items() if debt.due(now)]
            for points_id in [
                points_id
                for points_id, debt in self._debts.items()
                if debt.rows <= 1 and now - debt.at > QUIET_S and not debt.due(now)
            ]:
                del self._debts[points_id]
            return due

    def settle(self, points_id: int, rows: int, records: int, points: int, now: float) -> None:
        """Replace the count of a set by what its tables hold."""
        with self._lock:
            self._debts[points_id] = Debt(rows, records, points, now)
