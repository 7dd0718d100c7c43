"""How it looks: light and dark, wide and narrow. Screenshots are kept for people to judge."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import Pages
from tests.support.pushed_stream import PushedStream
from tests.support.server_process import ServerProcess
from tracker.protocol import bodies, kinds

Keep = Callable[[Page, str], None]
SECOND = 10**9
STEPS = 3000
WIDE = {"width": 1440, "height": 900}
NARROW = {"width": 390, "height": 800}


@pytest.fixture(scope="module")
def training(server: ServerProcess) -> PushedStream:
    """A run that looks like a real one, with three others of other fates around it."""
    noise = random.Random(7)
    start = time.time_ns() - STEPS * SECOND
    run = PushedStream(
        server, "k3v9x2m4qa", "vision", name="amber-falcon-12", tags=["baseline", "bf16"], started=start
    )
    run.config({"model": {"name": "resnet50", "width": 64}, "optimizer": {"lr": 0.0003}, "batch_size": 256})
    for step in range(STEPS):
        at = start + step * SECOND
        loss = 2.4 * math.exp(-3 * step / STEPS) + 0.12 + noise.gauss(0, 0.05)
        values = {
            "train/loss": math.nan if 1500 <= step < 1503 else loss,
            "train/grad_norm": abs(noise.gauss(1, 0.3)) + (8 if noise.random() < 0.002 else 0),
            "train/lr": 3e-4 * min(1, step / 300) * (0.5 + 0.5 * math.cos(math.pi * step / STEPS)),
        }
        if step % 150 == 0:
            values["val/accuracy"] = 0.93 - 0.8 * math.exp(-4 * step / STEPS)
        run.log(step, values, at)
        if step % 30 == 0:
            run.print(f"\x1b[2m[{step:5d}]\x1b[0m loss \x1b[1m{loss:.4f}\x1b[0m")
    run.print("\x1b[33mUserWarning: dataloader worker 3 is slow\x1b[0m", stream="stderr")
    run.push()
    sample_machine(server, run, start, noise)
    PushedStream(server, "failed-1", "vision", name="tidy-wren-4", user="jon").log(
        80, {"train/loss": 0.9}
    ).exit(1, {"type": "RuntimeError", "message": "CUDA out of memory", "traceback": "Traceback …"}).push()
    PushedStream(server, "finished-1", "vision", name="quiet-moss-1").log(900, {"train/loss": 0.3}).exit(
        0
    ).push()
    lossy = PushedStream(server, "lossy-1", "vision", name="brisk-heron-9").log(900, {"train/loss": 0.3})
    lossy.gap(5120, "damage: checksum differs")
    return run


def sample_machine(server: ServerProcess, run: PushedStream, start: int, noise: random.Random) -> None:
    """Send what an agent samples of a machine with eight GPUs, of which the run has two."""
    gpus = [{"index": index, "uuid": f"GPU-{index}", "name": "NVIDIA H200"} for index in range(8)]
    agent = PushedStream(server, None)
    agent.record(kinds.HOST, bodies.Host(run.started, {"cpu": {"cores": 192}, "gpus": gpus}).encode())
    gib = 2.0**30

    def windows(values: dict[str, tuple[float, float]]) -> dict[str, bodies.Window]:
        made = {}
        for name, (mean, spread) in values.items():
            value = max(0.0, mean + noise.gauss(0, spread / 2))
            made[name] = (value, max(0.0, value - spread), value + spread, value, 15)
        return made

    for number in range(100):
        at = start + number * 30 * SECOND
        wave = math.sin(number / 9)
        machine: dict[str, tuple[float, float]] = {
            "host.cpu.percent": (35 + 10 * wave, 5),
            "host.cpu.core_max.percent": (97, 3),
            "host.cpu.iowait.percent": (1.5 + wave, 0.5),
            "host.cpu.load1": (64 + 8 * wave, 2),
            "host.cpu.context_switches_per_s": (52_000, 900),
            "host.cpu.interrupts_per_s": (31_000, 500),
            "host.cpu.forks_per_s": (12, 3),
            "host.memory.percent": (41 + number / 20, 0.1),
            "host.memory.used.bytes": ((800 + number) * gib, gib),
            "host.memory.dev_shm.percent": (12, 0.2),
            "host.pressure.io.some.percent": (2 + wave, 0.8),
            "host.disk.read.bytes_per_s": (1.4e9 + 4e8 * wave, 9e7),
            "host.disk.written.bytes_per_s": (2e7, 8e6),
            "host.disk.wait_max.seconds": (0.0004, 0.0001),
            "host.network.received.bytes_per_s": (3.1e9, 2e8),
            "host.network.sent.bytes_per_s": (2.9e9, 2e8),
            "host.tcp.retransmits.percent": (0.02, 0.01),
            "host.thermal.cpu.celsius": (71 + 3 * wave, 1),
        }
        for gpu in range(8):
            busy = gpu in (2, 3)
            machine |= {
                f"host.gpu.{gpu}.utilization.percent": (93 + 4 * wave if busy else 0, 4 if busy else 0),
                f"host.gpu.{gpu}.memory.used.bytes": ((112 if busy else 1) * gib, gib / 9),
                f"host.gpu.{gpu}.tensor.active.percent": (48 + 9 * wave if busy else 0, 3 if busy else 0),
                f"host.gpu.{gpu}.power.watts": (640 + 30 * wave if busy else 75, 20),
                f"host.gpu.{gpu}.temperature.celsius": (66 + 2 * wave if busy else 31, 1),
                **{f"host.gpu.{gpu}.ecc.{kind}.count": (0.0, 0.0) for kind in ("a", "b", "c", "d")},
            }
        process: dict[str, tuple[float, float]] = {
            "process.cpu.percent": (410 + 60 * wave, 30),
            "process.rss.bytes": (61 * gib, gib / 5),
            "process.threads.count": (188, 0),
            "process.read.bytes_per_s": (7e8, 5e7),
            "process.gpu.2.memory.bytes": (110 * gib, gib / 9),
            "process.gpu.3.memory.bytes": (110 * gib, gib / 9),
            "cgroup.memory.current.bytes": (230 * gib, gib),
            "cgroup.cpu.throttled.percent": (0.4, 0.3),
        }
        for values, about in ((machine, None), (process, (1000, run.stream))):
            agent.record(kinds.SAMPLE, bodies.Sample(at, 30 * SECOND, windows(values), about).encode())
    agent.alert("Link mlx5_3 down", "port 1 was Active", "warn", start + 900 * SECOND)
    agent.alert("Link mlx5_3 up", "after 12 s", "info", start + 912 * SECOND)
    text = "uncorrectable error in the memory of the GPU; the row is remapped when the driver is loaded again"
    agent.alert("Xid 94 on GPU 2", text, "error", start + 2100 * SECOND, xid=94)
    agent.push()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", ["wide", "narrow"])
def test_every_page_fits_its_window(
    pages: Pages,
    server: ServerProcess,
    session: Any,
    training: PushedStream,
    keep_screenshot: Keep,
    scheme: str,
    width: str,
) -> None:
    page, _ = pages.open(
        color_scheme=scheme, viewport=WIDE if width == "wide" else NARROW, storage_state=session
    )
    lossy = "/default/vision/lossy-1?tab=overview"
    views = {
        "runs": ("/?project=vision", "[data-run]"),
        "charts": (training.path, '[data-metric="train/loss"][data-last-step]'),
        "smoothed": (training.path + "?smooth=0.9&x=wall", '[data-metric="train/loss"][data-last-step]'),
        "overview": (training.path + "?tab=overview", "text=resnet50"),
        "losses": (lossy, "text=checksum differs"),
        "logs": (training.path + "?tab=logs", "[data-line]"),
        "system": (
            training.path + "?tab=system",
            '[data-metric="system.0.process.rss.bytes"][data-last-step]',
        ),
    }

    for name, (address, sign) in views.items():
        page.goto(server.url + address)
        page.wait_for_selector(sign)
        keep_screenshot(page, f"{name}-{width}-{scheme}")
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, f"{name} is {overflow} px wider than a {width} window"


def test_theme_follows_the_system_until_one_chooses_and_the_choice_is_remembered(
    pages: Pages, server: ServerProcess, session: Any
) -> None:
    page, _ = pages.open(color_scheme="dark", storage_state=session)
    page.goto(server.url)
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)

    page.get_by_role("button", name="Use the light theme").click()
    light = page.evaluate(background)
    page.reload()
    page.get_by_role("button", name="Use the dark theme").wait_for()

    assert light != dark
    assert page.evaluate(background) == light


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(
    pages: Pages, server: ServerProcess, session: Any, scheme: str
) -> None:
    page, _ = pages.open(color_scheme=scheme, storage_state=session)
    page.goto(server.url)
    pairs = [
        (text, ground)
        for text in ("text", "text-soft", "text-faint", "accent-text")
        for ground in ("page", "surface", "hover", "surface-sunken")
    ]
    pairs += [(each, f"{each}-soft") for each in ("running", "finished", "failed", "crashed", "warn")]
    pairs += [("on-accent", "accent"), ("accent-text", "accent-soft"), ("chart-axis", "surface")]

    values = page.evaluate(
        """names => Object.fromEntries(names.map(name =>
            [name, getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim()]))""",
        sorted({name for pair in pairs for name in pair}),
    )

    low = {pair: round(contrast(values[pair[0]], values[pair[1]]), 2) for pair in pairs}
    assert not {pair: ratio for pair, ratio in low.items() if ratio < 4.5}


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two #rrggbb colours as WCAG 2 defines it."""
    bright, dim = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def luminance(color: str) -> float:
    """Return the relative luminance of a #rrggbb or #rgb colour."""
    if len(color) == 4:
        color = "#" + "".join(2 * digit for digit in color[1:])
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_page_is_usable_with_the_keyboard_alone(
    page: Page, server: ServerProcess, training: PushedStream
) -> None:
    page.goto(f"{server.url}/?project=vision")
    page.locator("[data-run]").first.wait_for()

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.get_by_role("link", name="amber-falcon-12").focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Logs").focus()
    page.keyboard.press("Enter")

    expect(page.get_by_role("log")).to_be_visible()
