"""Scripts that know this package as wandb: its variables and its defaults count for them. On every Python."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from recording import Recording

from tracker.protocol import kinds

VARIABLES = {
    "WANDB_PROJECT": "theirs",
    "WANDB_ENTITY": "team",
    "WANDB_NAME": "named",
    "WANDB_NOTES": "n",
    "WANDB_TAGS": "a,b",
    "WANDB_RUN_GROUP": "g",
    "WANDB_JOB_TYPE": "train",
    "WANDB_RUN_ID": "id1",
}


class WandbNames(Recording):
    def test_wandb_variables_count_for_scripts_that_import_tracker_as_wandb(self):
        self.run_script("import tracker as wandb\nwandb.init()\n", **VARIABLES)
        self.run_script(
            "def main():\n    import tracker as wandb\n    wandb.init(id='id2')\nmain()\n",
            TRACKER_PROJECT="ours",
            **VARIABLES,
        )
        self.run_script(
            "import tracker, tracker._session\ntracker._session.wandb_names = True\ntracker.init()\n",
            **dict(VARIABLES, WANDB_RUN_ID="id3"),
        )

        one, two, three = [stream.of(kinds.RUN)[0].fields for stream in self.streams()]
        self.assertEqual(
            one,
            {
                "project": "theirs",
                "entity": "team",
                "name": "named",
                "notes": "n",
                "tags": ["a", "b"],
                "group": "g",
                "job_type": "train",
            },
        )
        self.assertEqual((two["project"], two["name"], three["project"]), ("ours", "named", "theirs"))
        self.assertEqual([stream.header.run for stream in self.streams()], ["id1", "id2", "id3"])

    def test_wandb_variables_do_not_count_for_others(self):
        self.run_script("import tracker\ntracker.init()\n", WANDB_MODE="disabled", **VARIABLES)

        self.assertEqual(self.stream().of(kinds.RUN)[0].fields["project"], "uncategorized")

    def test_modes_of_wandb_are_understood(self):
        for variable, mode in (("WANDB_MODE", "dryrun"), ("WANDB_MODE", "run"), ("WANDB_DISABLED", "true")):
            out, _ = self.run_script(
                "import tracker as wandb\nprint(wandb.init().mode)\n", **{variable: mode}
            )
            self.assertEqual(out.strip(), {"dryrun": "offline", "run": "online"}.get(mode, "disabled"))

    def test_keys_and_addresses_of_another_service_are_left_alone(self):
        _, err = self.run_script(
            """
            import tracker as wandb
            run = wandb.init()
            assert run._place.account is None and run._place.server is None, run._place
            assert wandb.login() is True
            assert wandb.login(key="0123456789abcdef0123456789abcdef01234567") is False
            """,
            WANDB_API_KEY="0123456789abcdef0123456789abcdef01234567",
            WANDB_BASE_URL="https://api.wandb.ai",
        )

        self.assertIn("no key of a Tracker server", err)
        self.assertNotIn("credentials", os.listdir(os.path.join(self.spool, "spool", str(os.geteuid()))))

    def test_a_key_of_a_tracker_server_is_kept_for_the_agent(self):
        self.run_script(
            """
            import tracker
            assert tracker.login(key="tk_0a1b2c3d_secret") is True
            tracker.init()
            """
        )

        with open(os.path.join(self.spool, "spool", str(os.geteuid()), "credentials")) as file:
            self.assertIn("tk_0a1b2c3d_secret", file.read())

    def test_dir_does_not_lead_a_run_away_from_the_agent_and_names_the_files(self):
        self.run_script(
            """
            import os, tracker as wandb
            os.mkdir("logs")
            run = wandb.init(dir="logs")
            assert os.listdir("logs") == [] and run.dir == os.path.join(run.directory, "files")
            with open(os.path.join(run.dir, "model.pt"), "w") as file:
                file.write("x")
            run = wandb.init(dir="logs", mode="offline", reinit=True)
            assert os.listdir("logs") != []
            """
        )

        self.assertEqual(len(self.streams()), 1)

    def test_a_second_init_returns_the_open_run_as_it_does_there(self):
        self.run_script(
            """
            import tracker as wandb
            run = wandb.init()
            assert wandb.init(project="x") is run
            wandb.finish()
            assert wandb.init() is not run
            """
        )

    def test_a_script_as_wandb_has_it_runs_unchanged(self):
        _, err = self.run_script(
            """
            import random
            import tracker as wandb

            wandb.login()
            wandb.require("service")
            wandb.init(
                entity="my-team", project="my-project", notes="first", tags=["baseline", "paper1"],
                config={"learning_rate": 0.02, "architecture": "CNN", "epochs": 3}, reinit=True,
                settings=wandb.Settings(start_method="thread", _disable_stats=True),
            )
            wandb.config.batch_size = 32
            wandb.config.update({"dropout": 0.1}, allow_val_change=True)
            wandb.define_metric("val_loss", summary="min")
            wandb.run.name = "renamed"
            wandb.run.log_code(".") if False else None
            for epoch in range(wandb.config.epochs):
                wandb.log({"loss": 1.0 / (epoch + 1), "acc": random.random()}, commit=False)
                wandb.log({"val_loss": 3.0 - epoch})
            wandb.summary["best"] = 3
            wandb.run.summary.update({"more": 4})
            if not wandb.run.resumed and wandb.run.sweep_id is None:
                wandb.termlog("done")
            try:
                wandb.sweep({})
            except wandb.Error as error:
                print(error)
            wandb.run.finish()
            assert wandb.run is None
            """
        )

        self.assertNotIn("warning", err)
        self.assertEqual([step for step, _ in self.stream().metrics], [0, 0, 1, 1, 2, 2])


if __name__ == "__main__":
    unittest.main()
