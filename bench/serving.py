"""How fast a bundle answers over HTTP, and whether an answer is ever lost or given to another client.

    python bench/serving.py --requests 100000

The server runs in a process of its own; the clients in others, each with its own kept connection. Every answer is
compared with the bundle's own for that row. "One row at a time" is the same server with batches of one row.
Both are measured alternately, in pieces, so that a busy machine disturbs both alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

INPUTS = [*(f"x{i}" for i in range(10)), "town", "kind"]
TASKS = ["price", "size", "ill", "ward", "visits"]
N_ROWS = 500


def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(N_ROWS, 10)), columns=INPUTS[:10])
    frame["town"], frame["kind"] = rng.choice(["x", "y", "z"], N_ROWS), rng.choice(["u", "v"], N_ROWS)
    signal = frame["x0"] + frame["x1"] * frame["x2"]
    frame["price"], frame["size"] = signal, 2 * signal + rng.normal(size=N_ROWS)
    frame["ill"] = np.where(signal > 0, "yes", "no")
    frame["ward"] = np.array(["A", "B", "C"])[np.digitize(signal, [-0.7, 0.7])]
    frame["visits"] = rng.poisson(np.exp(0.3 * np.clip(signal, -3, 3)))
    return frame


async def client(url: str, bodies: list[bytes], expected: list[float], picks: list[int]) -> tuple[list[float], int]:
    """Requests one after another on one connection, in plain HTTP so that the client costs little."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    seconds, wrong = [], 0
    for i in picks:
        began = time.perf_counter()
        writer.write(bodies[i])
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length"))
        answer = json.loads(await reader.readexactly(length))
        seconds.append(time.perf_counter() - began)
        found = answer["predictions"][0]["price"]["value"] if b" 200 " in head[:16] else float("nan")
        wrong += not abs(found - expected[i]) <= 1e-4 * max(1.0, abs(expected[i]))
    writer.close()
    return seconds, wrong


def clients(
    url: str, bodies: list[bytes], expected: list[float], n: int, each: int, seed: int
) -> tuple[list[float], int]:
    """Several clients in this process."""
    rng = np.random.default_rng(seed)

    async def all_of_them() -> list[tuple[list[float], int]]:
        picks = rng.integers(0, len(bodies), (n, each)).tolist()
        return await asyncio.gather(*(client(url, bodies, expected, own) for own in picks))

    found = asyncio.run(all_of_them())
    return [s for seconds, _ in found for s in seconds], sum(wrong for _, wrong in found)


def one_row(bundle, row: dict, times: int = 300) -> None:
    """What a row costs between its request and its answer, without HTTP."""
    import torch

    from polytask.serving.answers import as_json, json_text
    from polytask.serving.app import Service
    from polytask.serving.limits import Limits

    torch.set_num_threads(1)
    service = Service(bundle, Limits())
    source, tasks = service.chosen(None, None)
    reader = service.readers[source]

    def encode():
        return bundle.encode(reader.data(reader.read([row])), source)

    encoded = encode()
    parts = {
        "all": lambda: json_text(as_json(service._predict(source, reader.read([row]), tasks), 1)),
        "encoding": encode,
        "network": lambda: bundle.models[0].outputs(encoded, tasks),
    }
    told = []
    for name, part in parts.items():
        part()
        began = time.process_time()
        for _ in range(times):
            part()
        told.append(f"{name} {(time.process_time() - began) / times * 1000:.2f}")
    print(f"One row without HTTP, CPU milliseconds: {', '.join(told)}.", flush=True)


@contextmanager
def server(bundle: Path, *options: str) -> Iterator[str]:
    """The address of a server that is there as long as this lasts, however it ends."""
    command = [sys.executable, "-m", "polytask.cli", "serve", str(bundle), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().split(" on ")[1].split()[0]
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=4000, help="of the last test, for lost and mixed up answers")
    parser.add_argument("--each", type=int, default=640, help="requests of a measured piece")
    parser.add_argument("--pieces", type=int, default=3)
    options = parser.parse_args()
    # By default SIGTERM ends a process on the spot, and the servers would stay.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    from polytask import Recipe

    frame = table()
    print(f"{os.cpu_count()} processors, a load of {os.getloadavg()[0]:.1f} at the beginning.", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        run = Recipe(tasks=TASKS, training={"epochs": 3}).run(frame, out=Path(folder) / "run")
        rows = json.loads(frame[INPUTS].to_json(orient="records"))
        expected = run.bundle.predict(frame[INPUTS])["price"].values.tolist()
        one_row(run.bundle, rows[0])
        bodies = []
        for row in rows:
            body = json.dumps({"rows": [row]}).encode()
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
            bodies.append(head.encode() + b"\r\n\r\n" + body)
        kinds = {"together": (), "one row at a time": ("--batch-rows", "1")}
        # The servers go first, so that clients that wait for them do not wait for ever.
        with ProcessPoolExecutor(1) as pool, ExitStack() as stack:
            servers = {kind: stack.enter_context(server(run.path / "bundle", *extra)) for kind, extra in kinds.items()}
            measure(pool, servers, bodies, expected, options)
            check(pool, servers["together"], bodies, expected, options.requests)
    print(f"A load of {os.getloadavg()[0]:.1f} at the end.")


def measure(pool, servers, bodies, expected, options) -> None:
    print(f"{'clients':>8} {'server':>18} {'requests/s':>11} {'p50 ms':>8} {'p99 ms':>8} {'wrong':>6}")
    for n in (1, 8, 64):
        rates: dict[str, list[float]] = {kind: [] for kind in servers}
        times: dict[str, list[float]] = {kind: [] for kind in servers}
        wrong = dict.fromkeys(servers, 0)
        for piece in range(options.pieces):
            for kind, url in servers.items():
                # Enough of each client's that opening its connection does not count.
                each = max(options.each // n, 20) if kind == "together" else max(options.each // n // 4, 10)
                began = time.perf_counter()
                seconds, bad = pool.submit(clients, url, bodies, expected, n, each, piece).result()
                rates[kind].append(len(seconds) / (time.perf_counter() - began))
                times[kind] += seconds
                wrong[kind] += bad
        for kind in servers:
            p50, p99 = np.quantile(times[kind], [0.5, 0.99]) * 1000
            print(f"{n:>8} {kind:>18} {statistics.median(rates[kind]):>11.0f} {p50:>8.1f} {p99:>8.1f} {wrong[kind]:>6}")
        ratio = statistics.median(a / b for a, b in zip(*rates.values(), strict=True))
        print(f"{n:>8} together over one row at a time: {ratio:.1f} times", flush=True)


def check(pool, url, bodies, expected, n_requests: int) -> None:
    began = time.perf_counter()
    seconds, wrong = pool.submit(clients, url, bodies, expected, 64, n_requests // 64, 99).result()
    took, sent = time.perf_counter() - began, n_requests // 64 * 64
    print(f"{sent:,} requests of 64 clients in {took:.0f} s: {wrong} wrong or mixed up, {sent - len(seconds)} lost.")


if __name__ == "__main__":
    main()
