"""The command `tracker`, on every Python."""

import contextlib
import csv
import io
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from recording import Recording

from tracker import _cli


class Command(Recording):
    def command(self, *arguments, **more):
        """Run `python -m tracker` to its end; return what it printed. stdin, code: other than none and 0."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TRACKER_")}
        environ.update(TRACKER_DIR=os.path.join(self.spool, "spool"), PYTHONIOENCODING="utf-8")
        environ["XDG_CONFIG_HOME"] = os.path.join(self.spool, "none")
        process = subprocess.Popen(
            [sys.executable, "-m", "tracker"] + list(arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
            cwd=self.spool,
        )
        out, err = process.communicate(more.get("stdin", "").encode("utf-8"))
        self.assertEqual(process.returncode, more.get("code", 0), err.decode("utf-8"))
        return out.decode("utf-8") or err.decode("utf-8")

    def test_values_from_a_shell_script_are_listed_shown_and_whole(self):
        run = self.command("log", "--project", "p", "--config", "lr=0.5", "a=1").strip()
        self.command("log", "--run", run, "-", stdin='a=2 b=nan\n{"text": "\u00e4"}\n')

        (listed,) = json.loads(self.command("ls", "--json"))
        records = [json.loads(line) for line in self.command("cat", run, "--json").splitlines()]
        table = self.command("cat", run, "--csv").splitlines()

        self.assertEqual((listed["run"], listed["project"], listed["state"]), (run, "p", "finished"))
        values = [each["values"] for each in records if each["kind"] == "METRICS"]
        self.assertEqual(values, [{"a": 1}, {"a": 2, "b": "NaN"}])
        self.assertEqual([each["data"] for each in records if each["kind"] == "VALUE"], ["\u00e4"])
        rows = [[row[0]] + row[3:] for row in csv.reader(table)]
        self.assertEqual(rows, [["step", "a", "b"], ["0", "1", ""], ["1", "2", "nan"]])
        self.assertIn("METRICS   step 1  a=2 b=nan", self.command("cat", run))
        self.assertIn("2 streams: whole", self.command("verify", "spool"))

    def test_settings_of_a_directory(self):
        self.command("init", "--project", "digits")
        self.command("off")
        self.command("log", "a=1")
        self.assertEqual(self.streams(), [])
        self.command("on")
        self.command("log", "a=1")

        (listed,) = json.loads(self.command("ls", "--json"))
        self.assertEqual(listed["project"], "digits")

    def test_a_key_is_kept(self):
        self.assertIn("kept in", self.command("login", stdin="tk_1_x\n"))

    def test_every_command_explains_itself(self):
        for name in sorted(_cli.COMMANDS):
            self.assertIn("usage: tracker " + name, self.main(0, name, "--help"))

    def test_wrong_calls(self):
        for arguments in (["lst"], ["ls", "--nonsense"], ["cat"], ["log", "x"], ["verify"], []):
            self.main(2, *arguments)

    def main(self, code, *arguments):
        """Run the command in this process; return what it printed."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            self.assertEqual(_cli.main(arguments), code, out.getvalue())
        return out.getvalue()
