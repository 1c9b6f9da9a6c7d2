"""A headless Chromium, driven by its own protocol over a pipe: no driver and no port is needed."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip


def found() -> str | None:
    """Where a Chromium is, or ``None``."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


class Browser:
    """One tab, and everything that it complains about or asks the network for.

    Args:
        profile: An empty folder.
    """

    def __init__(self, profile: Path):
        ours, theirs = os.pipe(), os.pipe()  # they read the first, and write the second
        program = found()
        assert program is not None
        launch = 'exec 3<&"$0" 4>&"$1"; shift; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", launch, str(ours[0]), str(theirs[1]), program, *FLAGS, f"--user-data-dir={profile}",
             "about:blank"],
            pass_fds=(ours[0], theirs[1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(ours[0])
        os.close(theirs[1])
        self._out, self._in = ours[1], theirs[0]
        self._buffer, self._number, self._session = b"", 0, None
        self.events: list[dict[str, Any]] = []
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read(120)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def _read(self, seconds: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._in], [], [], seconds)[0], "the browser does not answer"
            piece = os.read(self._in, 1 << 20)
            assert piece, "the browser is gone"
            self._buffer += piece
        line, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(line)

    def run(self, code: str) -> Any:
        """What a piece of JavaScript comes to."""
        answer = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def open(self, page: Path, width: int, height: int = 900, theme: str = "light", mobile: bool = False) -> None:
        """Show a page, and wait until its charts are drawn.

        Args:
            page: The file.
            width: Of the window.
            height: Of the window.
            theme: ``light`` or ``dark``.
            mobile: Whether it is a phone, which lays a page out by its viewport tag.
        """
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.wait_for("document.readyState === 'complete'")
        undrawn = "[...document.querySelectorAll('.chart')].filter(b => !b.closest('details') && !b.querySelector('svg.main-svg'))"
        self.wait_for(f"typeof Plotly === 'undefined' || {undrawn}.length === 0")

    def wait_for(self, condition: str, seconds: float = 90) -> None:
        """Until a condition in JavaScript holds."""
        until = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < until, condition
            time.sleep(0.1)

    @property
    def complaints(self) -> list[str]:
        """Exceptions, errors and warnings of the page, refusals of its policy among them."""
        told = []
        for event in self.events:
            what = event.get("method", ""), event.get("params", {})
            if what[0] == "Runtime.exceptionThrown":
                told.append(str(what[1]["exceptionDetails"].get("exception", what[1]["exceptionDetails"])))
            elif what[0] == "Runtime.consoleAPICalled" and what[1]["type"] in ("error", "warning", "assert"):
                told.append(str(what[1]["args"]))
            elif what[0] == "Log.entryAdded" and what[1]["entry"]["level"] in ("error", "warning"):
                told.append(what[1]["entry"]["text"])
        return told

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for."""
        sent = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith(("data:", "blob:"))]

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """A picture of the page as PNG."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def paper(self, path: Path | None = None) -> bytes:
        """The page as PDF, as a browser prints it."""
        found = base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)["data"])
        if path is not None:
            path.write_bytes(found)
        return found

    def close(self) -> None:
        """End it."""
        try:
            self._session = None
            self.call("Browser.close")
        finally:
            self._process.wait(30)
            os.close(self._out)
            os.close(self._in)
