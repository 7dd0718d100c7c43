"""The console with what people have on theirs: notebooks, bars of tqdm and rich."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from tests.shim.consoles import Terminal, recorded, recording_environment, run

NOTEBOOK = """
import nbformat
from nbclient import NotebookClient

cells = (
    "import os, tracker; run = tracker.init(settings={'console': 'auto'}); print('first cell')",
    "import sys; print('second cell'); sys.stderr.write('warned\\\\n'); os.write(1, b'raw\\\\n')",
    "print('before the end'); run.finish(); print('after the end')",
    "print('another cell'); assert not run.lost",
)
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
for cell in notebook.cells:
    print("".join(output.get("text", "") for output in cell.outputs if output.output_type == "stream"))
"""


def test_every_cell_of_a_notebook_is_recorded_and_shown(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(NOTEBOOK)],
        env=recording_environment(tmp_path, TRACKER_CONSOLE="auto", HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )

    for text in ("first cell", "second cell", "warned", "before the end", "after the end", "another cell"):
        assert text in done.stdout
    lines = recorded(tmp_path)
    printed = [line for line in lines["stdout"] if line != "raw"]  # which the kernel takes where it can
    assert printed == ["first cell", "second cell", "before the end"]
    assert "warned" in lines["stderr"]


def test_nested_bars_of_tqdm_leave_a_few_lines(tmp_path: Path) -> None:
    script = """
        import time, tracker
        from tqdm import tqdm
        tracker.init()
        for epoch in tqdm(range(3), desc="epochs"):
            for batch in tqdm(range(200), desc="batches", position=1, leave=False, mininterval=0.01):
                time.sleep(0.001)
            tqdm.write("epoch %d done" % epoch)
    """

    _, err = run(script, tmp_path)

    lines = recorded(tmp_path)
    assert lines["stdout"] == ["epoch 0 done", "epoch 1 done", "epoch 2 done"]
    assert err.count(b"\r") > 50
    assert 1 <= len(lines["stderr"]) <= 5
    assert "epochs: 100%" in lines["stderr"][-1] and "3/3" in lines["stderr"][-1]


def test_bars_of_rich_leave_a_few_lines_on_a_terminal(tmp_path: Path) -> None:
    script = """
        import time, tracker
        from rich.progress import Progress
        tracker.init()
        with Progress() as progress:
            tasks = [progress.add_task("loading", total=100), progress.add_task("training", total=100)]
            for step in range(100):
                for task in tasks:
                    progress.advance(task)
                if step == 50:
                    progress.console.print("half way")
                time.sleep(0.01)
        print("done")
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    terminal = Terminal(command, recording_environment(tmp_path, TERM="xterm-256color"))
    try:
        shown = terminal.read_to_end()
        assert terminal.process.wait(60) == 0, shown
    finally:
        terminal.close()

    assert b"\x1b[1A" in shown and b"100%" in shown
    lines = recorded(tmp_path)["stdout"]
    assert len(lines) <= 8
    assert lines[-1] == "done"
    assert any("half way" in line for line in lines)
    assert [line.split()[0] for line in lines if "100%" in line] == ["loading", "training"]
