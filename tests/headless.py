"""A headless Chromium driven through its own debugging pipe: no driver, no port, nothing to install but itself."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_browser() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab. Events (requests, console messages, errors) collect in `events`."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read, self._last, self._buffer = write, read, 0, b""
        self._session: str | None = None
        self._answers: deque[dict[str, Any]] = deque()
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol and wait for its answer."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next())["id"] != self._last:
            pass
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def open(self, url: str) -> None:
        """Navigate and wait until everything is loaded."""
        self.events.clear()
        self.send("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._receive()

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key, as from a keyboard."""
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text
            )

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path: Path, *, clip: dict[str, float] | None = None) -> None:
        area = {"clip": clip | {"scale": 1}} if clip else {}
        picture = self.send("Page.captureScreenshot", captureBeyondViewport=True, **area)["data"]
        path.write_bytes(base64.b64decode(picture))

    def print_to(self, path: Path) -> None:
        printed = self.send("Page.printToPDF", preferCSSPageSize=True, printBackground=False)["data"]
        path.write_bytes(base64.b64decode(printed))

    def requests(self) -> list[str]:
        """Addresses that the page asked for."""
        sent = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]

    def complaints(self) -> list[Any]:
        """What stands in the console: errors, warnings, refused styles and scripts."""
        methods = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [event["params"] for event in self.events if event["method"] in methods]

    def _next(self) -> dict[str, Any]:
        while not self._answers:
            self._receive()
        return self._answers.popleft()

    def _receive(self) -> None:
        ready, _, _ = select.select([self._read], [], [], 60)
        assert ready, "the browser does not answer"
        chunk = os.read(self._read, 1 << 20)
        assert chunk, "the browser has gone"
        *messages, self._buffer = (self._buffer + chunk).split(b"\0")
        for message in map(json.loads, messages):
            (self._answers if "id" in message else self.events).append(message)


@contextlib.contextmanager
def browser(executable: str) -> Iterator[Page]:
    """A page in a fresh profile; the browser reads commands from descriptor 3 and answers on 4."""
    their_read, our_write = _pipe()
    our_read, their_write = _pipe()

    def hand_over() -> None:
        os.dup2(their_read, 3)
        os.dup2(their_write, 4)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        options += [
            "--disable-background-networking",
            "--disable-extensions",
            "--lang=en-US",
            "--remote-debugging-pipe",
        ]
        process = subprocess.Popen(
            [executable, *options, "--remote-debugging-pipe", f"--user-data-dir={profile}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,  # ours are not inherited anyway; closing would take 3 and 4 along
            preexec_fn=hand_over,
        )
        os.close(their_read)
        os.close(their_write)
        try:
            page = Page(our_write, our_read)
            yield page
        finally:
            process.terminate()
            process.wait(20)
            os.close(our_write)
            os.close(our_read)
            time.sleep(0.1)  # its helpers still write to the profile


def _pipe() -> tuple[int, int]:
    """Two ends above 10, so that neither is one of the descriptors that the browser is given."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]
