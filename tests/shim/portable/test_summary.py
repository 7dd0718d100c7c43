"""What is set in the summary by hand, on every Python."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from recording import Recording

from tracker.protocol import kinds


class Summary(Recording):
    def test_rich_values_set_by_hand_are_kept_as_what_they_are(self):
        _, err = self.run_script(
            """
            import os, tracker
            run = tracker.init()
            run.summary["table"] = tracker.Table(columns=["a"], data=[[1], [2]])
            run.summary["picture"] = tracker.Image("missing.png")
            run.summary["both"] = {"a": (1, 2), "b": None}
            class Angry:
                def __str__(self): raise RuntimeError("no")
            run.summary.angry = Angry()
            run.summary.update({"x": 1}, y=2)
            assert run.summary["table"]["rows"] == 2 and run.summary.x == 1
            assert run.lost == 0
            """
        )

        merged = {}
        for record in self.stream().of(kinds.SUMMARY):
            merged.update(record.set)
        self.assertEqual((merged["table"]["_type"], merged["table"]["data"]), ("table", [[1, 2]]))
        self.assertEqual((merged["both"], merged["x"], merged["y"]), ({"a": [1, 2], "b": None}, 1, 2))
        self.assertIn("RuntimeError", merged["angry"])
        self.assertIn("missing.png", err)


if __name__ == "__main__":
    unittest.main()
