"""Rich values without any library but msgpack: what log() records of them, and what it refuses."""

import hashlib
import importlib.util
import io
import os
import struct
import sys
import tempfile
import zlib

import msgpack

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from recording import Recording

from tracker import _rich, plot
from tracker.protocol import bodies, kinds

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "golden")

#: What stands in for libraries that the machine may have: importing them fails.
NO_LIBRARIES = """
import sys
for name in ("numpy", "PIL", "pandas", "matplotlib", "plotly", "imageio", "moviepy", "bokeh"):
    sys.modules[name] = None
"""


def png(width, height):
    """Return a whole PNG of one grey."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class Rich(Recording):
    def run_script(self, script, code=0, **environment):
        lines = [line[12:] if line.startswith(" " * 12) else line for line in script.splitlines()]
        return super().run_script(NO_LIBRARIES + "\n".join(lines), code, **environment)

    def values(self):
        """Return {name: (step, type, data)} of the only stream's VALUE records."""
        return {each.name: (each.step, each.type, each.data) for each in self.stream().of(kinds.VALUE)}

    def run_directory(self):
        spool = os.path.join(self.spool, "spool")
        (user,) = [name for name in os.listdir(spool) if name.split("-")[0].isdigit()]
        (run,) = os.listdir(os.path.join(spool, user))
        return os.path.join(spool, user, run)

    def media(self):
        """Return {path: bytes} of all files below media/, as records name them."""
        found = {}
        root = self.run_directory()
        for directory, _, names in os.walk(os.path.join(root, "media")):
            for name in names:
                path = os.path.join(directory, name)
                with open(path, "rb") as file:
                    found[os.path.relpath(path, root).replace(os.sep, "/")] = file.read()
        return found

    def check_file(self, data, content):
        """Check that data refers to a file of that content."""
        self.assertEqual(self.media()[data["path"]], content)
        self.assertEqual(data["sha256"], hashlib.sha256(content).hexdigest())
        self.assertEqual(data["size"], len(content))

    def write(self, name, content):
        with open(os.path.join(self.spool, name), "wb") as file:
            file.write(content)
        return content

    def test_files_are_kept_as_they_are_under_names_that_every_filesystem_takes(self):
        picture = self.write("a b.png", png(7, 5))
        sound = self.write("s.flac", b"fLaC" + bytes(3000000))
        movie = self.write("m.mp4", b"movie")
        model = self.write("m.glb", b"glTF")
        structure = self.write("m.pdb", b"ATOM")
        self.run_script(
            """
            import io, pathlib, tracker
            run = tracker.init()
            picture = tracker.Image("a b.png", caption="seven", grouping=2)
            tracker.log({"samples/\\u00fc \\U0001f600:*?": picture}, step=3)
            tracker.log({"sound": tracker.Audio(pathlib.Path("s.flac"), caption="hm")}, step=-4)
            tracker.log({"movie": tracker.Video("m.mp4"), "bytes": tracker.Video(b"movie", format="webm"),
                         "file": tracker.Video(io.BytesIO(b"moving"), format="mp4"),
                         "model": tracker.Object3D("m.glb"), "page": tracker.Html("m.pdb"),
                         "open": tracker.Object3D(io.StringIO("v 0 0 0"), file_type="obj"),
                         "molecule": tracker.Molecule("m.pdb"),
                         "x" * 300: tracker.Image(open("a b.png", "rb")),
                         "../../..": tracker.Image(open("a b.png", "rb").read())})
            assert run.lost == 0
            """
        )

        found = self.values()
        step, kind, data = found["samples/\u00fc \U0001f600:*?"]
        self.assertEqual((step, kind), (3, "image"))
        digest = hashlib.sha256(picture).hexdigest()
        self.assertEqual(
            data,
            {
                "path": "media/images/samples_3_%s.png" % digest[:20],
                "sha256": digest,
                "size": len(picture),
                "format": "png",
                "width": 7,
                "height": 5,
                "caption": "seven",
                "grouping": 2,
            },
        )
        self.check_file(data, picture)
        step, kind, data = found["sound"]
        self.assertEqual((step, kind, data["format"], data["caption"]), (-4, "audio", "flac", "hm"))
        self.check_file(data, sound)
        for name, kind, form, content in (
            ("movie", "video", "mp4", movie),
            ("bytes", "video", "webm", movie),
            ("file", "video", "mp4", b"moving"),
            ("model", "object3d", "glb", model),
            ("open", "object3d", "obj", b"v 0 0 0"),
            ("molecule", "molecule", "pdb", structure),
            ("x" * 300, "image", "png", picture),
            ("../../..", "image", "png", picture),
        ):
            self.assertEqual((found[name][1], found[name][2]["format"]), (kind, form))
            self.check_file(found[name][2], content)
        self.check_file(found["page"][2], structure)
        for path in self.media():
            self.assertRegex(
                path, r"^media/[a-z0-9]+/[A-Za-z0-9][A-Za-z0-9._-]{0,63}_-?\d+_[0-9a-f]{20}\.[a-z0-9]+$"
            )
            self.assertTrue(os.stat(os.path.join(self.run_directory(), path)).st_mode & 0o400)

    def test_pictures_tell_their_size_by_their_first_bytes(self):
        webp = b"RIFF" + struct.pack("<I", 100) + b"WEBP"
        cases = {
            "gif": b"GIF89a" + struct.pack("<HH", 7, 5),
            "bmp": b"BM" + bytes(12) + struct.pack("<Iii", 40, 7, -5),
            "jpg": b"\xff\xd8\xff\xe0\0\4ab\xff\xc4\0\3a\xff\xff\xc2" + struct.pack(">HBHH", 17, 8, 5, 7),
            "webp": webp + b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\x06\0\0\x04\0\0",
            "lossless.webp": webp + b"VP8L" + struct.pack("<IBI", 10, 0x2F, 6 | 4 << 14) + bytes(9),
            "lossy.webp": webp + b"VP8 \0\0\0\0abc\x9d\x01\x2a" + struct.pack("<HH", 7, 5),
        }  # fmt: skip
        for name, content in cases.items():
            self.write("picture." + name, content)
        cut_short = {
            "png": png(7, 5)[:20],
            "jpg": cases["jpg"][:12],
            "gif": b"GIF89a\7",
            "webp": webp + b"VP8X",
        }
        self.run_script(
            """
            import tracker
            tracker.init()
            tracker.log({name: tracker.Image("picture." + name) for name in %r})
            tracker.log({"cut/" + name: tracker.Image(content) for name, content in %r.items()})
            tracker.log({"wrong": tracker.Image("picture.gif", file_type="png")})
            """
            % (sorted(cases), cut_short)
        )

        found = self.values()
        for name in cases:
            data = found[name][2]
            expected = name.split(".")[-1]
            self.assertEqual((data["format"], data["width"], data["height"]), (expected, 7, 5), name)
        for name in cut_short:
            data = found["cut/" + name][2]
            self.assertEqual((data["format"], "width" in data), (name, False), name)
        self.assertEqual(found["wrong"][2]["format"], "gif")

    def test_what_is_small_is_in_the_record_and_what_is_large_in_a_file(self):
        self.run_script(
            """
            import tracker
            tracker.init()
            tracker.log({
                "page": tracker.Html("<b>hi</b>"), "long": tracker.Html("<p>" + "x" * 40000),
                "figure": tracker.Plotly({"data": [{"y": [1, float("nan")]}]}),
                "large": tracker.Plotly({"data": [{"y": list(range(20000))}]}),
                "table": tracker.Table(columns=["a"], data=[[1]]),
                "rows": tracker.Table(columns=["a"], data=[[n] for n in range(20000)]),
            })
            """
        )

        found = {name: (kind, data) for name, (_, kind, data) in self.values().items()}
        self.assertEqual(found["page"], ("html", {"html": "<b>hi</b>"}))
        self.check_file(found["long"][1], b"<p>" + b"x" * 40000)
        self.assertEqual(found["figure"], ("plotly", {"json": '{"data": [{"y": [1, null]}]}'}))
        self.assertEqual(found["large"][1]["path"].split("/")[:2], ["media", "plotly"])
        self.assertEqual(
            found["table"], ("table", {"columns": ["a"], "types": ["number"], "rows": 1, "data": [[1]]})
        )
        data = found["rows"][1]
        self.assertEqual((data["columns"], data["types"], data["rows"]), (["a"], ["number"], 20000))
        head, chunks, foot = self.read_table(data["path"])
        self.assertEqual(head, {"format": "tracker table", "version": 1, "columns": ["a"]})
        self.assertEqual(foot, {"rows": 20000, "types": ["number"]})
        self.assertEqual([row for chunk in chunks for row in zip(*chunk)], [(n,) for n in range(20000)])
        self.assertLessEqual(max(len(chunk[0]) for chunk in chunks), 4096)

    def read_table(self, path):
        # As docs/record-format.md says.
        with open(os.path.join(self.run_directory(), path), "rb") as file:
            values = list(msgpack.Unpacker(file, max_buffer_size=0, raw=False, strict_map_key=False))
        return values[0], values[1:-1], values[-1]

    def test_a_table_takes_cells_of_every_kind_and_says_what_is_in_its_columns(self):
        self.write("p.png", png(2, 2))
        _, err = self.run_script(
            """
            import datetime, decimal, tracker
            run = tracker.init()
            table = tracker.Table(columns=["number", "text", "mixed", "rich", "when", 5, "none", "bytes"])
            class Odd:
                def __str__(self): return "odd"
            picture = tracker.Image("p.png")
            time, day = datetime.datetime(2026, 1, 2, 3), datetime.date(2026, 1, 2)
            table.add_data(1, "a", 1, picture, time, [1, {"x": (2,)}], None, b"\\0")
            table.add_data(2.5, "\\ud800", "x", None, day, {"a": 1}, None, bytearray(b"\\1"))
            table.add_data(2**70, "", None, tracker.Html("<b>"), None, decimal.Decimal("1.5"), None, None)
            for row in ((1,), range(9)):
                table.add_data(*row)
            table.add_row(float("inf"), Odd(), True, None, None, None, None, None)
            tracker.log({"table": table})
            late = tracker.Table(data=[["a", 1], ["b", 2]])
            late.add_column("more", [3, 4])
            late.add_column("wrong", [3, 4, 5])
            late.add_computed_columns(lambda number, row: {"sum": row["more"] + row["1"], "at": number})
            late.add_data("c", 3, 5, 8, 2)
            assert late.columns == ["0", "1", "more", "sum", "at"], late.columns
            assert late.get_column("sum") == [4, 6, 8] and late.get_index() == [0, 1, 2]
            assert [row for _, row in late.iterrows()][1] == ["b", 2, 4, 6, 1]
            late.data.append(["d", None, None, None, None])
            tracker.log({"late": late, "empty": tracker.Table(), "nothing": tracker.Table(columns=[])})
            assert run.lost == 0
            """
        )

        found = self.values()
        data = found["table"][2]
        picture = dict(data["data"][3][0])
        self.assertEqual(picture.pop("_type"), "image")
        self.check_file(picture, png(2, 2))
        self.assertEqual(data["types"], ["number", "text", "any", "any", "time", "any", "none", "bytes"])
        self.assertEqual(
            data["data"][:3] + data["data"][4:],
            [
                [1, 2.5, 2.0**70, float("inf")],
                ["a", "\ufffd\ufffd\ufffd", "", "odd"],
                [1, "x", None, True],
                ["2026-01-02T03:00:00", "2026-01-02", None, None],
                [[1, {"x": [2]}], {"a": 1}, 1.5, None],
                [None] * 4,
                [b"\0", b"\1", None, None],
            ],
        )
        self.assertEqual(data["data"][3][2], {"_type": "html", "html": "<b>"})
        self.assertEqual((data["dropped"], data["rows"], data["columns"][5]), (2, 4, "5"))
        self.assertIn("a row of 1 cells was not added to a table of 8 columns", err)
        data = found["late"][2]
        self.assertEqual(data["data"][0], ["a", "b", "c", "d"])
        self.assertEqual(data["data"][3], [4, 6, 8, None])
        self.assertEqual(data["dropped"], 1)
        self.assertIn("a column of 3 cells does not fit a table of 2 rows", err)
        self.assertEqual(found["empty"][2]["columns"], ["Input", "Output", "Expected"])
        self.assertEqual(found["nothing"][2], {"columns": [], "types": [], "rows": 0, "data": []})

    def test_calls_that_make_no_sense_are_warned_about_and_raise_nothing(self):
        _, err = self.run_script(
            """
            import tracker
            run = tracker.init()
            assert tracker.box3d(1, "x") == {}
            assert tracker.box3d((0, 0, 0), (2, 2, 2))["corners"][0] == [-1, -1, -1]
            assert tracker.Table(columns=["a"], data=[[1]]).get_column("b") == []
            tracker.Classes(5)
            tracker.Image(3, mode=4, masks=5)
            tracker.Table(columns=7, data=8, log_mode=[])
            tracker.Molecule("x", file_type=3)
            tracker.Object3D(None, file_type=4)
            tracker.Video("x", format=5)
            tracker.Audio(None, sample_rate="fast")
            tracker.Histogram([1], num_bins="many")
            tracker.Html(None)
            tracker.plot.pr_curve(interp_size=None)
            tracker.plot.line_series(None, None)
            tracker.plot.bar(1, 2, 3)
            """
        )

        self.assertIn("box3d() failed", err)
        self.assertIn("the table has no column b", err)
        self.assertEqual(err.count("warning"), 2, err)

    def test_a_table_logged_again_is_whole_or_what_is_new(self):
        self.run_script(
            """
            import tracker
            tracker.init()
            whole = tracker.Table(columns=["n"])
            growing = tracker.Table(columns=["n"], log_mode="INCREMENTAL")
            for n in range(3):
                for table in (whole, growing):
                    table.add_data(n)
                tracker.log({"whole": whole, "growing": growing})
            """
        )

        values = [(each.name, each.step, each.data) for each in self.stream().of(kinds.VALUE)]
        self.assertEqual(
            [d["data"] for name, _, d in values if name == "whole"], [[[0]], [[0, 1]], [[0, 1, 2]]]
        )
        growing = [
            (d["from"], d["rows"], d["data"], d["log_mode"]) for name, _, d in values if name == "growing"
        ]
        self.assertEqual(growing, [(n, 1, [[n]], "INCREMENTAL") for n in range(3)])

    def test_a_histogram_needs_no_numpy(self):
        self.run_script(
            """
            import tracker
            tracker.init()
            nan, inf = float("nan"), float("inf")
            tracker.log({
                "four": tracker.Histogram([0, 1, [2, (3, 4)], 4, nan, inf], num_bins=4),
                "same": tracker.Histogram([3, 3], num_bins=2), "none": tracker.Histogram([], num_bins=1),
                "near": tracker.Histogram([1e300, 1e300], num_bins=2),
                "given": tracker.Histogram(np_histogram=([1, 2.5], [0, 1, 4])),
                "many": tracker.Histogram(range(10000), num_bins=9999),
                "eighths": tracker.Histogram([n / 8 for n in range(9)], num_bins=8),
            })
            h = tracker.Histogram([1, 2], num_bins=1)
            assert (h.histogram, h.bins) == ([2], [1, 2])
            """
        )

        found = {name: data for name, (_, kind, data) in self.values().items() if kind == "histogram"}
        self.assertEqual(found["four"], {"edges": [0, 1, 2, 3, 4], "counts": [1, 1, 1, 3], "not_finite": 2})
        self.assertEqual(found["same"], {"edges": [2.5, 3, 3.5], "counts": [0, 2]})
        self.assertEqual(found["none"], {"edges": [0, 1], "counts": [0]})
        self.assertEqual(sum(found["near"]["counts"]), 2)
        self.assertEqual(found["given"], {"edges": [0, 1, 4], "counts": [1, 2.5]})
        self.assertEqual((len(found["many"]["counts"]), sum(found["many"]["counts"])), (512, 10000))
        self.assertEqual(found["eighths"]["counts"], [1] * 7 + [2])

    def test_lists_are_kept_whole_and_the_summary_shows_what_records_hold(self):
        self.run_script(
            """
            import tracker
            run = tracker.init()
            page = tracker.Html("<b>")
            tracker.log({"pages": [page, page], "n": {"page": page, "x": 1}, "many": [page] * 1005})
            assert run.summary["n/page"] == {"_type": "html", "html": "<b>"}, run.summary
            assert run.summary["n/x"] == 1 and len(run.summary["pages"]["items"]) == 2
            tracker.log({"n": {"x": 2}})
            assert run.summary["n/page"]["html"] == "<b>" and run.summary["n/x"] == 2
            table = tracker.Table(columns=["a"], data=[[1]])
            joined = tracker.JoinedTable(table, table, "a")
            tracker.log({"joined": joined, "points": tracker.plot.line(table, "a", "a", title="t")})
            """
        )

        found = self.values()
        page = {"_type": "html", "html": "<b>"}
        self.assertEqual(found["pages"], (0, "list", {"items": [page, page]}))
        self.assertEqual((len(found["many"][2]["items"]), found["many"][2]["dropped"]), (1000, 5))
        table = {"columns": ["a"], "types": ["number"], "rows": 1, "data": [[1]]}
        self.assertEqual(found["joined"], (2, "joined_table", {"tables": [table, table], "key": "a"}))
        self.assertEqual(
            found["points"][1:],
            (
                "chart",
                {"chart": "line", "fields": {"x": "a", "y": "a"}, "strings": {"title": "t"}, "table": table},
            ),
        )

    def test_charts_are_tables_and_what_they_show(self):
        self.run_script(
            """
            import tracker
            from tracker import plot
            tracker.init()
            t = tracker.Table(columns=["a", "b"], data=[[1, 2]])
            tracker.log({
                "scatter": plot.scatter(t, "a", "b"), "bar": plot.bar(t, "a", "b"),
                "histogram": plot.histogram(t, "a"), "stroke": plot.line(t, "a", "b", stroke="b"),
                "any": plot.plot_table("my/spec", t, {"q": "a"}, {"s": 1}),
                "all": plot.visualize("my", t),
                "series": plot.line_series([1, 2], [[3, 4], (5, 6)], ["p", "q"], title="T", xname="step"),
                "own": plot.line_series([[1], [2, 3]], [[3], [5, 6]]),
                "preds": plot.confusion_matrix(None, [0, 2, 1, 1], [0, 1, 1, 0], class_names=["x", "y", "z"]),
                "names": plot.confusion_matrix(y_true=["b", "a"], preds=["b", "b"]),
                "probs": plot.confusion_matrix(probs=[[0.9, 0.1], [0.6, 0.4]], y_true=[0, 1]),
            })
            """
        )

        found = {name: data for name, (_, kind, data) in self.values().items() if kind == "chart"}
        self.assertEqual(found["scatter"]["fields"], {"x": "a", "y": "b"})
        self.assertEqual(found["bar"]["fields"], {"label": "a", "value": "b"})
        self.assertEqual(
            (found["histogram"]["chart"], found["histogram"]["fields"]), ("histogram", {"value": "a"})
        )
        self.assertEqual(found["stroke"]["fields"], {"x": "a", "y": "b", "stroke": "b"})
        self.assertEqual(
            (found["any"]["chart"], found["any"]["fields"], found["any"]["strings"]),
            ("my/spec", {"q": "a"}, {"s": "1"}),
        )
        self.assertEqual((found["all"]["chart"], found["all"]["fields"]), ("my", {}))
        self.assertEqual(found["series"]["table"]["columns"], ["step", "lineKey", "lineVal"])
        self.assertEqual(found["series"]["table"]["data"], [[1, 2, 1, 2], ["p", "p", "q", "q"], [3, 4, 5, 6]])
        self.assertEqual(found["series"]["strings"], {"title": "T", "xname": "step"})
        self.assertEqual(found["own"]["table"]["data"], [[1, 2, 3], ["key_0", "key_1", "key_1"], [3, 5, 6]])
        actual, guess, count = found["preds"]["table"]["data"]
        self.assertEqual(list(zip(actual, guess))[:4], [("x", "x"), ("x", "y"), ("x", "z"), ("y", "x")])
        self.assertEqual(count, [1, 0, 0, 1, 1, 0, 0, 1, 0])
        self.assertEqual(
            found["names"]["table"]["data"], [["a", "a", "b", "b"], ["a", "b"] * 2, [0, 1, 0, 1]]
        )
        self.assertEqual(found["probs"]["table"]["data"][2], [1, 0, 1, 0])
        self.assertEqual(found["probs"]["table"]["data"][0][0], "Class_1")

    def test_what_cannot_be_recorded_is_said_once_and_counted_and_the_rest_is_kept(self):
        self.write("text.txt", b"text")
        _, err = self.run_script(
            """
            import os, tracker
            class Hostile(list):
                def __len__(self, *args): raise RuntimeError("no len")
                __iter__ = __getitem__ = __len__
            class Silent(Exception):
                def __str__(self): raise RuntimeError("no str")
            class Figure:
                __module__ = "numpy"
                @property
                def shape(self): raise Silent()
            class File:
                def read(self): raise Silent()
            if hasattr(os, "mkfifo"):
                os.mkfifo("pipe.png")
            run = tracker.init()
            cyclic = tracker.Table(columns=["self"])
            cyclic.add_data([1])
            cyclic.add_data(cyclic)
            ring = tracker.Table(columns=["other"])
            ring.add_data(tracker.plot.visualize("x", ring))
            deep = tracker.Table(columns=["t"], data=[[1]])
            for _ in range(12):
                deep = tracker.Table(columns=["t"], data=[[deep]])
            bad = {
                "missing": tracker.Image("missing.png"), "directory": tracker.Image(os.getcwd()),
                "pipe": tracker.Image("pipe.png"), "text": tracker.Image("text.txt", file_type=""),
                "nul": tracker.Image("a\\0b"), "array": tracker.Image([[1, 2]]),
                "nothing": tracker.Image(None),
                "sound": tracker.Audio([0.5], sample_rate=8000), "ratio": tracker.Audio([0.5]),
                "movie": tracker.Video("text.txt"), "frames": tracker.Video([[1]]),
                "model": tracker.Object3D("text.txt"),
                "molecule": tracker.Molecule(3, file_type="pdb"), "page": tracker.Html(3),
                "plot": tracker.Plotly(3),
                "bins": tracker.Histogram([1], num_bins=0),
                "edges": tracker.Histogram(np_histogram=([1], [1])),
                "texts": tracker.Histogram(["a"]), "no": tracker.Histogram(),
                "far": tracker.Histogram([-1.7e308, 1.7e308]),
                "cyclic": cyclic, "ring": ring, "deep": deep, "list": Hostile([1]), "figure": Figure(),
                "mixed": [tracker.Html("x"), 1], "rows": tracker.Table(columns=["a"], data=[[1], [1, 2]]),
                "row": tracker.Table(columns=["a"], data=["ab"]),
                "joined": tracker.JoinedTable(cyclic, 3, "x"),
                "chart": tracker.plot.line(cyclic, "self", "none"), "table": tracker.plot.line(3, "a", "b"),
                "series": tracker.plot.line_series([1], [[1, 2]]),
                "matrix": tracker.plot.confusion_matrix(y_true=[1]),
                "curve": tracker.plot.roc_curve([1], [[1]]), "file": tracker.Html(File()),
                "late": tracker.Table(columns=["a"], data=[[1]] * 5000 + [[tracker.Image("missing.png")]]),
                "wide": tracker.Table(columns=[str(n) for n in range(5000)]),
            }
            for name in sorted(bad):
                code = compile("tracker.log({name: bad[name], 'kept/' + name: 1})", name, "exec")
                for attempt in range(2):
                    before = run.lost
                    exec(code)
                    assert run.lost == before + 1, (name, run.lost)
            """
        )

        stream = self.stream()
        self.assertEqual(stream.of(kinds.VALUE), [])
        kept = [name for _, values in stream.metrics for name in values]
        self.assertEqual(len(kept), 2 * len(set(kept)))
        self.assertEqual(self.media(), {})
        self.assertNotIn("Traceback", err)
        said = {}
        for line in err.splitlines():
            if "left out" in line:
                name, reason = line.split("left out ", 1)[1].split(" (", 1)
                self.assertNotIn(name, said)
                said[name] = reason
        self.assertEqual(sorted(said), sorted(name[len("kept/") :] for name in set(kept)))
        for name, reason in {
            "missing": "missing.png cannot be read: No such file",
            "directory": "is not a file",
            "pipe": "pipe.png is not a file",
            "nul": "null",
            "array": "numpy here, which cannot be imported",
            "sound": "numpy here, which cannot be imported",
            "ratio": "sample_rate",
            "movie": "video is one of gif, mp4, webm, ogg, not 'txt'",
            "model": "not 'txt'",
            "molecule": "not a int",
            "bins": "1 to 512 bins, not 0",
            "edges": "one edge more than counts, not 1 and 1",
            "far": "too far apart",
            "cyclic": "contains itself",
            "ring": "contains itself",
            "deep": "more than 8 deep",
            "list": "RuntimeError: no len",
            "figure": "Silent: it has no message",
            "file": "Silent: it has no message",
            "mixed": "a list is not a number or text",
            "rows": "1 rows of another length, such as 2",
            "row": "not text",
            "chart": "no column none",
            "table": "not of a int",
            "series": "1 x and 2 y",
            "matrix": "either probs or preds",
            "late": "missing.png cannot be read",
            "wide": "at most 4096 columns, not 5000",
        }.items():
            self.assertIn(reason, said[name])

    def test_values_that_log_while_they_are_logged_work(self):
        self.run_script(
            """
            import io, tracker
            run = tracker.init()
            class Cell:
                def __str__(self):
                    tracker.log({"from str": 1}, step=7)
                    return "cell"
            class File(io.BytesIO):
                def read(self, *args):
                    tracker.log({"from read": tracker.Html("inner")}, step=8)
                    return io.BytesIO.read(self, *args)
            class Picture:
                __module__ = "PIL.Image"
                mode = "L"
                def save(self, file, kind):
                    tracker.log({"from save": 2, "page": tracker.Html("saved")}, step=9)
                    raise ValueError("no")
            table = tracker.Table(columns=["a"], data=[[Cell()]])
            tracker.log({"table": table, "picture": Picture()}, step=1)
            tracker.log({"movie": tracker.Video(File(b"x"), format="mp4")}, step=2)
            assert run.lost == 1, run.lost
            """
        )

        found = self.values()
        self.assertEqual(found["table"][2]["data"], [["cell"]])
        self.assertEqual(sorted(found), ["from read", "movie", "page", "table"])
        self.assertEqual(sorted(self.stream().metrics), [(7, {"from str": 1}), (9, {"from save": 2})])

    def test_a_file_that_cannot_be_written_is_a_lost_record_and_training_goes_on(self):
        picture = self.write("p.png", png(3, 3))
        _, err = self.run_script(
            """
            import os, sys, tracker
            run = tracker.init()
            media = os.path.join(run.directory, "media")
            open(media, "w").close()
            for n in range(3):
                tracker.log({"p": tracker.Image("p.png"), "x": n})
            assert run.lost == 3 and "p" not in run.summary, run.lost
            os.unlink(media)
            tracker.log({"p": tracker.Image("p.png"), "x": 3})
            assert run.lost == 3 and run.summary["p"]["width"] == 3
            """
        )

        stream = self.stream()
        self.assertEqual([values["x"] for _, values in stream.metrics], [0, 1, 2, 3])
        self.assertEqual(
            [(each.records, each.reason) for each in stream.of(kinds.LOST)][:1], [(1, "Not a directory")]
        )
        self.assertEqual(sum(each.records for each in stream.of(kinds.LOST)), 3)
        self.assertEqual(list(self.values()), ["p"])
        self.check_file(self.values()["p"][2], picture)
        self.assertEqual(err.count("cannot be written"), 1, err)
        self.assertIn("Not a directory", err)

    def test_a_disabled_run_writes_and_encodes_nothing(self):
        self.write("p.png", png(3, 3))
        directory = tempfile.mkdtemp(dir=self.spool)
        self.run_script(
            """
            import os, tracker
            run = tracker.init(mode="disabled")
            class Cell:
                def __str__(self): raise AssertionError
            tracker.log({"p": tracker.Image("p.png"), "t": tracker.Table(columns=["c"], data=[[Cell()]])})
            assert run.directory.startswith(os.environ["TMPDIR"]), run.directory
            """,
            TMPDIR=directory,
        )

        self.assertEqual(os.listdir(directory), [])
        self.assertFalse(os.path.exists(os.path.join(self.spool, "spool")))


class Golden(Recording):
    """What records say of rich values, and a table's file, byte by byte."""

    def encode(self, name, value):
        return _rich.encode(value, _rich.Media(self.spool, name, 7))

    def test_todays_records_are_those_of_the_golden_stream(self):
        spec = importlib.util.spec_from_file_location("generate", os.path.join(GOLDEN, "generate.py"))
        generate = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(generate)
        media = tempfile.mkdtemp(dir=self.spool)
        paths = {}
        for name, (_, extension, content) in generate.MEDIA.items():
            paths[name] = os.path.join(media, "%s.%s" % (name, extension))
            with open(paths[name], "wb") as file:
                file.write(content)
        page = _rich.Html("<b>hi</b>")
        columns, rows = ["a", "b"], [[1, "x"], [2.5, None]]
        table = _rich.Table(columns=columns, data=rows)
        growing = _rich.Table(columns=columns, data=rows, log_mode="INCREMENTAL")
        growing.add_data(1)
        table_with_page = _rich.Table(columns=columns, data=[rows[0], [2.5, page]])
        boxes = {
            "truth": {"box_data": [{"position": {"minX": 0.5}, "class_id": 1}], "class_labels": {1: "cat"}}
        }
        masks = {"truth": {"path": paths["mask"], "class_labels": {1: "cat"}}}
        classes = _rich.Classes([{"id": 1, "name": "cat"}])
        values = {
            "picture": _rich.Image(paths["picture"], None, "seven", 2, classes, boxes, masks),
            "sound": _rich.Audio(paths["sound"], caption="hm"),
            "movie": _rich.Video(paths["movie"], "c"),
            "page": page,
            "long_page": _rich.Html(paths["long_page"]),
            "histogram": _rich.Histogram(np_histogram=([3, 4], [0, 1, 2])),
            "table": table,
            "cells": table_with_page,
            "increment": growing,
            "long_table": _rich.Table(columns=["n"], data=[[n] for n in range(20000)]),
            "joined": _rich.JoinedTable(table, table, ["a", "b"]),
            "model": _rich.Object3D(io.StringIO("v 0 0 0"), "c", file_type="obj"),
            "molecule": _rich.Molecule(paths["molecule"]),
            "figure": _rich.Plotly({"data": []}),
            "chart": plot.line(table, "a", "a", title="t"),
            "list": [page, page],
        }
        with open(
            os.path.join(GOLDEN, "v1", "rich_values", "%s.000000.mpl" % bytes(range(16)).hex()), "rb"
        ) as file:
            lines = list(msgpack.Unpacker(file, raw=False, max_buffer_size=2**20))
        records = [bodies.decode_value(body) for kind, _, body in lines if kind == kinds.VALUE]
        golden = {record.name: (record.type, record.data) for record in records}

        made = {name: tuple(self.encode(name, value)) for name, value in values.items()}

        for name in ("path", "sha256", "size"):  # the file's bytes are another test's
            del golden["long_table"][1][name], made["long_table"][1][name]
        for name, record in made.items():
            self.assertEqual(record, golden[name], name)
        self.assertEqual(set(golden) - set(made), {"note", "points", "values"})

    def test_todays_table_is_the_golden_file(self):
        page = _rich.Html("<b>")
        rows = [[n, None] for n in range(4095)] + [[float("inf"), "text"], [-1.5, page]]

        data = self.encode("table", _rich.Table(columns=["n", "any"], data=rows)).data

        with open(os.path.join(self.spool, data["path"]), "rb") as file:
            made = file.read()
        with open(os.path.join(GOLDEN, "tables", "two_chunks.msgpack"), "rb") as file:
            self.assertEqual(made, file.read())


if __name__ == "__main__":
    import unittest

    unittest.main()
