"""Charts: what is drawn is what was logged, live, in order, zoomed, smoothed, and only where one looks."""

from __future__ import annotations

import math
import re

from playwright.sync_api import Locator, Page, expect

from tests.support.pushed_stream import PushedStream
from tests.support.server_process import ServerProcess

SECOND = 10**9


def chart(page: Page, metric: str) -> Locator:
    """Return the chart of a metric."""
    return page.locator(f'[data-chart][data-metric="{metric}"]')


def painted(of: Locator) -> int:
    """Return how many pixels of a chart's canvas are not empty."""
    pixels: int = of.locator("canvas").evaluate(
        """canvas => {
            const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            let count = 0;
            for (let i = 3; i < data.length; i += 4) count += data[i] > 0;
            return count;
        }"""
    )
    return pixels


def test_chart_draws_every_logged_point(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "points", "charts")
    for step in range(100):
        run.log(step, {"loss": 1 / (step + 1)})
    run.push()

    page.goto(server.url + run.path)

    loss = chart(page, "loss")
    expect(loss).to_have_attribute("data-last-step", "99")
    expect(loss).to_have_attribute("data-points", "100")
    expect(loss).to_have_attribute("data-last-value", "0.01")
    assert painted(loss) > 1000


def test_value_logged_while_one_looks_is_drawn_without_a_reload(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "live", "charts").log(0, {"loss": 1.0}).push()
    page.goto(server.url + run.path)
    expect(chart(page, "loss")).to_have_attribute("data-last-step", "0")
    page.evaluate("window.sameDocument = true")

    for step in range(1, 6):
        run.log(step, {"loss": 1.0 / (step + 1)}).push()
        expect(chart(page, "loss")).to_have_attribute("data-last-step", str(step))

    expect(chart(page, "loss")).to_have_attribute("data-points", "6")
    assert page.evaluate("window.sameDocument")


def test_live_tick_fetches_only_new_points(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "cheap", "charts")
    for step in range(300):
        run.log(step, {"a": float(step), "b": float(step)})
    run.push()
    page.goto(server.url + run.path)
    expect(chart(page, "b")).to_have_attribute("data-last-step", "299")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    run.log(300, {"a": 1.0, "b": 2.0}).push()
    expect(chart(page, "b")).to_have_attribute("data-last-step", "300")

    assert not [url for url in asked if "/series?" in url]
    points = [url for url in asked if "/points?" in url]
    assert points
    assert all("metric=a&metric=b" in url for url in points)


def test_metric_that_appears_later_gets_a_chart(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "later", "charts").log(0, {"loss": 1.0}).push()
    page.goto(server.url + run.path)
    expect(chart(page, "loss")).to_have_attribute("data-last-step", "0")

    run.log(1, {"val/accuracy": 0.5}).push()

    expect(chart(page, "val/accuracy")).to_have_attribute("data-last-value", "0.5")


def test_run_without_metrics_says_so_and_then_shows_the_first(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "blank", "charts").push()
    page.goto(server.url + run.path)
    expect(page.get_by_text("No metrics yet.")).to_be_visible()

    run.log(0, {"loss": 3.0}).push()

    expect(chart(page, "loss")).to_have_attribute("data-last-value", "3")


def test_steps_that_arrive_late_are_sorted_in_and_the_last_of_a_step_wins(
    page: Page, server: ServerProcess
) -> None:
    run = PushedStream(server, "late", "charts").log(10, {"loss": 1.0}).push()
    page.goto(server.url + run.path)
    expect(chart(page, "loss")).to_have_attribute("data-points", "1")

    run.log(5, {"loss": 5.0}).log(20, {"loss": 2.0}).log(20, {"loss": 3.0}).push()

    expect(chart(page, "loss")).to_have_attribute("data-points", "3")
    expect(chart(page, "loss")).to_have_attribute("data-last-step", "20")
    expect(chart(page, "loss")).to_have_attribute("data-last-value", "3")


def test_nan_and_infinity_are_marked_not_dropped(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "nan", "charts")
    for step, value in enumerate((1.0, math.nan, math.inf, 0.5)):
        run.log(step, {"loss": value})
    run.push()

    page.goto(server.url + run.path)

    expect(chart(page, "loss")).to_have_attribute("data-points", "4")
    expect(chart(page, "loss")).to_contain_text("2 NaN/Inf")


def test_long_series_is_drawn_in_buckets_with_a_band_and_zooming_asks_for_finer_data(
    page: Page, server: ServerProcess
) -> None:
    run = PushedStream(server, "long", "charts")
    for step in range(20_000):
        run.log(step, {"loss": math.sin(step / 900) + (step % 7) / 10})
    run.push()
    page.goto(server.url + run.path)
    loss = chart(page, "loss")
    expect(loss).to_have_attribute("data-last-step", "19999")
    expect(loss).to_have_attribute("data-band", "true")
    buckets = int(loss.get_attribute("data-points") or 0)
    assert 200 <= buckets <= 600

    box = loss.locator(".u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.52, box["y"] + 60, steps=4)
    page.mouse.up()

    expect(loss).to_have_attribute("data-band", "false")
    expect(page).to_have_url(re.compile(r"from=\d+&to=\d+"))
    zoomed_to = int(loss.get_attribute("data-last-step") or 0)
    assert 10_000 <= zoomed_to <= 10_500
    page.reload()
    expect(loss).to_have_attribute("data-last-step", str(zoomed_to))
    loss.locator(".u-over").dblclick()
    expect(loss).to_have_attribute("data-last-step", "19999")
    assert "from=" not in page.url


def test_live_points_beyond_the_bucket_count_are_bucketed_again(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "growing", "charts")
    for step in range(400):
        run.log(step, {"loss": float(step)})
    run.push()
    page.goto(server.url + run.path)
    loss = chart(page, "loss")
    expect(loss).to_have_attribute("data-points", "400")

    for begin in range(400, 2400, 200):
        for step in range(begin, begin + 200):
            run.log(step, {"loss": float(step)})
        run.push()

    expect(loss).to_have_attribute("data-last-step", "2399")
    page.wait_for_function(
        """() => Number(document.querySelector('[data-metric="loss"]').dataset.points) <= 1000"""
    )
    expect(loss).to_have_attribute("data-last-step", "2399")


def test_smoothing_axis_and_scale_are_in_the_address_and_remembered(
    page: Page, server: ServerProcess
) -> None:
    run = PushedStream(server, "settings", "charts")
    for step in range(50):
        run.log(step, {"loss": 1 / (step + 1)}, run.started + step * SECOND)
    run.push()
    page.goto(server.url + run.path)
    expect(chart(page, "loss")).to_have_attribute("data-points", "50")

    page.get_by_label("Smoothing").fill("0.6")
    page.get_by_text("Elapsed").click()
    page.get_by_role("button", name="Log y").click()

    expect(page).to_have_url(re.compile(r"smooth=0.6&x=relative&y=log"))
    expect(chart(page, "loss")).to_have_attribute("data-points", "50")
    page.goto(server.url + run.path)
    expect(page.get_by_label("Smoothing")).to_have_value("0.6")
    expect(page.get_by_role("button", name="Log y")).to_have_attribute("aria-pressed", "true")


def test_pointing_at_a_chart_shows_the_exact_value_there(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "tooltip", "charts")
    for step in range(11):
        run.log(step, {"loss": step + 0.123456789, "other": float(step)})
    run.push()
    page.goto(server.url + run.path)
    expect(chart(page, "other")).to_have_attribute("data-points", "11")

    chart(page, "loss").locator(".u-over").hover()

    expect(chart(page, "loss").get_by_role("term").filter(has_text="step")).to_be_visible()
    expect(chart(page, "loss")).to_contain_text("5.123456789")
    # The crosshair of the other chart stands at the same step.
    expect(chart(page, "other").locator("output")).to_have_text("5")


def test_a_thousand_metrics_draw_only_what_is_near_the_screen(page: Page, server: ServerProcess) -> None:
    names = [f"layer{number // 25:02}/weight{number % 25:02}" for number in range(1000)]
    run = PushedStream(server, "thousand", "charts")
    for step in range(5):
        run.log(step, {name: float(step) for name in names})
    run.push()

    page.goto(server.url + run.path)

    expect(chart(page, names[0])).to_have_attribute("data-last-step", "4")
    assert page.locator("[data-chart]").count() == 1000
    assert page.locator("[data-chart] canvas").count() < 60
    chart(page, names[999]).scroll_into_view_if_needed()
    expect(chart(page, names[999])).to_have_attribute("data-last-step", "4")
    assert page.locator("[data-chart] canvas").count() < 100


def test_groups_collapse_and_search_finds_metrics(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "groups", "charts")
    run.log(0, {f"{group}/m{number}": 1.0 for group in ("train", "val") for number in range(8)}).push()
    page.goto(server.url + run.path)
    expect(chart(page, "train/m0")).to_be_visible()

    page.get_by_role("button", name="train 8").click()
    expect(chart(page, "train/m0")).to_have_count(0)
    page.get_by_label("Find metrics").fill("val m7")

    expect(page.locator("[data-chart]")).to_have_count(1)
    expect(chart(page, "val/m7")).to_be_visible()
    expect(page).to_have_url(re.compile("metric=val"))


def test_hidden_tab_closes_its_event_stream_and_catches_up_when_shown(
    page: Page, server: ServerProcess
) -> None:
    run = PushedStream(server, "hidden", "charts").log(0, {"loss": 1.0}).push()
    page.add_init_script(
        """{
            const Real = window.EventSource;
            window.openSources = 0;
            window.EventSource = class extends Real {
                constructor(url) { super(url); window.openSources++; }
                close() { if (this.readyState !== 2) window.openSources--; super.close(); }
            };
            let hidden = false;
            Object.defineProperty(document, "hidden", {get: () => hidden});
            window.setHidden = value => {
                hidden = value;
                document.dispatchEvent(new Event("visibilitychange"));
            };
        }"""
    )
    page.goto(server.url + run.path)
    expect(chart(page, "loss")).to_have_attribute("data-last-step", "0")
    assert page.evaluate("window.openSources") == 1

    page.evaluate("window.setHidden(true)")
    assert page.evaluate("window.openSources") == 0
    run.log(1, {"loss": 0.5}).push()
    page.evaluate("window.setHidden(false)")

    expect(chart(page, "loss")).to_have_attribute("data-last-step", "1")
    assert page.evaluate("window.openSources") == 1
