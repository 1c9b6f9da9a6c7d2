"""Rows over HTTP: the answers of the bundle, or what is wrong, in which column of which row."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time

import httpx
import numpy as np
import pandas as pd
import pytest
import torch
from running_server import running
from serving_data import INPUTS, rows_of

from polytask import Recipe
from polytask.serving.answers import as_json
from polytask.serving.limits import Limits
from polytask.serving.server import Server, listening_on
from polytask.serving.service import Service
from polytask.training.data_sets import ArrayData


def assert_same(found: list[dict], expected: list[dict]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for task, answer in one.items():
            flat = pd.json_normalize(answer, sep="|").iloc[0]
            theirs = pd.json_normalize(other[task], sep="|").iloc[0]
            assert list(flat.index) == list(theirs.index)
            for a, b in zip(flat, theirs, strict=True):
                assert a == pytest.approx(b, rel=1e-4, abs=1e-6) if isinstance(a, float) else str(a) == str(b)


def test_answers_are_those_of_the_bundle(served, of_all_columns):
    bundle, frame = of_all_columns
    asked = frame[INPUTS].head(12)
    found = served.post("/predict", json={"rows": rows_of(asked)})
    assert found.status_code == 200, found.text
    assert_same(found.json()["predictions"], as_json(bundle.predict(asked), 12))


def test_columns_that_the_model_does_not_read_are_named(served, of_all_columns):
    _, frame = of_all_columns
    rows = rows_of(frame[INPUTS].head(2))
    assert "ignored" not in served.post("/predict", json={"rows": rows}).json()
    more = [{"id": 7, **rows[0]}, {**rows[1], "näme": "x", "id": 8}]
    found = served.post("/predict", json={"rows": more}).json()
    assert found["ignored"] == ["id", "näme"]
    assert found["predictions"] == served.post("/predict", json={"rows": rows}).json()["predictions"]


def test_answers_of_every_kind_of_model(served_kinds, of_all_kinds):
    bundle, rows = of_all_kinds
    found = served_kinds.post("/predict", json={"rows": rows_of(rows)}).json()["predictions"]
    assert_same(found, as_json(bundle.predict(rows), len(rows)))


def test_some_tasks_cost_one_pass_of_the_shared_part(of_all_columns, monkeypatch):
    bundle, frame = of_all_columns
    network = bundle.models[0].model
    passes = []
    network.sharing.register_forward_pre_hook(lambda *_: None)
    shared = type(network.sharing).shared
    monkeypatch.setattr(
        type(network.sharing), "shared", lambda self, *a, **k: (passes.append(1), shared(self, *a, **k))[1]
    )
    with running(bundle) as (client, _):
        for tasks in (["ill"], ["visits", "price"], None):
            passes.clear()
            body = {"rows": rows_of(frame[INPUTS].head(3)), **({"tasks": tasks} if tasks else {})}
            found = client.post("/predict", json=body).json()["predictions"]
            assert len(passes) == 1
            assert list(found[0]) == (tasks or [task.name for task in bundle.tasks])


@pytest.mark.parametrize(
    ("column", "value", "same"),
    [
        ("length", "1.5", 1.5),
        ("length", True, 1),
        ("is_new", "True", True),
        ("is_new", 0, False),
        ("town", " Bern ", "Bern"),
        ("code", 1, "1"),
        ("code", 1.0, "1"),
        ("day", "2024-03-01T00:00:00+00:00", "2024-03-01"),
        ("day", "March 1, 2024", "2024-03-01"),
        ("town", "never seen", "also new"),
    ],
)
def test_a_value_is_read_however_it_is_written(served, column, value, same):
    row = {"length": 0.1, "is_new": True, "day": "2024-02-01", "town": "Bern", "code": "2"}
    answers = [served.post("/predict", json={"rows": [{**row, column: v}]}) for v in (value, same)]
    assert answers[0].status_code == 200, answers[0].text
    assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("length", "long"),
        ("length", [1]),
        ("length", 10**400),
        ("length", "inf"),
        ("length", "1_000"),
        ("is_new", "maybe"),
        ("is_new", 2),
        ("day", 20240101),
        ("day", "2024-99-99"),
        ("day", "\ud800"),
        ("town", {"a": 1}),
        ("code", []),
    ],
)
def test_a_cell_that_cannot_be_used_is_named(served, column, value):
    row = {"length": 0.1, "is_new": True, "day": "2024-02-01", "town": "Bern", "code": "2"}
    found = served.post(
        "/predict",
        content=json.dumps({"rows": [row, {**row, column: value}]}),
        headers={"Content-Type": "application/json"},
    )
    assert found.status_code == 422, found.text
    error = found.json()["error"]
    assert (error["type"], error["column"]) == ("input", column)
    assert "1" in error["message"]


def test_a_column_that_is_not_there_is_named_with_the_nearest(served):
    row = {"lenght": 0.1, "is_new": True, "day": "2024-02-01", "town": "Bern", "code": "2"}
    error = served.post("/predict", json={"rows": [row]}).json()["error"]
    assert (error["column"], error["row"]) == ("length", 0)
    assert "'lenght'" in error["message"]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ("{", 422, "body"),
        ("[" * 100_000, 422, "body"),
        ('{"rows": ' + "1" * 5000 + "}", 422, "body"),
        ('{"rows": []}', 422, "body"),
        ('{"rows": 3}', 422, "body"),
        ('{"rows": [3]}', 422, "input"),
        ('{"rows": [{}], "more": 1}', 422, "body"),
        ('{"rows": [{}], "tasks": ["prize"]}', 422, "input"),
        ('{"rows": [{}], "source": "other"}', 422, "input"),
        ("\ud800", 422, "body"),
    ],
)
def test_bodies_that_make_no_sense(served, body, status, kind):
    headers = {"Content-Type": "application/json"}
    found = served.post("/predict", content=body.encode("utf-8", "surrogatepass"), headers=headers)
    assert (found.status_code, found.json()["error"]["type"]) == (status, kind), found.text


def test_other_refusals_have_the_same_form(served):
    for found, status in (
        (served.post("/predict", content="a,b", headers={"Content-Type": "text/plain"}), 415),
        (served.get("/predict"), 405),
        (served.get("/nothing"), 404),
        (served.post("/predict/file", content="x", headers={"Content-Type": "image/png"}), 415),
    ):
        assert found.status_code == status
        assert set(found.json()["error"]) == {"type", "message", "column", "row"}


def test_limits_on_rows_bytes_and_time(of_all_columns, monkeypatch):
    bundle, frame = of_all_columns
    rows = rows_of(frame[INPUTS].head(6))
    with running(bundle, rows=5, bytes=2000, file_rows=5) as (client, _):
        assert client.post("/predict", json={"rows": rows[:5]}).status_code == 200
        found = client.post("/predict", json={"rows": rows})
        assert (found.status_code, found.json()["error"]["type"]) == (413, "rows")
        found = client.post("/predict", json={"rows": rows * 9})
        assert (found.status_code, found.json()["error"]["type"]) == (413, "bytes")
        chunked = client.post("/predict", content=iter([b" " * 900] * 9), headers={"Content-Type": "application/json"})
        assert (chunked.status_code, chunked.json()["error"]["type"]) == (413, "bytes")
        csv = frame[INPUTS].head(6).to_csv(index=False)
        found = client.post("/predict/file", content=csv, headers={"Content-Type": "text/csv"})
        assert (found.status_code, found.json()["error"]["type"]) == (413, "rows")
    import time

    monkeypatch.setattr(type(bundle), "predict", lambda *args: time.sleep(0.5))
    with running(bundle, seconds=0.1) as (client, _):
        found = client.post("/predict", json={"rows": rows})
        assert (found.status_code, found.json()["error"]["type"]) == (503, "time")
        assert client.get("/health/ready").status_code == 200


def test_answers_wait_for_no_acknowledgement():
    with listening_on("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_client_that_offers_another_protocol_is_answered_by_this_one(served, of_all_columns):
    rows = rows_of(of_all_columns[1][INPUTS].head(2))
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAAAAIAAAAB"}
    found = served.post("/predict", json={"rows": rows}, headers=offer)
    assert found.status_code == 200, found.text
    assert found.json() == served.post("/predict", json={"rows": rows}).json()


def test_a_head_that_does_not_end_is_refused(served):
    with socket.create_connection((served.base_url.host, served.base_url.port), timeout=30) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 70_000)
        assert client.recv(100).startswith(b"HTTP/1.1 400")


def test_a_failure_of_the_servers_own_tells_no_secrets(of_all_columns, monkeypatch, caplog):
    bundle, frame = of_all_columns
    monkeypatch.setattr(type(bundle), "predict", lambda *args: 1 / 0)
    with running(bundle) as (client, _):
        found = client.post("/predict", json={"rows": rows_of(frame[INPUTS].head(1))})
        assert found.status_code == 500
        assert "division" not in found.text
        assert "Traceback" not in found.text
        number = found.json()["error"]["message"].split()[-1].rstrip(".")
        assert number in caplog.text
        assert "ZeroDivisionError" in caplog.text
        assert client.get("/health/live").status_code == 200


def test_a_key_is_asked_for(of_all_columns):
    bundle, frame = of_all_columns
    rows = rows_of(frame[INPUTS].head(1))
    with running(bundle, api_key="sésame") as (client, _):
        assert client.post("/predict", json={"rows": rows}).status_code == 401
        assert client.get("/metrics").status_code == 401
        assert client.get("/model").status_code == 401
        assert client.get("/health/ready").status_code == 200
        for headers in ({"X-API-Key": "sésame".encode()}, {"Authorization": "Bearer sésame".encode()}):
            assert client.post("/predict", json={"rows": rows}, headers=headers).status_code == 200
        for headers in ({"X-API-Key": "sesame"}, {"Authorization": "Basic sésame".encode()}, {"X-API-Key": ""}):
            assert client.post("/predict", json={"rows": rows}, headers=headers).status_code == 401
        told = client.get("/openapi.json").json()
        assert told["components"]["securitySchemes"]["key"] == {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        assert told["paths"]["/predict"]["post"]["security"] == [{"key": []}, {"bearer": []}]
        assert "security" not in told["paths"]["/health/live"]["get"]
    with running(bundle) as (client, _):
        assert "securitySchemes" not in client.get("/openapi.json").json().get("components", {})


def test_metrics_count_what_was_asked(of_all_columns):
    bundle, frame = of_all_columns
    with running(bundle) as (client, _):
        client.post("/predict", json={"rows": rows_of(frame[INPUTS].head(7))})
        client.post("/predict", json={"rows": [3]})
        text = client.get("/metrics").text
    assert 'polytask_requests_total{path="/predict",status="200"} 1.0' in text
    assert 'polytask_requests_total{path="/predict",status="422"} 1.0' in text
    assert 'polytask_rows_total{path="/predict"} 7.0' in text
    assert "polytask_batch_rows_sum 7.0" in text


def test_rows_of_a_source_of_arrays():
    rng = np.random.default_rng(0)
    data = ArrayData("d", rng.normal(size=(40, 4)).astype(np.float32), {"y": rng.normal(size=40)})
    bundle = Recipe(tasks={"y": "regression"}, training={"epochs": 1}).run(data).bundle
    with running(bundle) as (client, _):
        found = client.post("/predict", json={"rows": data.inputs[:3].tolist()}).json()["predictions"]
        np.testing.assert_allclose(
            [row["y"]["value"] for row in found], bundle.predict(data.inputs[:3])["y"].values, rtol=1e-4
        )
        for row in ([1, 2, 3], [1, 2, 3, "x"], [1, 2, 3, None], {"a": 1}, [1, 2, 3, 1e300], [[1, 2, 3, 4]]):
            refused = client.post("/predict", json={"rows": [[0, 0, 0, 0], row]})
            assert (refused.status_code, refused.json()["error"]["row"]) == (422, 1), row
        assert client.get("/").status_code == 200
        csv = client.post("/predict/file", content="a\n1", headers={"Content-Type": "text/csv"})
        assert csv.status_code == 422


def test_rows_of_several_sources(of_all_columns):
    rng = np.random.default_rng(0)
    data = {
        "first": pd.DataFrame({"a": rng.normal(size=40), "y": rng.normal(size=40)}),
        "second": pd.DataFrame({"b": rng.normal(size=40), "z": rng.normal(size=40)}),
    }
    torch.manual_seed(0)
    bundle = Recipe(tasks=["y", "z"], training={"epochs": 1}).run(data).bundle
    with running(bundle) as (client, _):
        assert client.post("/predict", json={"rows": [{"a": 1}]}).status_code == 422
        found = client.post("/predict", json={"rows": [{"a": 1}], "source": "first"}).json()["predictions"]
        # Both tasks have a head on what the sources share, and so both are answered for the rows of either.
        assert_same(found, as_json(bundle.predict({"a": [1.0]}, source="first"), 1))
        refused = client.post("/predict", json={"rows": [{"b": 1}], "source": "first"})
        assert refused.json()["error"]["column"] == "a"


def test_a_server_that_drains_answers_what_it_took_and_says_that_it_is_not_ready(of_all_columns):
    bundle, frame = of_all_columns
    with running(bundle, drain_seconds=1.0) as (client, server):
        assert client.get("/health/ready").status_code == 200
        server.handle_exit(signal.SIGTERM, None)
        assert client.get("/health/ready").json()["error"]["type"] == "draining"
        statuses = []

        def ask() -> None:
            with httpx.Client(base_url=server.url) as own:
                rows = {"rows": rows_of(frame[INPUTS].head(1))}
                while not server.should_exit:
                    statuses.append(own.post("/predict", json=rows).status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.2)
        asking.join(30)
        assert statuses
        assert set(statuses) == {200}


def test_a_server_that_is_stopped_before_it_listens_stops(of_all_columns):
    server = Server(Service(of_all_columns[0], Limits(drain_seconds=60.0)), "127.0.0.1", 0)
    server.handle_exit(signal.SIGTERM, None)
    assert server.should_exit
