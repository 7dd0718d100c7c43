"""What the shim does not do: threads, processes, sockets, imports, the user's random numbers."""

import re
from pathlib import Path

from tests.shim.scripts import run_script
from tests.support import require

TRAINING = """
import os, sys, tracker
tracker.init(config={"lr": 1})
for step in range(50):
    tracker.log({"loss": step, "nested": {"a": 0.5}, "text": "x"})
    tracker.log({"loss": 0.5}, step=step)
tracker.summary["best"] = 1
tracker.config["lr"] = 2
assert len(os.listdir("/proc/self/task")) == 1
tracker.finish()
assert len(os.listdir("/proc/self/task")) == 1
"""


def test_a_whole_run_makes_no_thread_process_or_connection(tmp_path: Path) -> None:
    strace = require.program("strace")
    trace = tmp_path / "trace"
    calls = "clone,clone3,fork,vfork,execve,socket,connect"

    run_script(
        TRAINING,
        prefix=(strace, "-f", "-o", str(trace), "-e", f"trace={calls}"),
        TRACKER_DIR=str(tmp_path / "spool"),
    )

    found = re.findall(r"\b(clone3?|v?fork|execve|socket|connect)\(", trace.read_text())
    assert found == ["execve"], trace.read_text()  # Python itself


def test_log_and_finish_import_and_open_nothing(tmp_path: Path) -> None:
    script = """
        import sys, tracker
        tracker.init(config={"lr": 1})
        modules = set(sys.modules)
        events = []
        armed = [True]
        sys.addaudithook(lambda event, args: armed[0] and events.append((event, str(args))))
        for step in range(5):
            tracker.log({"loss": step, "nested": {"a": 0.5}, "text": "x"})
            tracker.log({"loss": 0.5}, step=step)
            tracker.config["lr"] = step
            tracker.summary["best"] = step
        tracker.finish()
        armed[0] = False
        assert set(sys.modules) == modules, set(sys.modules) - modules
        events = [event for event in events if event[0] not in ("sys._getframe", "object.__getattr__")]
        assert not events, events
    """

    run_script(script, TRACKER_DIR=str(tmp_path))


def test_the_import_loads_neither_typing_nor_other_slow_modules(tmp_path: Path) -> None:
    script = """
        import sys, msgpack
        before = set(sys.modules)
        import tracker
        slow = {"typing", "re", "json", "dataclasses", "inspect", "traceback", "threading", "socket"}
        assert not (set(sys.modules) - before) & slow, (set(sys.modules) - before) & slow
    """

    run_script(script, prefix=())


def test_init_loads_no_slow_modules_of_the_standard_library(tmp_path: Path) -> None:
    script = """
        import sys, msgpack
        before = set(sys.modules)
        slow = {
            "typing", "contextlib", "dataclasses", "inspect", "re", "json", "socket", "subprocess",
            "tempfile", "traceback",
        }
        assert not before & slow, before & slow
        import tracker
        tracker.init()
        assert not (set(sys.modules) - before) & slow, (set(sys.modules) - before) & slow
    """

    run_script(script, TRACKER_DIR=str(tmp_path), TRACKER_CONSOLE="redirect", TRACKER_DISABLE_CODE="")


def test_names_and_ids_leave_the_users_random_numbers_alone(tmp_path: Path) -> None:
    script = """
        import random
        random.seed(7)
        state = random.getstate()
        import tracker
        names = set()
        for _ in range(5):
            run = tracker.init()
            names.add(run.name)
            assert len(run.id) == 10
        assert random.getstate() == state
        assert len(names) > 1 and all(len(name.split("-")) == 3 for name in names), names
    """

    run_script(script, TRACKER_DIR=str(tmp_path), TRACKER_SILENT="1")


def test_disabled_touches_no_file_and_silent_writes_nothing(tmp_path: Path) -> None:
    script = """
        import os, tracker
        run = tracker.init(config={"lr": 1})
        tracker.log({"a": 1})
        tracker.log(3)
        run.summary["x"] = 1
        run.config.y = 2
        run.name = "z"
        assert (run.config.lr, run.config.y, run.step, run.url) == (1, 2, 0, None)
        assert os.path.isdir(run.dir) and run.name == "z" and run.id
        tracker.finish()
        tracker.log({"a": 1})
    """

    out, err = run_script(script, TRACKER_DIR=str(tmp_path / "spool"), TRACKER_MODE="disabled")
    assert (out, err) == ("", "")
    assert not (tmp_path / "spool").exists()

    out, err = run_script(
        "import tracker; tracker.init(mode='x').log(4)", TRACKER_DIR=str(tmp_path), TRACKER_SILENT="1"
    )
    assert (out, err) == ("", "")
