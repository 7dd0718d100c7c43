"""Objects that raise whatever is done with them, in every argument of every call: nothing comes out again."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from recording import Recording

ANGRY = """
import inspect, os, tracker

class Angry(object):
    def refuse(self, *arguments, **more): raise RuntimeError("angry")
    __str__ = __repr__ = __bool__ = __eq__ = __hash__ = __iter__ = __len__ = refuse
    __float__ = __int__ = __index__ = __getitem__ = __fspath__ = __call__ = refuse
    def __getattr__(self, name): raise RuntimeError("angry")

angry = Angry()
STRANGE = (0, "", b"x", [], {}, (), 3.5, object(), float("nan"), {"a": object()}, ["x"], len, type,
           u"\\ud800", "a" * 10000, "\\x00", 2**70, True)
names = [name for name in inspect.signature(tracker.init).parameters if name != "unknown"]
"""


class Hostile(Recording):
    def test_init_takes_anything(self):
        self.run_script(
            ANGRY
            + """
for number, name in enumerate(names):
    for value in (angry,) + STRANGE[number % 3 :: 3]:
        tracker.init(**{name: value}).log({"a": 1})
every = dict.fromkeys(names, angry)
assert tracker.init(**every).disabled is False
"""
        )

        self.assertGreater(len(self.streams()), 90)

    def test_calls_take_anything(self):
        out, _ = self.run_script(
            ANGRY
            + """
run = tracker.init()
CALLS = {
    "define_metric": 7, "alert": 4, "save": 3, "log_artifact": 5, "use_artifact": 0, "link_artifact": 2,
    "log_model": 2, "log_code": 4, "restore": 4, "watch": 4, "unwatch": 1, "write_logs": 1, "attach": 2,
    "login": 4, "termlog": 1, "termwarn": 1, "termerror": 1, "pin_config_keys": 1, "setup": 1, "require": 1,
}
calls = 0
for name, count in CALLS.items():
    call = getattr(tracker, name)
    for place in range(count):
        for value in (angry,) + STRANGE:
            if name == "log_code" and place == 0 or name == "save" and isinstance(value, (str, bytes)):
                continue  # these are paths: whole directories would be kept
            arguments = ["x"] * count
            arguments[place] = value
            call(*arguments)
            calls += 1
for value in (angry,) + STRANGE:
    run.name = run.notes = run.tags = run.config = value
    for target in (run.config, run.summary):
        target["x"] = value
        target.update(value)
        target[value] = 1
    run.config.setdefaults(value)
    run.log(value)
    run.log({"x": value, "y": [value]})
    run.log({"a": 1}, step=value)
    run.log({"a": 1}, commit=value)
    run.log({value: 1} if not isinstance(value, (list, dict)) and value is not angry else {})
repr(run.summary), repr(run.config), run.settings, run._attach_id, run.to_html(), repr(run)
run.finish(angry)
print(calls)
"""
        )

        self.assertGreater(int(out.split()[-1]), 500)
        self.assertEqual(len([stream for stream in self.streams() if stream.exits == [1]]), 1)


if __name__ == "__main__":
    unittest.main()
