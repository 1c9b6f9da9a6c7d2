"""``polytask serve`` as a process: it says where it listens, answers, and stops without losing a request."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx

from polytask.bundle import SCHEMA

BUNDLE = Path(__file__).parents[1] / "fixtures" / "bundles" / f"schema-{SCHEMA}"
ROW = {"a": 0.1, "b": 0.2, "c": None, "d": -1, "town": "x"}


def test_a_terminated_server_answers_what_it_took_and_exits():
    process = subprocess.Popen(
        [sys.executable, "-m", "polytask.cli", "serve", str(BUNDLE), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    url = process.stdout.readline().split(" on ")[1].split()[0]
    assert url.startswith("http://127.0.0.1:")
    statuses, refused = [], []

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while True:
                try:
                    statuses.append(client.post("/predict", json={"rows": [ROW] * 50}).status_code)
                except httpx.HTTPError as error:
                    refused.append(error)
                    return

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    for client in clients:
        client.join(60)
    assert set(statuses) == {200}
    # Between two requests a connection may be closed; in the middle of one it may not.
    assert all(isinstance(error, httpx.ConnectError | httpx.RemoteProtocolError | httpx.ReadError) for error in refused)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors, errors


def test_what_cannot_be_served_is_one_line(polytask, tmp_path):
    answer = polytask("serve", tmp_path)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "no bundle" in answer.err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = polytask("serve", BUNDLE, "--port", taken.getsockname()[1])
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "Choose another --port" in answer.err


def test_help_names_the_pages_and_the_key(polytask):
    answer = polytask("serve", "--help")
    assert answer.code == 0
    for word in ("/docs", "POLYTASK_API_KEY", "127.0.0.1"):
        assert word in answer.out
