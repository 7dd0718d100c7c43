"""What log() records, on every Python."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from recording import Recording

from tracker.protocol import kinds


class Log(Recording):
    def test_a_run_starts_with_its_description_and_ends_with_exit(self):
        self.run_script(
            """
            import tracker
            tracker.init(project="digits", name="first", notes="n", tags=["a", "b"], group="g",
                         job_type="train", config={"lr": 0.1}, id="run1", entity="team")
            tracker.log({"loss": 1.5})
            tracker.finish()
            """
        )

        stream = self.stream()
        self.assertEqual(stream.header.run, "run1")
        self.assertEqual(stream.header.pid > 0 and stream.header.writer[:13], "tracker-shim/")
        kinds_written = [kind for kind, _ in stream.records]
        self.assertEqual(kinds_written, [kinds.RUN, kinds.CONFIG, kinds.METRICS, kinds.EXIT])
        self.assertEqual(
            stream.of(kinds.RUN)[0].fields,
            {
                "project": "digits",
                "name": "first",
                "notes": "n",
                "tags": ["a", "b"],
                "group": "g",
                "job_type": "train",
                "entity": "team",
            },
        )
        self.assertEqual(stream.of(kinds.CONFIG)[0].set, {"lr": 0.1})
        self.assertEqual(stream.metrics, [(0, {"loss": 1.5})])
        self.assertEqual(stream.exits, [0])

    def test_steps_count_up_stay_open_and_come_in_any_order(self):
        self.run_script(
            """
            import tracker
            run = tracker.init()
            tracker.log({"a": 1})
            tracker.log({"a": 2}, commit=False)
            tracker.log({"b": 2})
            tracker.log({"a": 3}, step=10)
            tracker.log({"b": 3}, step=10)
            tracker.log({"c": 3})
            tracker.log({"a": 4}, step=5)
            tracker.log({"a": 5}, step=20, commit=True)
            tracker.log({"a": 6})
            tracker.log({}, commit=True)
            tracker.log({"a": -1}, step=-7)
            assert run.step == 23, run.step
            """
        )

        self.assertEqual(
            self.stream().metrics,
            [
                (0, {"a": 1}),
                (1, {"a": 2}),
                (1, {"b": 2}),
                (10, {"a": 3}),
                (10, {"b": 3}),
                (10, {"c": 3}),
                (5, {"a": 4}),
                (20, {"a": 5}),
                (21, {"a": 6}),
                (-7, {"a": -1}),
            ],
        )

    def test_every_kind_of_number_is_kept_and_the_rest_of_the_dict_with_bad_ones(self):
        _, err = self.run_script(
            """
            import decimal, enum, fractions, tracker
            class Item:
                def __init__(self, value): self.value = value
                def item(self): return self.value
            class Vector:
                shape = (3,)
                def item(self): raise ValueError("only one element")
            class Level(enum.IntEnum):
                high = 3
            class Angry(object):
                def item(self): raise MemoryError("no")
            tracker.init()
            for _ in range(2):
                tracker.log({
                    "float": 0.5, "int": 7, "bool": True, "big": 2**63 - 1, "bigger": 2**70, "huge": 10**400,
                    "nan": float("nan"), "inf": float("-inf"), "item": Item(2.5), "item_int": Item(2**65),
                    "decimal": decimal.Decimal("1.25"), "fraction": fractions.Fraction(1, 4),
                    "enum": Level.high,
                    "nested": {"a": {"b": 1}, "c": 2}, "text": "hello", u"\\u00fc\\u4e16": 1, 5: 6,
                    "none": None, "list": [1], "vector": Vector(), "angry": Angry(),
                    "complex": 1j, "bytes": b"x",
                })
            tracker.log({"decimal": 1})
            """
        )

        stream = self.stream()
        (step, values), (step_again, again), last = stream.metrics
        self.assertEqual((step, step_again), (0, 1))
        self.assertEqual(str(values), str(again))
        self.assertNotEqual(values.pop("nan"), values.get("nan"))
        expected = {
            "float": 0.5,
            "int": 7,
            "bool": True,
            "big": 2**63 - 1,
            "bigger": float(2**70),
            "huge": float("inf"),
            "inf": float("-inf"),
            "item": 2.5,
            "item_int": float(2**65),
            "decimal": 1.25,
            "fraction": 0.25,
            "enum": 3,
            "nested/a/b": 1,
            "nested/c": 2,
            "\u00fc\u4e16": 1,
            "5": 6,
        }
        self.assertEqual(values, expected)
        self.assertEqual({name: type(value) for name, value in values.items()}["bool"], bool)
        texts = [(record.step, record.name, record.type, record.data) for record in stream.of(kinds.VALUE)]
        self.assertEqual(texts, [(0, "text", "text", "hello"), (1, "text", "text", "hello")])
        warnings = [line for line in err.splitlines() if "left out" in line]
        self.assertEqual(len(warnings), 1, err)
        self.assertRegex(warnings[0], r"script.py:(15|22)\)")  # old Pythons name a call's last line
        for name in ("none", "list", "vector", "angry", "complex", "bytes"):
            self.assertIn(name, warnings[0])
        self.assertEqual(last, (2, {"decimal": 1}))

    def test_names_with_lone_surrogates_and_integers_beyond_64_bits_do_not_lose_the_record(self):
        self.run_script(
            """
            import tracker
            tracker.init()
            for _ in range(3):
                tracker.log({"bad\\ud800name": 1, "x": 2})
            for number in (1, 2**64, 2**63, -2**63 - 1):
                tracker.log({"n": number})
            """
        )

        metrics = self.stream().metrics
        self.assertEqual([step for step, _ in metrics], list(range(7)))
        self.assertEqual([values["x"] for _, values in metrics[:3]], [2, 2, 2])
        self.assertEqual([values["n"] for _, values in metrics[3:]], [1, 2.0**64, 2.0**63, -(2.0**63)])

    def test_a_dict_too_large_for_one_line_is_split(self):
        self.run_script(
            """
            import tracker
            tracker.init()
            many = {"%d" % i: i for i in range(100001)}
            large = {"%0900d" % i: i for i in range(20000)}
            for values in (many, large, large):
                tracker.log(values)
            assert tracker.run.lost == 0
            """
        )

        metrics = self.stream().metrics
        many = {"%d" % i: i for i in range(100001)}
        large = {"%0900d" % i: i for i in range(20000)}
        for step, logged in enumerate((many, large, large)):
            whole = {}
            parts = [values for at, values in metrics if at == step]
            for values in parts:
                whole.update(values)
            self.assertGreater(len(parts), 1)
            self.assertTrue(whole == logged)

    def test_the_summary_holds_last_values_and_what_is_set_by_hand(self):
        self.run_script(
            """
            import tracker
            run = tracker.init()
            for i in range(5):
                tracker.log({"loss": float(i), "best": i})
                if i == 2:
                    tracker.log({"val": i})
            tracker.summary["best"] = 42
            tracker.summary.note = {"x": (1, 2)}
            tracker.log({"loss": 9.0, "best": 0})
            tracker.log({"loss": 10.0, "best": 1})
            found = dict(run.summary)
            assert found == {"loss": 10.0, "best": 42, "val": 2, "note": {"x": [1, 2]}}, found
            assert tracker.summary.loss == 10.0 and tracker.summary.get("none") is None
            del tracker.summary["best"]
            tracker.log({"best": 7})
            assert run.summary["best"] == 7
            """
        )

        patches = [(record.set, list(record.removed)) for record in self.stream().of(kinds.SUMMARY)]
        self.assertEqual(patches, [({"best": 42}, []), ({"note": {"x": [1, 2]}}, []), ({}, ["best"])])

    def test_config_is_recorded_change_by_change(self):
        _, err = self.run_script(
            """
            import argparse, tracker
            class Settings:
                def __init__(self): self.depth, self._hidden = 3, 4
            tracker.init(config=argparse.Namespace(lr=0.1, layers=[1, 2]))
            tracker.config.epochs = 5
            tracker.config["opt"] = {"name": "sgd", 1: 2}
            tracker.config.update({"lr": 0.2, "extra": None})
            tracker.config.update({"lr": 0.3}, allow_val_change=True)
            tracker.config.update(Settings())
            tracker.config.layers.append(3)
            tracker.config.layers = tracker.config.layers
            tracker.config.epochs = 5
            tracker.config.update(7)
            del tracker.config["extra"]
            assert tracker.config.lr == 0.3 and tracker.config["opt"]["name"] == "sgd"
            assert "lr" in tracker.config and dict(tracker.config)["depth"] == 3
            assert not hasattr(tracker.config, "nothing")
            """
        )

        patches = [(record.set, list(record.removed)) for record in self.stream().of(kinds.CONFIG)]
        self.assertEqual(
            patches,
            [
                ({"lr": 0.1, "layers": [1, 2]}, []),
                ({"epochs": 5}, []),
                ({"opt": {"name": "sgd", "1": 2}}, []),
                ({"extra": None}, []),
                ({"lr": 0.3}, []),
                ({"depth": 3}, []),
                ({"layers": [1, 2, 3]}, []),
                ({}, ["extra"]),
            ],
        )
        self.assertIn("config keeps the value it had for lr", err)
        self.assertIn("script.py:8", err)
        self.assertIn("not a int", err)

    def test_nothing_is_raised_whatever_is_logged(self):
        _, err = self.run_script(
            """
            import tracker
            class Bad(dict):
                def keys(self): raise RuntimeError("no keys")
            class Worse:
                def __str__(self): raise RuntimeError("no str")
                __repr__ = __str__
                def __float__(self): raise ZeroDivisionError
            loop = {}
            loop["loop"] = loop
            tracker.log({"before": 1})
            tracker.config.x = 1
            run = tracker.init(tags=5, project=Worse(), bogus=3)
            run = tracker.init(tags=5, project=77, bogus=3, mode="sometimes", id="../../etc")
            for data in (None, 3, "text", [1], Bad(), {"w": Worse()}, loop, {Worse(): 1}, {"s": {}}):
                tracker.log(data)
            tracker.log({"a": 1}, step="x")
            tracker.log({"a": 2}, step=float("nan"))
            tracker.log({"a": 3}, step=2**80)
            tracker.log({"a": 4}, step=9.0)
            tracker.config.w = Worse()
            tracker.summary.w = Worse()
            tracker.summary.update(3)
            run.tags = 3
            run.finish("x")
            run.finish()
            tracker.log({"late": 1})
            tracker.log({"late": 1})
            tracker.config.late = 1
            assert run.lost >= 3
            print("alive")
            """
        )

        stream = self.streams()[-1]
        self.assertEqual([values for _, values in stream.metrics], [{"a": n} for n in (1, 2, 3, 4)])
        self.assertEqual(stream.metrics[-1][0], 9)
        self.assertEqual(stream.of(kinds.RUN)[0].fields["project"], "77")
        self.assertRegex(stream.header.run, "^[a-z0-9]{10}$")
        self.assertEqual(stream.exits, [1])
        self.assertNotIn("Traceback", err)
        self.assertIn("log() before init()", err)
        self.assertIn("init() does not know bogus", err)
        self.assertIn("'../../etc'", err)
        self.assertIn("'sometimes'", err)
        self.assertIn("log() after finish()", err)
        self.assertIn("step 'x' is not an integer", err)


if __name__ == "__main__":
    import unittest

    unittest.main()
