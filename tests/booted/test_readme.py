"""README.md as an operator types it on a machine with systemd; then check-config knows the unit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.booted.test_quick_start import INSIDE, release_of_this_checkout, type_in
from tests.support.booted import boot
from tests.support.document_examples import steps_of

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
CONFIG = "/etc/tracker/agent.toml"
DROP_IN = "/etc/systemd/system/tracker-agent.service.d/ours.conf"

pytestmark = pytest.mark.xdist_group("bookworm")


def test_readme_leads_to_services_and_check_config_sees_what_drop_ins_do(tmp_path: Path) -> None:
    with boot("bookworm", {release_of_this_checkout(tmp_path / "release", "bookworm"): INSIDE}) as machine:
        said = [type_in(machine, step.text, False) for step in steps_of(README, "packages")]

        assert f"{CONFIG}: usable" in said[1]
        assert "warning: " not in said[1]
        assert "error: " not in said[1]
        assert "systemctl reload tracker-agent" in said[1]
        assert "Nothing needs attention" in said[1]
        assert "/signin#tl_" in said[1]

        # A spool that the unit does not open, a key that is not handed over, less memory than is set.
        machine.write(DROP_IN, "[Service]\nLoadCredential=\nMemoryMax=64M\nPrivateDevices=yes\n")
        machine.run("install", "-d", "-o", "tracker-agent", "-m", "0700", "/data/spool")
        machine.run("sed", "-i", 's|^# spools = .*|spools = ["/data/spool"]|', CONFIG)
        machine.run("systemctl", "daemon-reload")
        checked = machine.run("tracker-agent", "check-config", "--json", CONFIG, check=False)
        problems = {each["problem"]: each for each in json.loads(checked.stdout)["problems"]}

        for part, remedy in (
            ("it hands over no key", "LoadCredential=key:/etc/tracker/agent-key"),
            ("ProtectSystem=strict makes /data/spool read-only", "add ReadWritePaths=/data/spool"),
            ("MemoryMax=64 MiB is too little", "allow 160 MiB"),
            ("PrivateDevices=yes hides the GPUs", "systemctl edit tracker-agent.service"),
        ):
            [found] = [each for said, each in problems.items() if part in said]
            assert remedy in found["remedy"]
            assert found["source"] == "the unit tracker-agent.service"
        assert machine.run("tracker-agent", "check-config", "--strict", CONFIG, check=False).returncode == 1

        machine.write(DROP_IN, "[Service]\nLoadCredential=key:/etc/tracker/no-key\n")
        machine.run("systemctl", "daemon-reload")
        missing = machine.run("tracker-agent", "check-config", CONFIG, check=False)
        assert missing.returncode == 2
        assert "LoadCredential=key:/etc/tracker/no-key: No such file" in missing.stderr
