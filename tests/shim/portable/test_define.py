"""define_metric(): what is recorded, what the summary shows, what step_sync adds to rows. On every Python."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from recording import Recording

from tracker.protocol import kinds


class Define(Recording):
    def definitions(self):
        return [
            record.fields["metrics"] for record in self.stream().of(kinds.RUN) if "metrics" in record.fields
        ]

    def test_definitions_are_recorded_whole_at_each_change(self):
        _, err = self.run_script(
            """
            import tracker
            run = tracker.init()
            step = tracker.define_metric("epoch", hidden=True)
            tracker.define_metric("val/*", step_metric=step, summary="min, max", goal="minimize")
            tracker.define_metric("val/*", step_metric="epoch")
            tracker.define_metric("val/*", hidden=False)
            tracker.define_metric("loss", "epoch", False, summary="best", goal="maximize")
            tracker.define_metric("loss", summary="last", overwrite=True)
            for bad in (None, "", "a*b", 3):
                assert tracker.define_metric(bad) is None
            tracker.define_metric("x", goal="upwards", summary="median")
            """
        )

        val = {"name": "val/*", "step_metric": "epoch", "step_sync": True, "summary": ["min", "max"]}
        val["goal"] = "minimize"
        found = self.definitions()
        self.assertEqual(found[0], [{"name": "epoch", "hidden": True}])
        self.assertEqual(found[1], [{"name": "epoch", "hidden": True}, val])
        best = {"name": "loss", "step_metric": "epoch", "summary": ["best"], "goal": "maximize"}
        self.assertEqual(found[2][2], best)
        self.assertEqual(found[3][2], {"name": "loss", "summary": ["last"]})
        self.assertEqual(found[4][3], {"name": "x"})
        self.assertEqual(len(found), 5)
        for word in ("a*b", "upwards", "median", "takes a name"):
            self.assertIn(word, err)

    def test_the_summary_shows_what_was_asked_for(self):
        self.run_script(
            """
            import tracker
            run = tracker.init()
            run.log({"loss": 9.0})
            run.define_metric("loss", summary="min,max,mean,first,last")
            run.define_metric("acc", summary="best", goal="maximize")
            run.define_metric("err", summary="best")
            run.define_metric("quiet*", summary="none")
            run.define_metric("quiet/loud*", summary="max")
            run.define_metric("quiet/loud/not*", summary="none")
            run.define_metric("copied", summary="copy")
            run.define_metric("hand", summary="max")
            for value in (3.0, 1.0, float("nan"), 2.0):
                row = dict.fromkeys(("loss", "acc", "err", "quiet/a", "copied"), value)
                run.log(dict(row, hand=1))
                run.log({"plain": value})
            run.summary["hand"] = 5
            run.log({"hand": 7})
            found = dict(run.summary)
            assert found["loss"] == {"min": 1.0, "max": 3.0, "mean": 2.0, "first": 3.0, "last": 2.0}, found
            assert found["acc"] == {"best": 3.0} and found["err"] == {"best": 1.0}, found
            run.log({"quiet/loud/a": 1, "quiet/loud/not/a": 1, "quiet/loud": 2})
            found = dict(run.summary)
            assert sorted(name for name in found if "quiet" in name) == ["quiet/loud", "quiet/loud/a"]
            assert "quiet/a" not in found and found["copied"] == found["plain"] == 2.0 and found["hand"] == 5
            """
        )

        rows = [values for _, values in self.stream().metrics]
        self.assertEqual(sum("quiet/a" in values for values in rows), 4)
        self.assertEqual(
            [values["loss"] for values in rows if values.get("loss", 0) >= 1], [9.0, 3.0, 1.0, 2.0]
        )

    def test_rows_that_lack_the_step_metric_get_its_last_value(self):
        self.run_script(
            """
            import tracker
            run = tracker.init()
            run.define_metric("epoch")
            run.define_metric("*", step_metric="epoch", step_sync=True)
            run.define_metric("free")
            run.define_metric("unsynced", step_metric="epoch", step_sync=False)
            run.log({"loss": 0.0})
            for epoch in range(3):
                run.log({"epoch": epoch, "loss": 1.0})
                run.log({"epoch": epoch + 0.5, "loss": 1.5})
                run.log({"val": 2.0, "note": "text"})
                run.log({"free": 3.0})
                run.log({"unsynced": 4.0})
                run.log({"words": "only"})
            assert run.summary["epoch"] == 2.5
            """
        )

        rows = [values for _, values in self.stream().metrics]
        self.assertEqual(rows[0], {"loss": 0.0})
        for epoch in range(3):
            self.assertEqual(
                rows[1 + 6 * epoch : 7 + 6 * epoch],
                [
                    {"epoch": epoch, "loss": 1.0},
                    {"epoch": epoch + 0.5, "loss": 1.5},
                    {"val": 2.0, "epoch": epoch + 0.5},
                    {"free": 3.0},
                    {"unsynced": 4.0},
                    {"epoch": epoch + 0.5},
                ],
            )

    def test_a_definition_in_the_middle_counts_from_the_next_row_on(self):
        self.run_script(
            """
            import tracker
            run = tracker.init()
            for value in (1.0, 2.0):
                run.log({"x": 1, "loss": value})
            run.define_metric("loss", step_metric="x", summary="max")
            run.log({"loss": 5.0})
            run.log({"x": 2})
            run.log({"loss": 4.0})
            assert run.summary["loss"] == {"max": 5.0}, run.summary
            """
        )

        self.assertEqual(
            [values for _, values in self.stream().metrics][2:],
            [{"loss": 5.0, "x": 1}, {"x": 2}, {"loss": 4.0, "x": 2}],
        )

    def test_definitions_are_those_of_forks_and_pickled_runs_too(self):
        self.run_script(
            """
            import multiprocessing, tracker

            def work(run):
                run.log({"epoch": 7})
                run.log({"val": 1.0})

            if __name__ == "__main__":
                run = tracker.init()
                run.define_metric("val", step_metric="epoch")
                for method in ["spawn"] + (["fork"] if hasattr(__import__("os"), "fork") else []):
                    child = multiprocessing.get_context(method).Process(target=work, args=(run,))
                    child.start()
                    child.join()
                    assert child.exitcode == 0
            """
        )

        for stream in self.streams()[1:]:
            self.assertEqual(
                [values for _, values in stream.metrics], [{"epoch": 7}, {"val": 1.0, "epoch": 7}]
            )

    def test_the_fast_path_is_not_left_for_rows_that_need_no_care(self):
        self.run_script(
            """
            import tracker
            run = tracker.init()
            run.define_metric("*", step_metric="epoch")
            calls = []
            careful = run._log_with_care
            run._log_with_care = lambda *arguments: (calls.append(1), careful(*arguments))
            for step in range(50):
                run.log({"epoch": step, "loss": 1.0})
            assert len(calls) == 1, calls
            """
        )


class Alerts(Recording):
    def test_alerts_are_recorded_once_in_a_while_for_each_title(self):
        _, err = self.run_script(
            """
            import datetime, tracker
            tracker.init()
            tracker.alert("loss", "is nan")
            tracker.alert("loss", "is nan again")
            tracker.alert("loss", "once more", wait_duration=0)
            tracker.alert("loss", "soon", wait_duration=datetime.timedelta(hours=1))
            tracker.alert(title="disk", text="is full", level=tracker.AlertLevel.ERROR)
            tracker.alert("gpu", "is hot", level="WARN")
            tracker.alert("x", "y", level="loud", wait_duration="long")
            """
        )

        alerts = [(each.title, each.text, each.level) for each in self.stream().of(kinds.ALERT)]
        self.assertEqual(
            alerts,
            [
                ("loss", "is nan", "info"),
                ("loss", "once more", "info"),
                ("disk", "is full", "error"),
                ("gpu", "is hot", "warn"),
                ("x", "y", "info"),
            ],
        )
        self.assertIn("'loud'", err)
        self.assertIn("'long'", err)


class Module(Recording):
    def test_calls_without_a_run_do_nothing_and_say_so(self):
        _, err = self.run_script(
            """
            import tracker
            for name in ("save", "watch", "define_metric", "alert", "log_artifact", "write_logs"):
                assert getattr(tracker, name)("x") is None
            tracker.finish()
            tracker.mark_preempting()
            """
        )

        self.assertEqual(err.count("before init()"), 7)

    def test_calls_of_a_disabled_run_do_nothing(self):
        out, err = self.run_script(
            """
            import tracker
            run = tracker.init(mode="disabled")
            assert tracker.save("*.py") == [] and tracker.define_metric("x") is None
            tracker.alert("a", "b")
            tracker.write_logs("x")
            artifact = object()
            assert run.log_artifact(artifact) is artifact and run.use_artifact(artifact) is artifact
            assert run.log_artifact("model.pt", type="model").name.startswith("model.pt")
            assert tracker.log_model("model.pt", "m") is None
            try:
                tracker.use_artifact("nothing:latest")
            except tracker.Error as error:
                assert "nothing" in str(error)
            else:
                raise AssertionError
            run.mark_preempting()
            assert run.mode == "disabled" and run.settings.mode == "disabled" and run._attach_id
            """
        )

        self.assertEqual((out, err), ("", ""))

    def test_rare_names_are_loaded_when_asked_for(self):
        self.run_script(
            """
            import sys, tracker
            for error in (tracker.ConfigError, tracker.CommError, tracker.UsageError):
                assert issubclass(error, tracker.Error)
            assert tracker.UsageError("x").message == "x" and tracker.AlertLevel.WARN == "WARN"
            assert tracker.Settings(mode="offline").mode == "offline"
            assert tracker.Run.__name__ == "Run" and "AlertLevel" in dir(tracker)
            try:
                tracker.nothing
            except AttributeError as error:
                assert "nothing" in str(error)
            else:
                raise AssertionError
            from tracker import AlertLevel
            """
        )

    def test_lines_on_the_terminal_come_once_where_that_is_asked(self):
        _, err = self.run_script(
            """
            import tracker
            for _ in range(2):
                tracker.termlog("note")
                tracker.termwarn("careful", repeat=False)
                tracker.termerror("broken", repeat=False)
            """
        )

        lines = err.splitlines()
        self.assertEqual(
            lines,
            ["tracker: note", "tracker: warning: careful", "tracker: error: broken", "tracker: note"],
        )


if __name__ == "__main__":
    unittest.main()
