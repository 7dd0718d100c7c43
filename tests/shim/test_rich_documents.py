"""The examples in docs/rich-values.md run as they stand there, and record what they say."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import msgpack

import tracker
from tests.support.agent_process import training_environment
from tracker.protocol import bodies, kinds

ROOT = Path(__file__).resolve().parents[2]


def test_examples_of_the_page_on_rich_values_run(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "rich-values.md").read_text()
    script = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))

    result = subprocess.run(
        [sys.executable, "-c", script],
        env=training_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr
    (segment,) = tmp_path.rglob("*.mpl")
    with segment.open("rb") as file:
        lines = list(msgpack.Unpacker(file, max_buffer_size=0))
    values = [bodies.decode_value(body) for kind, _, body in lines if kind == kinds.VALUE]
    assert [(value.name, value.type) for value in values] == [
        ("sample", "image"),
        ("weights", "histogram"),
        ("guesses", "table"),
        ("losses", "chart"),
        ("confusion", "chart"),
    ]


def test_every_type_of_the_page_is_there_with_its_arguments() -> None:
    page = (ROOT / "docs" / "rich-values.md").read_text()
    signatures = re.findall(r"^`tracker\.(\w+)\((.*)\)`$", page, re.MULTILINE)

    assert len(signatures) > 8
    for name, arguments in signatures:
        documented = [argument.split("=")[0].strip() for argument in arguments.split(",")]
        assert documented == [*inspect.signature(getattr(tracker, name)).parameters], name
