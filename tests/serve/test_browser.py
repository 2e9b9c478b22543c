"""The page in a real browser: Debian's Chromium, with a real talking face as its camera and microphone.

Where Chromium or Playwright is not installed these skip; `make e2e` installs them. With AVSR_SCREENSHOTS=docs the
picture of the page goes there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import jiwer
import numpy as np
import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
from playwright.sync_api import Browser, Page, Playwright, WebSocket, expect, sync_playwright  # noqa: E402
from serving import FAST, Server  # noqa: E402

import avsr  # noqa: E402
from avsr.media import to_mono  # noqa: E402
from avsr.serve.limits import Limits  # noqa: E402
from avsr.serve.service import Service  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; on Debian: apt-get install chromium"),
    pytest.mark.timeout(240),
]
CLIP, WORDS = "grid/s1/bbaf3s.mp4", "bin blue at f three soon"
TALKER = Path(avsr.__file__).parent / "talker" / "demo" / "bin_blue.mp4"
PAUSE_S = 1.4
SCREENSHOTS = os.environ.get("AVSR_SCREENSHOTS")
QUIET = ["--no-sandbox", "--disable-background-networking", "--use-fake-device-for-media-stream"]


def write_devices(clip: Path, directory: Path, rate_hz: int) -> tuple[Path, Path]:
    """Write what Chromium's camera and microphone play again and again: the clip and a pause.

    Both are equally long, but where the camera shows ``rate_hz`` of the clip's 25 pictures a second.
    """
    video, sound = directory / "camera.y4m", directory / "microphone.wav"
    with av.open(str(clip)) as file:
        frames = [frame.reformat(format="yuv420p") for frame in file.decode(video=0)]
    frames += [frames[-1]] * round(PAUSE_S * 25)
    with video.open("wb") as out:
        out.write(f"YUV4MPEG2 W{frames[0].width} H{frames[0].height} F{rate_hz}:1 Ip A1:1 C420\n".encode())
        for frame in frames:
            out.write(b"FRAME\n" + frame.to_ndarray().tobytes())
    with av.open(str(clip)) as file:
        resampler = av.AudioResampler("s16", "mono", 48_000)
        parts = [part.to_ndarray().ravel() for frame in file.decode(audio=0) for part in resampler.resample(frame)]
    samples = np.zeros(len(frames) * 1920, np.int16)
    heard = np.concatenate(parts)[: len(samples)]
    assert np.abs(to_mono(heard)).max() > 0.05
    samples[: len(heard)] = heard
    with wave.open(str(sound), "wb") as out_wave:
        out_wave.setnchannels(1)
        out_wave.setsampwidth(2)
        out_wave.setframerate(48_000)
        out_wave.writeframes(samples.tobytes())
    return video, sound


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """Playwright itself."""
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(playwright: Playwright, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser that says yes to every question, with a talking face before it."""
    directory = tmp_path_factory.mktemp("devices")
    browser = open_browser(playwright, shared_data / CLIP, directory, "--use-fake-ui-for-media-stream")
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def drawn_browser(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser that gives the devices that it is told to, with a drawn face before it."""
    browser = open_browser(playwright, TALKER, tmp_path_factory.mktemp("drawn"))
    yield browser
    browser.close()


def open_browser(playwright: Playwright, clip: Path, directory: Path, *options: str, rate_hz: int = 25) -> Browser:
    """Open a browser whose camera and microphone play ``clip``."""
    video, sound = write_devices(clip, directory, rate_hz)
    files = [f"--use-file-for-fake-video-capture={video}", f"--use-file-for-fake-audio-capture={sound}"]
    return playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *files, *options])


@pytest.fixture(scope="module")
def real_server() -> Iterator[Server]:
    """A server with the default model."""
    server = Server(Service(avsr.load_model(threads=1), Limits()))
    yield server
    server.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A new window; an error on the page fails the test."""
    context = browser.new_context(viewport={"width": 1100, "height": 620})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def best_word_errors(page: Page) -> int:
    """Return the fewest words wrong in any final so far."""
    texts = page.locator("#finals p").all_inner_texts()
    return min((round(jiwer.wer(WORDS, text) * len(WORDS.split())) for text in texts), default=99)


def wait_for(holds: Callable[[], bool], page: Page, timeout_s: float = 90) -> None:
    end_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end_s, page.locator("body").inner_text()
        page.wait_for_timeout(200)


def test_the_page_shows_the_right_words_for_a_real_talking_face_though_the_connection_is_lost(
    page: Page, real_server: Server
) -> None:
    page.goto(real_server.http)
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#state")).to_have_text(re.compile("Listening"), timeout=60_000)
    wait_for(lambda: best_word_errors(page) <= 1, page)
    expect(page.locator("#lips")).to_be_visible()
    expect(page.locator("#state")).to_have_text("Listening and reading lips.", timeout=30_000)
    expect(page.locator("#partial")).not_to_be_empty(timeout=30_000)
    with page.expect_download() as download:
        page.get_by_role("button", name="SRT").click()
    assert " --> " in Path(download.value.path()).read_text()
    before = page.locator("#finals p").all_inner_texts()
    num_resumed = real_server.service.metrics.value("avsr_resumed_total")
    for connection in list(real_server.connections):
        connection.transport.abort()
    wait_for(lambda: real_server.service.metrics.value("avsr_resumed_total") > num_resumed, page)
    wait_for(lambda: page.locator("#finals p").count() > len(before), page)
    assert page.locator("#finals p").all_inner_texts()[: len(before)] == before
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#state")).to_have_text("Stopped.", timeout=60_000)


def test_without_a_microphone_the_lips_are_read(page: Page, real_server: Server) -> None:
    page.goto(real_server.http)
    page.get_by_label("Microphone").select_option("none")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#state")).to_have_text("Reading lips: no microphone.", timeout=60_000)
    wait_for(lambda: best_word_errors(page) <= 3, page)


def test_the_page_goes_on_with_a_new_stream_when_the_server_was_killed_and_started_again(
    page: Page, serve: Callable[..., Server]
) -> None:
    first = serve()
    page.goto(first.http)
    page.get_by_role("button", name="Start").click()
    page.locator("#finals p").first.wait_for(timeout=60_000)
    first.kill()
    expect(page.locator("#state")).to_have_text(re.compile("Connection lost"), timeout=30_000)
    before = page.locator("#finals p").all_inner_texts()
    serve(port=int(first.address.split(":")[1]))
    wait_for(lambda: page.locator("#finals p").count() > len(before), page)
    assert page.locator("#finals p").all_inner_texts()[: len(before)] == before

    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#state")).to_have_text("Stopped.", timeout=30_000)
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.close(run_before_unload=True)
    wait_for(lambda: asked == ["beforeunload"], page)  # the captions are in no file yet
    with page.expect_download():
        page.get_by_role("button", name="TXT").click()
    with page.expect_event("close"):
        page.close(run_before_unload=True)
    assert asked == ["beforeunload"]


def test_how_late_pictures_come_is_measured_or_set(page: Page, serve: Callable[..., Server]) -> None:
    configs: list[dict[str, Any]] = []

    def listen(socket: WebSocket) -> None:
        socket.once("framesent", lambda frame: configs.append(json.loads(frame)))

    page.on("websocket", listen)
    page.goto(serve().http)
    for num_streams, (typed, sent) in enumerate([("", "auto"), ("-120", -120)], 1):
        page.get_by_label("Video delay").fill(typed)
        page.get_by_role("button", name="Start").click()
        wait_for(lambda num=num_streams: len(configs) == num, page)  # type: ignore[misc]
        assert configs[-1]["av_offset_ms"] == sent
        page.get_by_role("button", name="Stop").click()


def test_a_camera_can_be_switched_off_and_on_while_the_stream_goes_on(page: Page, serve: Callable[..., Server]) -> None:
    server = serve()
    page.goto(server.http)
    page.get_by_role("button", name="Start").click()
    page.locator("#finals p").first.wait_for(timeout=60_000)
    page.locator("#camera").select_option("none")
    expect(page.locator("#state")).to_have_text("Listening: no camera.", timeout=30_000)
    num_finals = page.locator("#finals p").count()
    wait_for(lambda: page.locator("#finals p").count() > num_finals, page)
    num_pictures = server.service.metrics.value("avsr_pictures_total")
    page.locator("#camera").select_option("")
    wait_for(lambda: server.service.metrics.value("avsr_pictures_total") > num_pictures + 5, page)
    expect(page.locator("#state")).not_to_have_text(re.compile("no camera"), timeout=30_000)
    assert server.service.metrics.value("avsr_sessions_total") == 1


def test_the_page_says_that_a_server_is_full(page: Page, serve: Callable[..., Server]) -> None:
    server = serve(limits=Limits(max_sessions=1, max_speed=FAST.max_speed))
    with server.talk() as client:
        client.send('{"type": "config"}')
        client.recv()
        page.goto(server.http)
        page.get_by_role("button", name="Start").click()
        expect(page.locator("#state")).to_have_text(re.compile("in use; try again later"), timeout=30_000)


def test_the_page_is_shown_as_it_is(drawn_browser: Browser, real_server: Server, tmp_path: Path) -> None:
    """With a drawn face: nobody's own belongs into a picture of the page."""
    size, devices = {"width": 1200, "height": 640}, ["camera", "microphone"]
    context = drawn_browser.new_context(viewport=size, color_scheme="light", permissions=devices)
    page = context.new_page()
    page.goto(real_server.http)
    page.get_by_role("button", name="Start").click()
    num_finals = 2 if SCREENSHOTS else 1  # with two it looks better
    wait_for(lambda: page.locator("#finals p").count() >= num_finals, page)
    expect(page.locator("#lips")).to_be_visible(timeout=30_000)
    wait_for(lambda: len(page.locator("#partial").inner_text().split()) >= 4, page)
    path = Path(SCREENSHOTS or tmp_path) / "page.png"
    page.screenshot(path=path)
    context.close()
    assert 10_000 < path.stat().st_size < 200_000


def test_with_a_camera_that_is_denied_the_page_listens(drawn_browser: Browser, serve: Callable[..., Server]) -> None:
    context = drawn_browser.new_context(permissions=["microphone"])
    page = context.new_page()
    page.goto(serve().http)
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#notice")).to_have_text(re.compile("The camera is blocked; .*settings"), timeout=60_000)
    expect(page.locator("#state")).to_have_text(re.compile("no camera"), timeout=60_000)
    context.close()


def test_a_camera_of_few_pictures_is_told_of_until_it_is_put_away(
    playwright: Playwright, serve: Callable[..., Server], tmp_path: Path
) -> None:
    browser = open_browser(playwright, TALKER, tmp_path, "--use-fake-ui-for-media-stream", rate_hz=8)
    page = browser.new_page()
    page.goto(serve().http)
    page.get_by_role("button", name="Start").click()
    told = page.get_by_text("too few pictures a second")
    expect(told).to_be_visible(timeout=60_000)
    page.locator("#camera").select_option("none")
    expect(told).to_be_hidden(timeout=30_000)
    browser.close()


def test_the_page_fits_a_phone_and_can_be_used_by_thumb_and_keyboard(page: Page, serve: Callable[..., Server]) -> None:
    page.goto(serve().http)
    for width, height in ((640, 360), (320, 256), (360, 720)):  # the second is a window at a zoom of 400 %
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.querySelector('#captions').clientHeight") > 0.5 * height
    page.reload()  # on a phone, from the beginning
    slider, rem_px = page.get_by_label("Text size"), 16
    box = slider.bounding_box()
    assert box is not None
    assert box["width"] >= 120
    assert box["height"] >= 44
    assert box["y"] + box["height"] <= 720
    size = "parseFloat(getComputedStyle(document.querySelector('#captions')).fontSize)"
    assert float(slider.input_value()) * rem_px == pytest.approx(page.evaluate(size))  # no jump at the first touch
    slider.fill("3")
    assert page.evaluate(size) == pytest.approx(3 * rem_px)
    paper = "getComputedStyle(document.body).backgroundColor"
    page.get_by_label("Theme").select_option("light")
    light = page.evaluate(paper)
    page.get_by_label("Theme").select_option("dark")
    assert page.evaluate(paper) != light
    page.get_by_role("button", name="Start").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Stop")).to_be_focused(timeout=30_000)
    expect(page.get_by_role("log")).to_have_attribute("aria-live", "polite")
