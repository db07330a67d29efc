"""The page in a real browser: it makes a voice from a WAV file, speaks, and logs no error. Needs Chromium and selenium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

selenium = pytest.importorskip("selenium")
ROOT = Path(__file__).parents[2]
TRANSCRIPT = "The gardener planted three rows of beans beside the old stone wall."

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("chromedriver") is None, reason="needs chromium and chromedriver"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """-> the address of `llasa serve` with the built-in voice, and a clip"""
    folder = tmp_path_factory.mktemp("page")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "LLASA_VOICES": str(folder / "voices"), "HF_HUB_OFFLINE": "1"}
    clip = folder / "clip.wav"
    command = [sys.executable, "-m", "llasa_cli"]
    subprocess.run([*command, "say", TRANSCRIPT, "--seed", "3", "-q", "-o", str(clip)], env=environment, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([*command, "serve", "--port", str(port)], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    yield f"http://127.0.0.1:{port}/", clip
    process.terminate()
    assert process.wait(timeout=60) in (0, 143)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--autoplay-policy=no-user-gesture-required",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=900,1100",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def test_the_page_makes_a_voice_and_speaks(server: tuple[str, Path], browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    url, clip = server
    browser.get(url)
    wait = WebDriverWait(browser, 120)
    voices = browser.find_element(By.ID, "voice")
    wait.until(lambda _: len(voices.find_elements(By.TAG_NAME, "option")) > 1)

    browser.find_element(By.TAG_NAME, "summary").click()
    browser.find_element(By.ID, "clip").send_keys(str(clip))
    browser.find_element(By.ID, "transcript").send_keys(TRANSCRIPT)
    browser.find_element(By.ID, "name").send_keys("guest")
    browser.find_element(By.CSS_SELECTOR, "#clone button[type=submit]").click()
    wait.until(lambda _: "Saved." in browser.find_element(By.ID, "cloneStatus").text)
    assert voices.get_attribute("value") == "guest"

    browser.find_element(By.ID, "speak").click()
    wait.until(lambda _: "seed" in browser.find_element(By.ID, "status").text)
    assert browser.execute_script("return playing.count") > 12_000
    assert browser.execute_script("return Math.max(...playing.samples.map(p => Math.max(...p)))") > 0.02
    assert browser.find_element(By.ID, "download").get_attribute("href").startswith("blob:")
    assert browser.execute_script("return replay.src === download.href")
    shown = os.environ.get("LLASA_SCREENSHOTS")
    if shown:
        browser.save_screenshot(str(Path(shown) / "serve-page.png"))
        browser.set_window_size(420, 1000)
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        )
        browser.save_screenshot(str(Path(shown) / "serve-page-phone.png"))
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_speech_can_be_stopped_until_it_has_been_played(server: tuple[str, Path], browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    url, _ = server
    browser.get(url)
    wait = WebDriverWait(browser, 120)
    text, stop, status = (browser.find_element(By.ID, name) for name in ("text", "stop", "status"))
    wait.until(lambda _: browser.find_element(By.ID, "voice").find_elements(By.TAG_NAME, "option"))

    def speak(words: str, script: str = "") -> None:
        text.clear()
        text.send_keys(words, Keys.CONTROL, Keys.ENTER)
        browser.execute_script(script)
        wait.until(lambda _: "seed" in status.text)

    speak(
        "It was early in the morning.", "playing.context.suspend()"
    )  # as if it were generated much faster than it is played
    assert stop.is_enabled()
    stop.send_keys(Keys.ENTER)
    assert not stop.is_enabled()
    browser.execute_script("replay.play()")
    speak("Hello.")
    assert browser.execute_script("return replay.paused")
    wait.until(lambda _: not stop.is_enabled())
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
