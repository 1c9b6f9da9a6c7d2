"""Many clients at once: nothing is lost, nothing is mixed up, one client's nonsense spoils nobody else's answer."""

from __future__ import annotations

import asyncio

import httpx
import numpy as np
import pytest
from running_server import running
from serving_data import INPUTS, rows_of

from polytask.errors import InputError
from polytask.serving.batching import Batcher, BusyError
from polytask.serving.meters import Meters
from polytask.tasks.task import Prediction


def double(source, columns, tasks):
    """A model whose answer tells which row and which task it is for."""
    x = columns["x"]
    if (x < 0).any():
        raise InputError("negative")
    return {task: Prediction(x * 2 + ord(task)) for task in tasks}


def test_every_job_gets_its_own_rows_and_tasks():
    rng = np.random.default_rng(0)
    meters = Meters()

    async def ask(batcher, i):
        x = rng.integers(0, 10**6, size=rng.integers(1, 40)).astype(float)
        tasks = ["a", "b", "c"][: rng.integers(1, 4)][:: rng.choice([-1, 1])]
        if i % 10 == 3:
            x[0] = -1
            with pytest.raises(InputError):
                await batcher.answer("s" + str(i % 2), {"x": x}, len(x), tasks)
            return
        found = await batcher.answer("s" + str(i % 2), {"x": x}, len(x), tasks)
        assert list(found) == tasks
        for task in tasks:
            np.testing.assert_array_equal(found[task].values, x * 2 + ord(task))

    async def main():
        batcher = Batcher(double, 16, 5000, meters)
        batcher.start()
        await asyncio.gather(*(ask(batcher, i) for i in range(2000)))
        await batcher.close()

    asyncio.run(main())
    assert meters.split._value.get() > 0


def test_more_than_may_wait_are_told_so_and_those_who_left_are_not_run():
    ran = []

    def slow(source, columns, tasks):
        ran.append(len(columns["x"]))
        return double(source, columns, tasks)

    async def main():
        batcher = Batcher(slow, 4, 2, Meters())
        first, second = (asyncio.create_task(batcher.answer("s", {"x": np.ones(3)}, 3, ["a"])) for _ in range(2))
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await batcher.answer("s", {"x": np.ones(3)}, 3, ["a"])
        first.cancel()
        await asyncio.sleep(0)
        batcher.start()
        assert (await second)["a"].values.tolist() == [99.0] * 3
        await batcher.close()

    asyncio.run(main())
    assert ran == [3]


def test_clients_at_once_over_http(of_all_columns):
    bundle, frame = of_all_columns
    rows = rows_of(frame[INPUTS])
    expected = bundle.predict_frame(frame[INPUTS])["price"].to_numpy()
    rng = np.random.default_rng(0)

    async def client(url, picks):
        async with httpx.AsyncClient(base_url=url, timeout=60) as own:
            for i in picks:
                if i % 11 == 3:
                    bad = await own.post("/predict", json={"rows": [{**rows[i], "length": "long"}]})
                    assert bad.status_code == 422
                    continue
                found = await own.post("/predict", json={"rows": [rows[i]], "tasks": ["price"]})
                assert found.json()["predictions"][0]["price"]["value"] == pytest.approx(expected[i], rel=1e-5)

    async def everybody(url):
        await asyncio.gather(*(client(url, rng.integers(0, len(rows), 12)) for _ in range(24)))

    with running(bundle) as (_, server):
        asyncio.run(everybody(server.url))
        sizes = server.service.meters.batch_rows
        n_batches = sum(bucket.get() for bucket in sizes._buckets)
        assert sizes._sum.get() / n_batches > 2, "rows of several clients should go through together"
