"""The UI's files: served from their directory and nowhere else, and never required."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracker_server.web.ui import Ui


@pytest.fixture
def built(tmp_path: Path) -> Path:
    directory = tmp_path / "static"
    (directory / "assets").mkdir(parents=True)
    (directory / "index.html").write_text("<title>the app</title>")
    (directory / "theme.js").write_text("1")
    (directory / "assets" / "app-123.js").write_text("2")
    (tmp_path / "secret").write_text("secret")
    (directory / "link").symlink_to(tmp_path / "secret")
    return directory


def served(ui: Ui, path: str) -> str:
    """Return the file name an answer carries."""
    response = ui.respond(path)
    return Path(str(getattr(response, "_path", "-"))).name


@pytest.mark.parametrize("path", ["/", "/signin", "/runs/abc", "/default/project/run", "/none.js"])
def test_the_ui_routes_its_own_paths(built: Path, path: str) -> None:
    assert served(Ui(built), path) == "index.html"
    assert Ui(built).respond(path).headers["Cache-Control"] == "no-cache"


def test_files_are_served_and_only_hashed_ones_are_kept_for_ever(built: Path) -> None:
    ui = Ui(built)

    assert served(ui, "/theme.js") == "theme.js"
    assert ui.respond("/theme.js").headers["Cache-Control"] == "no-cache"
    assert served(ui, "/assets/app-123.js") == "app-123.js"
    assert "immutable" in ui.respond("/assets/app-123.js").headers["Cache-Control"]


def test_an_asset_of_an_older_build_is_missing_not_html(built: Path) -> None:
    assert Ui(built).respond("/assets/app-000.js").status == 404


@pytest.mark.parametrize(
    "path",
    ["/../secret", "/assets/../../secret", "//etc/passwd", "/link", "/\0", "/..\\secret", "/" + "x" * 5000],
)
def test_nothing_outside_the_directory_is_served(built: Path, path: str) -> None:
    assert served(Ui(built), path) in ("index.html", "-")


def test_without_a_built_ui_a_page_says_how_to_build_it(tmp_path: Path) -> None:
    response = Ui(tmp_path / "none").respond("/")

    assert "make ui" in str(getattr(response, "text", ""))
