"""What the manual pages say besides commands and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

COMMAND = "python -m docs.generator"

#: A paragraph, an example (indented by four), or an entry of a list: its name and what it is.
Part = str | tuple[str, str]


class Page(NamedTuple):
    """One page: (name, section), and its texts."""

    name: tuple[str, int]
    summary: str
    description: tuple[Part, ...]
    sections: Mapping[str, tuple[Part, ...]]


AGENT = Page(
    ("tracker-agent", 1),
    "ships what training runs record, and measures this machine",
    (
        (
            "tracker-agent runs once on each host. It finds what training processes write into the spool, ships it to a "
            "Tracker server exactly once, notices when a training ends or dies, and measures the machine and its GPUs."
        ),
        (
            "It can be killed, upgraded or cut off at any time: everything it has not shipped stays in files, and it "
            "goes on from there. `systemctl start tracker-agent` starts the system's agent; "
            "`tracker-agent run` is what the unit runs."
        ),
    ),
    {
        "EXIT STATUS": (
            ("0", "Done; `run`: stopped by a signal. `check-config`: usable, perhaps with warnings."),
            ("1", "It could not be done; the message says why and what to do."),
            (
                "2",
                (
                    "The command line or the configuration cannot be used. The unit does not start again then: "
                    "`tracker-agent check-config /etc/tracker/agent.toml` says what to do."
                ),
            ),
            ("3", "`status` and other commands that ask the running agent: none runs."),
        ),
        "SIGNALS": (
            (
                "SIGTERM, SIGINT",
                "Stop within 10 seconds. A second one ends the agent at once; nothing is lost.",
            ),
            ("SIGHUP", "Read the configuration anew, as `systemctl reload tracker-agent` does."),
        ),
        "ENVIRONMENT": (
            ("TRACKER_AGENT_CONFIG", "The config file, where --config names none."),
            (
                "TRACKER_AGENT_<SECTION>_<NAME>",
                "A setting, as in TRACKER_AGENT_SERVER_URL; it wins over the file.",
            ),
            ("HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY", "The proxy, where server.proxy names none."),
            (
                "SSL_CERT_FILE, REQUESTS_CA_BUNDLE",
                "The authorities to trust, where server.ca_file names none.",
            ),
        ),
        "FILES": (
            ("/etc/tracker/agent.toml", "The settings of the system's agent; see tracker-agent.toml(5)."),
            (
                "/etc/tracker/agent-key",
                "The API key with the scope ingest, in one line: root's, mode 0600. The unit hands it over.",
            ),
            ("/var/spool/tracker", "Where training processes write: <uid>/<run id>/*.mpl."),
            (
                "/var/lib/tracker-agent",
                "The agent's own state; a cache, safe to delete while it does not run.",
            ),
        ),
        "EXAMPLES": (
            "Check a configuration, its unit, and whether the server takes the key:",
            "    tracker-agent check-config --online /etc/tracker/agent.toml",
            "See what is shipped and what waits, and why:",
            "    tracker-agent status",
            "Ship runs that were written on a machine without an agent:",
            "    tracker-agent sync --server https://tracker.example.org --key-file key DIRECTORY",
        ),
        "SEE ALSO": ("tracker-agent.toml(5), tracker(1), tracker-server(1), journalctl(1), systemctl(1)",),
    },
)

SERVER = Page(
    ("tracker-server", 1),
    "stores training runs and shows them live in a browser",
    (
        (
            "tracker-server takes what agents ship, keeps it in an embedded store in one directory, and serves charts, "
            "logs and files of runs over HTTP. `systemctl start tracker-server` starts the packaged one. It makes an admin "
            "key at its first start; `tracker-server signin-link` signs a browser in, and "
            "`tracker-server key create` makes the keys that agents ship with."
        ),
        (
            "The commands besides `run` work on the data directory, so run them as the server's user: "
            "`sudo -u tracker-server tracker-server signin-link --config /etc/tracker/server.toml`."
        ),
    ),
    {
        "EXIT STATUS": (
            ("0", "Done; `run`: stopped by a signal. `check-config`: usable, perhaps with warnings."),
            ("1", "`check-config --strict`: there are warnings."),
            ("2", "It could not be done, or the settings cannot be used; the message says what to do."),
        ),
        "SIGNALS": (
            ("SIGTERM, SIGINT", "Finish the requests in flight, at most http.shutdown_s, and stop."),
        ),
        "ENVIRONMENT": (
            ("TRACKER_SERVER_CONFIG", "The config file, where --config names none."),
            ("TRACKER_SERVER_DATA", "The data directory; it wins over the file."),
            ("TRACKER_SERVER_<SECTION>_<NAME>", "A setting, as in TRACKER_SERVER_HTTP_PORT."),
        ),
        "FILES": (
            ("/etc/tracker/server.toml", "The settings of the packaged server; see tracker-server.toml(5)."),
            ("/var/lib/tracker-server", "Its data: the database, files by digest, and the first admin key."),
        ),
        "SEE ALSO": ("tracker-server.toml(5), tracker-agent(1), tracker(1), systemctl(1)",),
    },
)

TRACKER = Page(
    ("tracker", 1),
    "looks after the runs recorded on this machine",
    (
        (
            "tracker comes with the shim, the library that training scripts import. It runs programs and records how they "
            "go, logs values from shell scripts, and shows, checks and ships what was recorded."
        ),
    ),
    {
        "EXIT STATUS": (
            ("0", "Done."),
            ("1", "It could not be done."),
            ("2", "It was called wrongly."),
            ("other", "`tracker run` and `tracker sync` end as their program does."),
        ),
        "ENVIRONMENT": (
            ("TRACKER_DIR", "The spool to write runs to."),
            (
                "TRACKER_PROJECT, TRACKER_MODE and more",
                "Settings of runs: see the documentation of the shim.",
            ),
        ),
        "FILES": (
            ("/var/spool/tracker", "Runs, where the system's agent set it up."),
            ("~/.local/state/tracker/spool", "Runs, elsewhere."),
            (".tracker/settings, ~/.config/tracker/settings", "Settings of runs, written by `tracker init`."),
        ),
        "SEE ALSO": ("tracker-agent(1), tracker-server(1)",),
    },
)

AGENT_TOML = Page(
    ("tracker-agent.toml", 5),
    "settings of the Tracker agent",
    (
        (
            "The settings of tracker-agent(1) stand in a TOML file, /etc/tracker/agent.toml for the system's agent and "
            "~/.config/tracker/agent.toml for an agent of one's own. A flag of `tracker-agent run` stands before a variable "
            "of the environment, a variable before the file, the file before the default. Lists in variables are "
            'separated by colons, server.headers by line ends. Sizes are bytes, or texts such as "64 MiB".'
        ),
        (
            "A misspelt setting is an error, not ignored. `tracker-agent check-config FILE` tells all that is wrong, with "
            "line and remedy. A reload is `systemctl reload tracker-agent`, a restart `systemctl restart tracker-agent`; "
            "nothing is lost by either."
        ),
        "Below, each setting stands with its default.",
    ),
    {
        "EXAMPLES": (
            '    [server]\n    url = "https://tracker.example.org"\n\n    [limits]\n    spool_bytes_per_user = "100 GiB"',
        ),
        "FILES": (("/etc/tracker/agent.toml", "The system's agent."), ("/etc/tracker/agent-key", "Its key.")),
        "SEE ALSO": ("tracker-agent(1), tmpfiles.d(5)",),
    },
)

SERVER_TOML = Page(
    ("tracker-server.toml", 5),
    "settings of the Tracker server",
    (
        (
            "The settings of tracker-server(1) stand in a TOML file, /etc/tracker/server.toml for the packaged server. A "
            "flag of `tracker-server run` stands before a variable of the environment, a variable before the file, the file "
            "before the default. Lists in variables are separated by commas. Changes take effect when the server is "
            "restarted; agents keep what they have meanwhile."
        ),
        (
            "A misspelt setting is an error, not ignored. `tracker-server check-config --config FILE` tells all that is "
            "wrong, with line and remedy."
        ),
        "Below, each setting stands with its default.",
    ),
    {
        "EXAMPLES": (
            '    data = "/var/lib/tracker-server"\n\n    [http]\n    public_url = "https://tracker.example.org"',
        ),
        "SEE ALSO": ("tracker-server(1)",),
    },
)
