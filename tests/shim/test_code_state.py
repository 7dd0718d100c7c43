"""Code state from real repositories, hostile ones among them: nothing they name is ever started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.shim.portable.leftovers import wait_until_gone
from tests.shim.scripts import environment, reading
from tests.support import require
from tracker import _git
from tracker._git import Git, GitError, State
from tracker._git_files import Repository, find_repository, head_of, remote_of
from tracker.protocol import kinds

IDENTITY = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


def git(directory: Path, *command: str, check: bool = True) -> str:
    """Run git in a directory as its user would."""
    result = subprocess.run(
        [require.program("git"), "-c", "protocol.file.allow=always", *command],
        cwd=directory,
        env={**os.environ, **IDENTITY},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with one commit of three files."""
    directory = tmp_path / "clone"
    directory.mkdir()
    git(directory, "init", "-q", "-b", "main")
    (directory / "train.py").write_text("print(1)\n")
    (directory / "binary").write_bytes(bytes(range(256)))
    (directory / "sub").mkdir()
    (directory / "sub" / "ö b.txt").write_text("one\ntwo\n")
    git(directory, "add", ".")
    git(directory, "commit", "-q", "-m", "first")
    return directory


def repository(directory: Path) -> Repository:
    found = find_repository(str(directory))
    assert found is not None
    return found


def state_of(directory: Path, **more: Any) -> State:
    return Git(repository(directory), {**os.environ, **IDENTITY}, **more).state()


def test_commit_branch_and_remote_are_read_without_git(clone: Path) -> None:
    git(clone, "remote", "add", "origin", "https://ada:hush@example.org/vision.git?token=hush")
    commit = git(clone, "rev-parse", "HEAD")
    found = repository(clone / "sub")

    assert head_of(found) == (commit, "main")
    assert remote_of(found) == "https://example.org/vision.git?token=[removed]"

    git(clone, "pack-refs", "--all")
    assert head_of(found) == (commit, "main")

    git(clone, "worktree", "add", "-q", "-b", "feature/x", "../tree")
    assert head_of(repository(clone.parent / "tree")) == (commit, "feature/x")
    assert remote_of(repository(clone.parent / "tree")).endswith("[removed]")

    git(clone, "checkout", "-q", "--detach")
    assert head_of(found) == (commit, "")


def test_a_clean_tree_has_no_patch(clone: Path) -> None:
    (clone / "train.py").touch()

    assert state_of(clone) == State(False, b"", [], [], "")


def test_the_patch_makes_a_clean_clone_what_was_there(clone: Path, tmp_path: Path) -> None:
    (clone / "train.py").write_text("print(2)\n")
    (clone / "binary").write_bytes(bytes(reversed(range(256))))
    (clone / "sub" / "ö b.txt").unlink()
    (clone / "new.py").write_text("added\n")
    git(clone, "add", "new.py")
    (clone / "untracked").write_text("u")
    (clone / ".gitignore").write_text("ignored\n")
    (clone / "ignored").write_text("i")

    state = state_of(clone)

    assert state.dirty and not state.problem and not state.left_out
    assert sorted(state.untracked) == [".gitignore", "untracked"]
    git(tmp_path, "clone", "-q", str(clone), "copy")
    (tmp_path / "patch").write_bytes(state.patch)
    git(tmp_path / "copy", "apply", "--binary", str(tmp_path / "patch"))
    tracked = ["train.py", "binary", "new.py", "sub/ö b.txt"]
    contents = [[path.read_bytes() if path.exists() else None for path in [top / name for name in tracked]]
                for top in (clone, tmp_path / "copy")]  # fmt: skip
    assert contents[0] == contents[1]


def test_settings_of_the_user_do_not_change_the_patch(clone: Path) -> None:
    (clone / "train.py").write_text("print(2)\n")
    plain = state_of(clone).patch
    for setting in (
        "diff.noprefix=true", "diff.mnemonicPrefix=true", "color.diff=always", "diff.context=0",
        "diff.relative=true", "diff.submodule=log", "core.quotePath=false",
    ):  # fmt: skip
        git(clone, "config", *setting.split("="))

    assert state_of(clone).patch == plain


def test_submodules_are_in_the_patch(clone: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    git(tmp_path, "init", "-q", str(other))
    (other / "library.py").write_text("one\n")
    git(other, "add", ".")
    git(other, "commit", "-q", "-m", "library")
    git(clone, "submodule", "add", "-q", str(other), "vendor/library")
    git(clone, "commit", "-q", "-m", "with a library")
    (clone / "vendor" / "library" / "library.py").write_text("two\n")

    state = state_of(clone)

    assert state.dirty and not state.problem
    assert b"+++ b/vendor/library/library.py\n" in state.patch and b"+two\n" in state.patch


def test_large_changes_are_left_out_and_named(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_git, "FILE_BYTES_MAX", 1000)
    (clone / "binary").write_bytes(bytes(5000))
    (clone / "train.py").write_text("print(2)\n")
    git(clone, "add", ".")
    (clone / "sub" / "ö b.txt").write_text("three\n")

    state = state_of(clone)

    assert state.left_out == ["binary"]
    assert b"train.py" in state.patch and b"binary" not in state.patch and b"three" in state.patch

    git(clone, "commit", "-q", "-m", "large")
    (clone / "binary").unlink()
    assert state_of(clone).left_out == ["binary"]


def test_a_patch_beyond_the_limit_is_not_kept(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_git, "PATCH_BYTES_MAX", 10_000)
    (clone / "train.py").write_text("x = 1\n" * 5000)

    state = state_of(clone)

    assert state.dirty and state.patch == b"" and "10000 bytes" in state.problem


def test_ten_gigabytes_of_changes_cost_no_memory(clone: Path) -> None:
    with (clone / "train.py").open("r+b") as file:
        file.truncate(10 * 10**9)  # a hole: it takes no room here

    state = state_of(clone)

    assert state.left_out == ["train.py"] and state.dirty and state.patch == b""


def test_ignored_names_are_left_out_of_the_patch(clone: Path) -> None:
    (clone / "train.py").write_text("print(2)\n")
    (clone / "sub" / "ö b.txt").write_text("hush\n")

    state = state_of(clone, ignored=["sub"])

    assert state.left_out == ["sub/ö b.txt"] and b"hush" not in state.patch and b"print(2)" in state.patch


def test_hostile_repositories_start_nothing(clone: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    trap = tmp_path / "trap"
    trap.write_text(f'#!/bin/sh\necho "$0 $@" >> {ran}\ncat\n')
    trap.chmod(0o755)
    for setting, value in {
        "core.fsmonitor": str(trap),
        "core.hooksPath": str(tmp_path / "hooks"),
        "core.pager": str(trap),
        "core.sshCommand": str(trap),
        "core.askPass": str(trap),
        "diff.external": str(trap),
        "diff.bad.command": str(trap),
        "diff.bad.textconv": str(trap),
        "filter.bad.clean": str(trap),
        "filter.bad.smudge": str(trap),
        "filter.Bad Two.process": str(trap),
        "filter.bad.required": "true",
        "credential.helper": f"!{trap}",
        "alias.diff": f"!{trap}",
        "alias.config": f"!{trap}",
        "remote.origin.url": f"ext::{trap}",
        "remote.origin.promisor": "true",
        "remote.origin.partialclonefilter": "blob:none",
        "extensions.partialClone": "origin",
        "core.repositoryformatversion": "1",
        "protocol.ext.allow": "always",
        "uploadpack.packObjectsHook": str(trap),
        "gpg.program": str(trap),
        "diff.submodule": "diff",
        "status.submoduleSummary": "true",
    }.items():
        git(clone, "config", setting, value)
    (tmp_path / "hooks").mkdir()
    for name in (
        "post-index-change",
        "post-checkout",
        "pre-commit",
        "fsmonitor-watchman",
        "reference-transaction",
    ):
        (tmp_path / "hooks" / name).symlink_to(trap)
        (clone / ".git" / "hooks").mkdir(exist_ok=True)
        (clone / ".git" / "hooks" / name).symlink_to(trap)
    (clone / ".gitattributes").write_text(
        '*.py diff=bad filter=bad\n*.txt filter="Bad Two"\nbinary filter=bad\n'
    )
    (clone / ".git" / "info").mkdir(exist_ok=True)
    (clone / ".git" / "info" / "attributes").write_text("* filter=bad diff=bad\n")
    (clone / "train.py").write_text("print(2)\n")
    (clone / "binary").write_bytes(bytes(256))
    # An object that is not here: a partial clone would fetch it.
    commit = git(clone, "-c", "core.fsmonitor=false", "rev-parse", "HEAD:sub/ö b.txt", check=False)
    (clone / ".git" / "objects" / commit[:2] / commit[2:]).unlink()
    (clone / "sub" / "ö b.txt").write_text("three\n")
    ran.unlink(missing_ok=True)
    environ = {
        **os.environ,
        **IDENTITY,
        "GIT_EXTERNAL_DIFF": str(trap),
        "GIT_PAGER": str(trap),
        "PAGER": str(trap),
    }
    environ["GIT_TRACE"] = str(tmp_path / "trace")
    environ["GIT_SSH_COMMAND"] = environ["GIT_PROXY_COMMAND"] = environ["GIT_ASKPASS"] = str(trap)

    try:
        state = Git(repository(clone), environ, timeout_s=60).state()
    except GitError as error:
        problem = str(error)
    else:
        problem = state.problem

    assert problem, "an object is missing: that cannot go unnoticed"
    assert not ran.exists(), ran.read_text()
    assert not (tmp_path / "trace").exists()

    with subprocess.Popen(
        ["git", "diff"], cwd=clone, env=environ, stdout=subprocess.PIPE, start_new_session=True
    ) as plain:
        deadline = time.monotonic() + 30
        while not ran.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(plain.pid, signal.SIGKILL)
    assert ran.exists(), "the traps do not work: this test says nothing"


def test_what_a_partial_clone_lacks_is_not_fetched(clone: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\necho ran >> {ran}\n")
    trap.chmod(0o755)
    blob = git(clone, "rev-parse", "HEAD:train.py")
    for setting, value in {
        "remote.origin.url": f"ext::{trap}",
        "remote.origin.promisor": "true",
        "extensions.partialClone": "origin",
        "core.repositoryformatversion": "1",
        "protocol.ext.allow": "always",
    }.items():
        git(clone, "config", setting, value)
    (clone / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    (clone / "train.py").write_text("print(2)\n")

    with pytest.raises(GitError):
        state_of(clone)
    assert not ran.exists()

    subprocess.run(
        ["git", "diff"], cwd=clone, env={**os.environ, **IDENTITY}, capture_output=True, check=False
    )
    assert ran.exists(), "the trap does not work: this test says nothing"


def test_filters_that_cannot_be_taken_away_stop_everything(clone: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with (clone / ".git" / "config").open("a") as config:
        config.write(f'[filter "a=b"]\n\tclean = touch {ran}\n')
    (clone / ".gitattributes").write_text("*.py filter=a=b\n")
    (clone / "train.py").write_text("print(2)\n")

    with pytest.raises(GitError, match="filter"):
        state_of(clone)
    assert not ran.exists()


def test_hostile_submodules_start_nothing(clone: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    other = tmp_path / "other"
    git(tmp_path, "init", "-q", str(other))
    (other / "library.py").write_text("one\n")
    git(other, "add", ".")
    git(other, "commit", "-q", "-m", "library")
    git(clone, "submodule", "add", "-q", str(other), "library")
    git(clone, "commit", "-q", "-m", "with a library")
    inside = clone / "library"
    for setting in ("core.fsmonitor", "diff.external", "filter.bad.clean", "diff.bad.textconv"):
        git(inside, "config", setting, f"touch {ran};cat")
    (inside / ".gitattributes").write_text("* filter=bad diff=bad\n")
    (inside / "library.py").write_text("two\n")

    state = state_of(clone)

    assert b"+two\n" in state.patch
    assert not ran.exists()


def test_a_working_tree_that_is_elsewhere_is_not_read(clone: Path, tmp_path: Path) -> None:
    secret = tmp_path / "private"
    secret.mkdir()
    (secret / "train.py").write_text("hush\n")
    git(clone, "config", "core.worktree", str(secret))

    with pytest.raises(GitError, match="elsewhere"):
        state_of(clone)


def test_without_git_the_commit_is_known_all_the_same(clone: Path) -> None:
    found = repository(clone)

    with pytest.raises(GitError, match="no program git"):
        Git(found, {"PATH": ".:relative"}).state()
    assert head_of(found)[1] == "main"


def test_a_git_that_hangs_is_given_up(clone: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nsleep 1000 & sleep 1000\n")
    program.chmod(0o755)

    with pytest.raises(GitError, match="took longer"):
        Git(repository(clone), {"PATH": f"{program.parent}:{os.environ['PATH']}"}, timeout_s=0.3).state()


def test_a_repository_of_somebody_else_gives_its_commit_and_says_why_no_more(clone: Path) -> None:
    require.root()
    os.chown(clone, 12345, 12345)
    os.chown(clone / ".git", 12345, 12345)

    with pytest.raises(GitError, match="dubious ownership"):
        state_of(clone)
    assert len(head_of(repository(clone))[0]) == 40


def run_to_the_end(script: str, directory: Path, spool: Path, **more: str) -> dict[str, Any]:
    """Run a script with code state on; return the helper's RUN fields once it has ended."""
    program = directory / "train.py"
    program.write_text(script)
    environ = {**environment(**{"TRACKER_DIR": str(spool), "TRACKER_DISABLE_CODE": "0", **more}), **IDENTITY}
    subprocess.run([sys.executable, str(program)], cwd=directory, env=environ, check=True)
    return fields_of(spool)


def fields_of(spool: Path) -> dict[str, Any]:
    wait_until_gone(f"TRACKER_DIR={spool}")
    fields: dict[str, Any] = {}
    for stream in reading(spool):
        for record in stream.of(kinds.RUN):
            fields.update(record.fields)
    return fields


def test_a_run_tells_its_code(clone: Path, tmp_path: Path) -> None:
    commit = git(clone, "rev-parse", "HEAD")
    (clone / "notes").write_text("n")

    fields = run_to_the_end("import tracker\ntracker.init(id='run')\n", clone, tmp_path / "spool")

    files = next((tmp_path / "spool").rglob("files"))
    assert fields["code"] == {
        "commit": commit, "branch": "main", "remote": "", "directory": ".", "program": "train.py",
        "dirty": True, "patch": "files/diff.patch", "untracked": 1,
    }  # fmt: skip
    assert "+import tracker" in (files / "diff.patch").read_text()
    assert (files / "untracked.txt").read_text() == "notes\n"
    assert (files / "code" / "train.py").read_text().startswith("import tracker")


@pytest.mark.parametrize(
    ("variable", "value", "missing", "there"),
    [
        ("TRACKER_DISABLE_GIT", "1", "diff.patch", "requirements.txt"),
        ("TRACKER_IGNORE_GLOBS", "diff.*,code/*", "diff.patch", "requirements.txt"),
        ("TRACKER_DISABLE_CODE", "1", "requirements.txt", None),
    ],
)
def test_code_state_can_be_switched_off(
    clone: Path, tmp_path: Path, variable: str, value: str, missing: str, there: str | None
) -> None:
    script = "import tracker\ntracker.init(id='run')\n"

    fields = run_to_the_end(script, clone, tmp_path / "spool", **{variable: value})

    names = {path.name for path in (tmp_path / "spool").rglob("files/*")}
    assert missing not in names
    assert there is None or there in names
    if variable == "TRACKER_DISABLE_GIT":
        assert "code" not in fields or "commit" not in fields["code"]
        assert fields["origin"]["host"]


def test_of_several_ranks_the_first_tells(clone: Path, tmp_path: Path) -> None:
    script = "import tracker\ntracker.init(id='run')\n"

    fields = run_to_the_end(script, clone, tmp_path / "spool", RANK="3")

    assert "origin" not in fields and not list((tmp_path / "spool").rglob("files"))
