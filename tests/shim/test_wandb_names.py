"""The module wandb of tracker-wandb, without any of the libraries that import it."""

from pathlib import Path

import pytest

from tests.shim.scripts import run_script

ROOT = Path(__file__).resolve().parents[2]
PATHS = f"{ROOT / 'shim-wandb' / 'src'}:{ROOT / 'shim' / 'src'}"

#: Everything that transformers, Lightning, accelerate, ultralytics and others were seen to touch.
ATTRIBUTES = """
__version__ Api Artifact Audio CommError Error Histogram Html Image Molecule Object3D Plotly Run Settings
Table UsageError Video AlertLevel alert config define_metric finish init link_model log log_artifact
log_code log_model login mark_preempting plot_table require restore run save setup summary teardown
termerror termlog termwarn unwatch upsert_artifact use_artifact use_model watch _attach sweep agent
controller apis.Api apis.PublicApi apis.public.Api data_types.Image data_types.Table data_types.WBValue
env.PROJECT env.get_project errors.AuthenticationError errors.CommError errors.Error errors.UsageError
errors.UnsupportedError errors.term.termwarn integration plot.bar plot.line plot.scatter plot.histogram
plot.line_series plot.pr_curve plot.roc_curve plot.confusion_matrix sdk.Artifact sdk.Run sdk.Settings
sdk.artifacts.artifact.Artifact sdk.data_types.Image sdk.lib.RunDisabled sdk.lib.config_util.ConfigError
sdk.lib.disabled.SummaryDisabled sdk.lib.runid.generate_id sdk.lib.telemetry.context
sdk.wandb_artifacts.Artifact sdk.wandb_config.Config sdk.wandb_init.init sdk.wandb_login.login
sdk.wandb_run.Run sdk.wandb_settings.Settings sdk.wandb_setup.setup sdk.wandb_summary.Summary
sdk.wandb_watch.watch util.generate_id util.get_module util.json_dumps_safer util.make_artifact_name_safe
wandb_run.Run
"""


def run_with_wandb(script: str, spool: Path, **more: str) -> tuple[str, str]:
    return run_script(script, PYTHONPATH=PATHS, TRACKER_DIR=str(spool), TRACKER_SILENT="1", **more)


def test_every_name_that_libraries_take_is_there(tmp_path: Path) -> None:
    out, _ = run_with_wandb(
        f"""
        import importlib, wandb
        for path in {ATTRIBUTES!r}.split():
            module, _, name = path.rpartition(".")
            found = importlib.import_module("wandb." + module if module else "wandb")
            try:
                getattr(found, name)
            except AttributeError:
                print("missing", path)
        print("looked at all")
        """,
        tmp_path,
    )

    assert out == "looked at all\n"


def test_modules_are_there_without_being_imported_by_name(tmp_path: Path) -> None:
    out, _ = run_with_wandb(
        """
        import wandb
        assert wandb.sdk.wandb_run.Run is wandb.wandb_run.Run is wandb.sdk.Run is wandb.Run
        assert wandb.sdk.lib.telemetry.context and wandb.sdk.lib.config_util.ConfigError
        assert wandb.sdk.data_types.Image is wandb.data_types.Image is wandb.Image
        assert wandb.errors.term.termlog is wandb.termlog
        assert len(wandb.util.generate_id()) == 8
        print("as it should be")
        """,
        tmp_path,
    )

    assert out == "as it should be\n"


def test_names_are_trackers_own_and_always_those_of_the_current_run(tmp_path: Path) -> None:
    out, _ = run_with_wandb(
        """
        import tracker, wandb
        assert wandb.init is tracker.init and wandb.plot is tracker.plot and wandb.Image is tracker.Image
        assert wandb.run is None
        first = wandb.init(project="p", config={"lr": 1})
        assert wandb.run is first is tracker.run and wandb.config.lr == 1 and wandb.config is first.config
        wandb.log({"loss": 2.0})
        assert dict(wandb.summary) == {"loss": 2.0}
        assert wandb.init(project="p") is first
        second = wandb.init(project="p", reinit=True)
        assert second is not first and wandb.run is second
        assert wandb.config is second.config and wandb.summary is second.summary
        wandb.finish()
        assert wandb.run is None
        print("as it should be")
        """,
        tmp_path,
    )

    assert out == "as it should be\n"


def test_only_disabled_runs_are_instances_of_run_disabled(tmp_path: Path) -> None:
    out, _ = run_with_wandb(
        """
        import wandb
        from wandb.sdk.lib import RunDisabled
        from wandb.wandb_run import Run
        for mode in ("online", "disabled"):
            run = wandb.init(project="p", mode=mode, reinit=True)
            summary = isinstance(run.summary, wandb.sdk.Summary)
            print(isinstance(run, Run), isinstance(run, RunDisabled), summary)
        print(isinstance(None, RunDisabled))
        """,
        tmp_path,
    )

    assert out == "True False True\nTrue True True\nFalse\n"


def test_telemetry_takes_anything_and_keeps_nothing(tmp_path: Path) -> None:
    out, _ = run_with_wandb(
        """
        from wandb.sdk.lib import telemetry
        with telemetry.context(run=None) as tel:
            tel.feature.keras_metrics_logger = True
            tel.env.deeper.still = 1
        print(vars(tel))
        """,
        tmp_path,
    )

    assert out == "{}\n"


def test_name_that_is_not_there_says_whose_module_this_is(tmp_path: Path) -> None:
    out, _ = run_with_wandb(
        """
        import wandb
        print(hasattr(wandb, "__wrapped__"))
        try:
            wandb.no_such_thing
        except AttributeError as error:
            print(error)
        """,
        tmp_path,
    )

    assert out.startswith(
        "False\nmodule 'wandb' has no attribute 'no_such_thing' (this is the one of tracker-wandb"
    )


def test_run_goes_where_the_agent_looks_whatever_dir_says(tmp_path: Path) -> None:
    """Lightning always passes dir, the directory that its own files go into."""
    script = """
        import os, wandb
        run = wandb.init(project="p", dir="elsewhere", anonymous="allow", resume="allow")
        with open(os.path.join(run.dir, "model.bin"), "w") as file:
            file.write("kept")
        print(run.dir)
        """

    out, _ = run_with_wandb(script, tmp_path, WANDB_DIR=str(tmp_path / "other"))

    directory = Path(out.strip())
    assert directory.is_relative_to(tmp_path)
    assert directory.name == "files", "what lies there is kept with the run"
    assert directory.parent.parent.parent == tmp_path
    assert not (tmp_path / "other").exists()


def test_run_can_be_attached_by_its_id_string(tmp_path: Path) -> None:
    out, _ = run_with_wandb(
        """
        import subprocess, sys, wandb
        run = wandb.init(project="p", name="both")
        run._label(code="some_library")
        assert type(run._attach_id) is str
        child = "import sys, wandb; run = wandb._attach(sys.argv[1]); run.log({1: 1}); print(run.id)"
        print(run.id)
        sys.stdout.flush()
        subprocess.check_call([sys.executable, "-c", child, run._attach_id])
        """,
        tmp_path,
    )

    here, there = out.splitlines()
    assert here == there


@pytest.mark.parametrize(
    ("beside", "warned"), [("wandb-0.31.0.dist-info", True), ("wandb-0.1+tracker.0.dist-info", False)]
)
def test_real_client_beside_it_is_told_of(tmp_path: Path, beside: str, warned: bool) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "wandb").symlink_to(ROOT / "shim-wandb" / "src" / "wandb")
    (site / beside).mkdir()

    _, err = run_script(
        "import wandb", PYTHONPATH=f"{site}:{ROOT / 'shim' / 'src'}", TRACKER_DIR=str(tmp_path)
    )

    assert ("both wandb and tracker-wandb are installed" in err) is warned


def test_import_of_wandb_stays_cheap(tmp_path: Path) -> None:
    out, _ = run_with_wandb(
        """
        import sys, wandb
        costly = {"typing", "re", "json", "subprocess", "socket", "msgpack"}
        print(sorted(costly & set(sys.modules)))
        """,
        tmp_path,
        PYTHONNOUSERSITE="1",
    )

    assert out == "[]\n"
