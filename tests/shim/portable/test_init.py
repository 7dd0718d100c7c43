"""What init() takes and what a run tells about itself, on every Python."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from recording import Recording

from tracker.protocol import kinds

CRASH = """
            import os
            os._exit(9)
"""


class Init(Recording):
    def test_arguments_come_in_the_order_of_wandb(self):
        self.run_script(
            """
            import os, tracker
            where = os.environ["TRACKER_DIR"]
            run = tracker.init("team", "digits", where, "run1", "first", "notes", ["a"], {"lr": 1})
            assert (run.entity, run.project, run.id, run.name) == ("team", "digits", "run1", "first")
            assert (run.notes, run.tags, run.config["lr"]) == ("notes", ("a",), 1)
            """
        )

        self.assertEqual(self.stream().of(kinds.RUN)[0].fields["entity"], "team")

    def test_every_argument_and_property_of_wandb_is_there(self):
        _, err = self.run_script(
            """
            import time, tracker
            run = tracker.init(
                entity="team", project="p", dir=None, id="x", name="n", notes=None, tags="a,b", config=None,
                config_exclude_keys=None, config_include_keys=None, allow_val_change=True, group="g",
                job_type="train", mode="offline", force=False, reinit=None, resume=None, resume_from=None,
                fork_from=None, save_code=True, tensorboard=False, sync_tensorboard=False, monitor_gym=False,
                settings=None, anonymous=None,
            )
            assert run.path == "team/p/x" and run.project_name() == "p" and run.tags == ("a", "b")
            assert (run.group, run.job_type, run.mode) == ("g", "train", "offline")
            assert (run.offline, run.disabled) == (True, False)
            assert (run.sweep_id, run.sweep_url, run.url, run.get_url(), run.project_url) == (None,) * 5
            assert run.dir == run.sync_dir == run.directory and run.dir.endswith("x")
            assert (run.step, run.starting_step, run.resumed, run.finished) == (0, 0, False, False)
            assert abs(run.start_time - time.time()) < 60
            assert run.settings.mode == "offline" and run.settings.run_id == "x"
            assert run.settings.project == "p" and run.settings.anything is None
            assert run.config_static == {} and run._label(code="c") is None
            assert run.status().sync_items_pending == 0 and run.display() is False
            assert "x" in run.to_html() and run.mark_preempting() is None
            run.notes = "later"
            run.tags = run.tags + ("c",)
            run.name = "m"
            tracker.setup(); tracker.require("service"); tracker.teardown(3)
            assert run.finished and tracker.run is None
            """
        )

        self.assertNotIn("warning", err)
        fields = {}
        for record in self.stream().of(kinds.RUN):
            fields.update(record.fields)
        self.assertEqual(fields["tags"], ["a", "b", "c"])
        self.assertEqual((fields["name"], fields["notes"], fields["preempting"]), ("m", "later", True))
        self.assertEqual(self.stream().exits, [3])

    def test_settings_come_as_an_object_or_a_dict_and_arguments_stand_before_them(self):
        _, err = self.run_script(
            """
            import tracker
            run = tracker.init(settings=tracker.Settings(project="a", run_id="one", run_tags=["t"], bogus=1))
            assert (run.project, run.id, run.tags) == ("a", "one", ("t",))
            run = tracker.init(project="b", settings={"project": "a", "run_name": "n", "_x": 1})
            assert (run.project, run.name) == ("b", "n"), (run.project, run.name)
            class Old:
                project, run_name, _hidden = "c", None, 1
                def method(self): pass
            run = tracker.init(settings=Old())
            assert run.project == "c" and run.settings.method is None
            run = tracker.init(settings=3)
            assert run.project == "uncategorized"
            """
        )

        self.assertEqual(len(self.streams()), 4)
        self.assertIn("settings is a dict or", err)

    def test_inside_tracker_run_the_project_of_the_supervisor_stands(self):
        variables = {"TRACKER_SUPERVISED": "x1", "TRACKER_RUN_ID": "x1", "TRACKER_PROJECT": "supervised"}
        script = """
            import tracker
            run = tracker.init(project="mine", name="n")
            assert (run.id, run.project, run.name) == ("x1", "supervised", "n")
            run = tracker.init(project="mine", id="other")
            assert (run.id, run.project) == ("other", "mine")
            """

        _, err = self.run_script(script, **variables)

        self.assertEqual(err.count("is ignored"), 1)

    def test_reinit_says_what_becomes_of_an_open_run(self):
        self.run_script(
            """
            import tracker
            one = tracker.init(id="one")
            assert tracker.init(id="x", reinit="return_previous") is one and tracker.run is one
            assert tracker.init(id="x", reinit=False) is one
            two = tracker.init(id="two", reinit="create_new")
            assert tracker.run is one and not one.finished
            two.log({"b": 1})
            tracker.log({"a": 1})
            three = tracker.init(id="three", reinit=True)
            assert one.finished and two.finished and tracker.run is three
            four = tracker.init(id="four", reinit="finish_previous")
            assert three.finished
            five = tracker.init(id="five")
            assert four.finished and tracker.run is five
            six = tracker.init(id="six", reinit="create_new")
            six.log({"c": 1})
            assert tracker._session._others == [six], "ended runs are kept in memory"
            """
        )

        streams = {stream.header.run: stream for stream in self.streams()}
        self.assertEqual(sorted(streams), ["five", "four", "one", "six", "three", "two"])
        self.assertEqual([stream.exits for stream in streams.values()], [[0]] * 6)
        self.assertEqual(streams["one"].metrics, [(0, {"a": 1})])
        self.assertEqual(streams["two"].metrics, [(0, {"b": 1})])

    def test_a_resumed_run_goes_on_where_its_files_stop(self):
        first = """
            import tracker
            run = tracker.init(id="again", name="first name", config={"lr": 0.1, "seed": 1}, resume="allow")
            assert (run.resumed, run.starting_step) == (False, 0)
            run.define_metric("loss", summary="min")
            for step in range(100):
                run.log({"loss": 1.0 / (step + 1)})
            run.summary["by hand"] = 7
            """
        self.run_script(first)
        self.run_script(
            """
            import tracker
            run = tracker.init(id="again", config={"lr": 0.2}, resume="allow")
            assert run.resumed and run.step == run.starting_step == 100, run.step
            assert run.name == "first name" and run.config["seed"] == 1 and run.config["lr"] == 0.2
            assert run.summary["by hand"] == 7
            run.log({"loss": 5.0})
            """
        )
        self.run_script(
            """
            import tracker
            assert tracker.init(id="again", resume="must").step == 101
            assert tracker.init(id="again").step == 0
            run = tracker.init(id="again", resume="never")
            assert run.id != "again" and run.step == 0
            run = tracker.init(id="nobody", resume="must")
            assert run.id == "nobody" and not run.resumed
            run = tracker.init(id="nobody2", resume="sometimes")
            """
        )

        streams = [stream for stream in self.streams() if stream.header.run == "again"]
        self.assertEqual(streams[1].metrics, [(100, {"loss": 5.0})])
        self.assertEqual(streams[1].of(kinds.CONFIG)[0].set, {"lr": 0.2, "seed": 1})
        self.assertEqual(streams[1].of(kinds.RUN)[0].fields["name"], "first name")

    def test_a_large_stream_that_was_torn_off_is_resumed_from_its_end(self):
        self.run_script(
            """
            import glob, os, tracker
            run = tracker.init(id="again")
            values = {"metric %d" % i: 1.5 for i in range(100)}
            for step in range(1500):
                run.log(values)
            run.log({"last": 1}, step=5000, commit=True)
            run.log({"late": 1}, step=3)
            run.log({"x" * 300000: 1.0}, step=5)
            path, = glob.glob(os.path.join(run.dir, "*.mpl"))
            with open(path, "ab") as file:
                file.write(b"torn")
            """
            + CRASH,
            9,
        )
        self.run_script(
            """
            import tracker
            run = tracker.init(id="again", resume="must")
            assert run.step == 5001, run.step
            """
        )

    @unittest.skipUnless(hasattr(os, "fork"), "no locks of living writers on this system")
    def test_other_processes_of_the_same_life_are_not_resumed(self):
        self.run_script(
            """
            import subprocess, sys, tracker
            run = tracker.init(id="ranks")
            for step in range(10):
                run.log({"loss": 1.0})
            script = "import tracker; assert not tracker.init(id='ranks', resume='allow').resumed"
            subprocess.check_call([sys.executable, "-c", script])
            beside = tracker.init(id="ranks", resume="allow", reinit="create_new")
            assert not beside.resumed
            run.log({"loss": 2.0})
            """
        )

        first = next(stream for stream in self.streams() if stream.metrics)
        self.assertEqual((len(first.metrics), first.exits), (11, [0]))

    def test_resume_auto_takes_up_the_run_that_did_not_end_well(self):
        script = """
            import tracker
            run = tracker.init(resume="auto")
            run.log({"a": 1})
            """
        self.run_script(script + CRASH, 9)
        self.run_script(script + "\n            tracker.finish(1)\n")
        self.run_script(script)
        self.run_script(script)

        streams = self.streams()
        runs = [stream.header.run for stream in streams]
        self.assertEqual(runs[0], runs[1])
        self.assertEqual(runs[1], runs[2])
        self.assertNotEqual(runs[2], runs[3])
        self.assertEqual([stream.metrics[0][0] for stream in streams], [0, 1, 2, 0])

    def test_a_run_is_handed_to_another_process_by_its_attach_id(self):
        self.run_script(
            """
            import subprocess, sys, tracker
            run = tracker.init(id="shared", project="p", name="n", config={"lr": 0.1})
            run.log({"parent": 1})
            assert tracker.attach(run._attach_id) is run
            assert tracker._attach(run_id="shared") is run and tracker.attach(run_id="other") is None
            assert tracker.attach("nonsense") is None
            script = '''
            import sys, tracker
            run = tracker._attach(sys.argv[1])
            assert tracker.run is run and run.name == "n" and run.step == 1 and run.config.lr == 0.1
            run.log({"child": 1})
            '''.replace("            ", "")
            subprocess.check_call([sys.executable, "-c", script, run._attach_id])
            """
        )

        parent, child = self.streams()
        self.assertEqual({parent.header.run, child.header.run}, {"shared"})
        self.assertEqual((parent.metrics, child.metrics), ([(0, {"parent": 1})], [(1, {"child": 1})]))
        self.assertEqual((parent.exits, child.exits), ([0], [0]))

    def test_what_at_end_was_given_runs_once_in_the_process_that_gave_it(self):
        out, _ = self.run_script(
            """
            import os, sys, tracker
            run = tracker.init()
            run.at_end(lambda code: print("first", code))
            def fail(code): raise ValueError("no")
            run.at_end(fail)
            run.at_end(lambda code: print("last", code))
            if hasattr(os, "fork"):
                pid = os.fork()
                if not pid:
                    run.log({"child": 1})
                    tracker.finish()
                    os._exit(0)
                os.waitpid(pid, 0)
            run.finish(4)
            run.finish(5)
            """
        )

        self.assertEqual(out.split(), ["last", "4", "first", "4"])


class Config(Recording):
    def test_only_some_keys_are_taken_where_that_is_asked(self):
        self.run_script(
            """
            import tracker
            config = {"a": 1, "b": 2, "c": 3}
            run = tracker.init(config=config, config_include_keys=["a", "b"])
            assert dict(run.config) == {"a": 1, "b": 2}
            assert dict(tracker.init(config=config, config_exclude_keys="a,b").config) == {"c": 3}
            """
        )

        self.assertEqual(
            [stream.of(kinds.CONFIG)[0].set for stream in self.streams()], [{"a": 1, "b": 2}, {"c": 3}]
        )

    def test_yaml_is_read_where_it_is_installed_and_missed_with_a_message_where_not(self):
        _, err = self.run_script(
            """
            import sys, types, tracker
            with open("config.yaml", "w") as file:
                file.write("x")
            run = tracker.init(config="config.yaml")
            assert dict(run.config) == {}
            # What PyYAML would make of such a file.
            yaml = types.ModuleType("yaml")
            yaml.YAMLError = ValueError
            yaml.safe_load = lambda data: {
                "lr": {"value": 0.1, "desc": "rate"}, "depth": 3, "opt": {"name": "sgd"}, "wandb_version": 1,
            }
            sys.modules["yaml"] = yaml
            run = tracker.init(config="config.yaml")
            assert dict(run.config) == {"lr": 0.1, "depth": 3, "opt": {"name": "sgd"}}, dict(run.config)
            with open("config-defaults.yaml", "w") as file:
                file.write("x")
            run = tracker.init(config={"depth": 4})
            assert run.config["depth"] == 4 and run.config["lr"] == 0.1
            run = tracker.init(config="missing.yaml")
            """,
            PYTHONPATH=_without_yaml(),
        )

        self.assertIn("pip install pyyaml", err)
        self.assertIn("missing.yaml", err)

    def test_settings_come_from_flags_dataclasses_and_structured_configs(self):
        self.run_script(
            """
            import argparse, collections, tracker
            class Flags:  # as absl.flags.FLAGS has it
                def flag_values_dict(self): return {"lr": 0.1}
            class Node:  # as omegaconf.DictConfig has it
                def __init__(self, values): self._values = values
                def keys(self): return self._values.keys()
                def __getitem__(self, name):
                    if name == "missing": raise RuntimeError("mandatory")
                    return self._values[name]
            class Items:  # as omegaconf.ListConfig has it
                def __len__(self): return 2
                def __iter__(self): return iter([1, 2])
                def __getitem__(self, index): return index + 1
            run = tracker.init(config=Flags())
            run.config.update(Node({"model": Node({"depth": 3, "sizes": Items()}), "missing": 0}))
            run.config.update(collections.namedtuple("Pair", "left right")(1, 2)._asdict())
            run.config.update(argparse.Namespace(epochs=5, nested=argparse.Namespace(x=1)))
            run.config.setdefaults({"lr": 9, "batch": 8})
            assert run.config.get("nothing", 3) == 3 and run.config.batch == 8 and run.config.lr == 0.1
            assert run.config_static["model"] == {"depth": 3, "sizes": [1, 2]}
            """
        )

        merged = {}
        for record in self.stream().of(kinds.CONFIG):
            merged.update(record.set)
        self.assertEqual(
            merged,
            {
                "lr": 0.1,
                "model": {"depth": 3, "sizes": [1, 2]},
                "missing": "<RuntimeError>",
                "left": 1,
                "right": 2,
                "epochs": 5,
                "nested": {"x": 1},
                "batch": 8,
            },
        )


def _without_yaml():
    """Return PYTHONPATH with a yaml before all others that cannot be imported."""
    import tempfile

    directory = tempfile.mkdtemp(prefix="tracker-test-")
    with open(os.path.join(directory, "yaml.py"), "w") as file:
        file.write("raise ImportError('not installed')\n")
    return os.pathsep.join([directory, os.environ.get("PYTHONPATH", "")])


if __name__ == "__main__":
    unittest.main()
