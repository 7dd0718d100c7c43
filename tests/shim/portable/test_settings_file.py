"""Settings files: what counts, and what becomes of files that are not what they should be."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from recording import Recording

from tracker import _settings_file
from tracker._settings_file import read_settings
from tracker.protocol import kinds


class Reading(Recording):
    def setUp(self):
        Recording.setUp(self)
        self.environ = {"XDG_CONFIG_HOME": os.path.join(self.spool, "config")}
        self.directory = os.path.join(self.spool, "work", "project", "scripts")
        os.makedirs(self.directory)

    def write(self, text, *below):
        """Write a file of settings: the user's, or that of a directory below `work`."""
        path = os.path.join(self.spool, "work", *(below + (".tracker", "settings")))
        if not below:
            path = os.path.join(self.spool, "config", "tracker", "settings")
        os.makedirs(os.path.dirname(path))
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode("utf-8"))
        return path

    def read(self):
        problems = []
        return read_settings(self.environ, self.directory, problems), problems

    def test_nearest_file_stands_before_the_users(self):
        self.write("project = mine\nentity = me")
        self.write("project = farther\ngroup = not read", ".")
        self.write("project = near\n", "project")

        found, problems = self.read()

        self.assertEqual(found, {"project": "near", "entity": "me"})
        self.assertEqual(problems, [])

    def test_no_files_are_no_settings(self):
        self.assertEqual(self.read(), ({}, []))

    def test_forms_of_lines(self):
        text = '\ufeff# comment\r\n; another\r\n\r\n  project=a=b  \nnotes = "two words "\n'
        text += "tags='x'\ngroup = \u00e4\u4e2d"
        self.write(text, "project")

        found, problems = self.read()

        self.assertEqual(
            found, {"project": "a=b", "notes": "two words ", "tags": "x", "group": "\u00e4\u4e2d"}
        )
        self.assertEqual(problems, [])

    def test_what_cannot_be_used_is_named_with_its_line_and_the_rest_counts(self):
        path = self.write("projct = typo\nno sense\n= nothing\nproject = p\ngroup = a\x1b[31mb\n", "project")

        found, problems = self.read()

        self.assertEqual(found, {"project": "p"})
        self.assertEqual(
            [each.split(": ")[0] for each in problems], ["%s:%d" % (path, n) for n in (1, 2, 3, 5)]
        )
        self.assertIn("unknown setting 'projct'", problems[0])
        self.assertNotIn("\x1b", "".join(problems))

    def test_secrets_are_refused_and_not_repeated(self):
        self.write("api_key = tk_1_hush\npassword=hush\nAPI_TOKEN = hush\n", "project")

        found, problems = self.read()

        self.assertEqual(found, {})
        self.assertEqual(len(problems), 3)
        for problem in problems:
            self.assertIn("tracker login", problem)
            self.assertNotIn("hush", problem)

    def test_a_file_full_of_nonsense_is_a_few_sentences(self):
        self.write("nonsense\n" * 1000 + "project = p", "project")

        found, problems = self.read()

        self.assertEqual(found, {"project": "p"})
        self.assertEqual(len(problems), _settings_file.FAULTS_MAX + 1)
        self.assertIn("995 more", problems[-1])

    def test_what_is_no_settings_file_holds_nothing_up_and_is_named(self):
        for number, make in enumerate((_large, _binary, _fifo, os.mkdir, _device)):
            directory = os.path.join(self.spool, "hostile", str(number))
            path = os.path.join(directory, ".tracker", "settings")
            os.makedirs(os.path.dirname(path))
            make(path)
            problems = []

            found = read_settings(self.environ, directory, problems)

            self.assertEqual(found, {}, make)
            self.assertEqual(len(problems), 1, make)
            self.assertIn(path, problems[0])

    def test_links_that_lead_nowhere_are_no_files(self):
        os.makedirs(os.path.join(self.directory, ".tracker"))
        os.symlink("settings", os.path.join(self.directory, ".tracker", "settings"))
        self.write("project = above", "project")

        self.assertEqual(self.read(), ({"project": "above"}, []))

    def test_a_linked_file_counts(self):
        os.makedirs(os.path.join(self.directory, ".tracker"))
        with open(os.path.join(self.spool, "kept elsewhere"), "w") as file:
            file.write("project = linked")
        link = os.path.join(self.directory, ".tracker", "settings")
        os.symlink(os.path.join(self.spool, "kept elsewhere"), link)

        self.assertEqual(self.read(), ({"project": "linked"}, []))

    def test_a_directory_that_is_gone_raises_nothing(self):
        self.assertEqual(read_settings(self.environ, os.path.join(self.spool, "gone")), {})
        problems = []
        self.assertEqual(read_settings(self.environ, "a\0b", problems), {})
        self.assertEqual(len(problems), 1)


class Training(Recording):
    """What a training makes of settings."""

    def fields(self, settings, arguments="", **environment):
        os.makedirs(os.path.join(self.spool, ".tracker"))
        with open(os.path.join(self.spool, ".tracker", "settings"), "w") as file:
            file.write(settings)
        environment.setdefault("XDG_CONFIG_HOME", os.path.join(self.spool, "none"))
        script = "import tracker; tracker.init(%s).log({'a': 1})" % arguments
        _, self.err = self.run_script(script, **environment)
        streams = self.streams()
        return streams[0].of(kinds.RUN)[0].fields if streams else None

    def test_goes_by_the_file(self):
        fields = self.fields("project = from-file\ntags = a, b\n")

        self.assertEqual((fields["project"], fields["tags"]), ("from-file", ["a", "b"]))

    def test_variables_stand_before_the_file(self):
        self.assertEqual(self.fields("project = file", TRACKER_PROJECT="variable")["project"], "variable")

    def test_arguments_stand_before_both(self):
        fields = self.fields("project = file", "project='argument'", TRACKER_PROJECT="variable")

        self.assertEqual(fields["project"], "argument")

    def test_what_is_wrong_with_the_file_is_said_and_the_run_goes_on(self):
        fields = self.fields("projct = typo\n")

        self.assertEqual(fields["project"], "uncategorized")
        self.assertIn("unknown setting 'projct'", self.err)

    def test_disabled_records_nothing(self):
        self.assertIsNone(self.fields("disabled = true"))

    def test_mode_stands_before_disabled(self):
        self.assertEqual(self.fields("disabled = true\nproject = p", TRACKER_MODE="online")["project"], "p")

    def test_disabled_may_be_false(self):
        self.assertEqual(self.fields("disabled = false\nproject = p")["project"], "p")


def _large(path):
    with open(path, "w") as file:
        file.write("project = p\n" * 10000)


def _binary(path):
    with open(path, "wb") as file:
        file.write(b"project = \xff\xfe\n")


def _fifo(path):
    os.mkfifo(path)


def _device(path):
    os.symlink("/dev/zero", path)
