"""Requests made from the server's own OpenAPI description, and near it: refused or answered, never a failure."""

from __future__ import annotations

import json
import os
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TIMES = int(os.environ.get("POLYTASK_FUZZ", "1"))  # how much longer than in the usual tests
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
usual = settings(
    max_examples=40 * TIMES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def from_schema(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a JSON schema of this API allows."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([from_schema(part) for part in schema["anyOf"]])
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return st.one_of([from_schema({**schema, "type": kind}) for kind in kinds])
    if kinds == "object":
        required = {name: from_schema(schema["properties"][name]) for name in schema.get("required", ())}
        others = {k: from_schema(v) for k, v in schema.get("properties", {}).items() if k not in required}
        return st.fixed_dictionaries(required, optional=others)
    if kinds == "array":
        return st.lists(from_schema(schema["items"]), min_size=schema.get("minItems", 0), max_size=4)
    if kinds == "string" and schema.get("format") == "date":
        return st.dates().map(str)
    simple = {"string": st.text(), "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
              "integer": st.integers(min_value=schema.get("minimum")), "boolean": st.booleans(), "null": st.none()}  # fmt: skip
    return simple[kinds]


def spoiled(value: Any, data: st.DataObject) -> Any:
    """The value with one part replaced by anything."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 3)):
        key = data.draw(st.sampled_from(sorted(value)))
        if not data.draw(st.integers(0, 4)):
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: spoiled(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.integers(0, 3)):
        i = data.draw(st.integers(0, len(value) - 1))
        return [*value[:i], spoiled(value[i], data), *value[i + 1 :]]
    return data.draw(ANYTHING)


@pytest.fixture(params=["served", "served_kinds"])
def client(request) -> httpx.Client:
    return request.getfixturevalue(request.param)


@usual
@given(st.data())
def test_what_the_description_allows_is_answered(client, data):
    description = client.get("/openapi.json").json()
    schema = description["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    body = data.draw(from_schema(schema))
    found = client.post("/predict", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert found.status_code in (200, 422), (body, found.text)
    if found.status_code == 422:  # a number may still be too large for the network
        assert found.json()["error"]["type"] == "input", (body, found.text)
    else:
        assert len(found.json()["predictions"]) == len(body["rows"])


@usual
@given(st.data())
def test_what_it_does_not_allow_never_makes_it_fail(client, data):
    description = client.get("/openapi.json").json()
    schema = description["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    body = spoiled(data.draw(from_schema(schema)), data)
    found = client.post("/predict", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert found.status_code in (200, 413, 422), (body, found.text)


@usual
@given(
    body=st.binary(max_size=200) | st.text(alphabet="length,is_new\n0.5\"'ab", max_size=120).map(str.encode),
    kind=st.sampled_from(["text/csv", "application/vnd.apache.parquet", "application/vnd.apache.arrow.file",
                          "application/vnd.apache.arrow.stream", "", "text/html"]),
    tasks=st.lists(st.sampled_from(["price", "ill"]) | st.text(max_size=4), max_size=2),
    accept=st.sampled_from(["*/*", "text/csv", "application/vnd.apache.parquet", "nonsense;q=x"]),
)  # fmt: skip
def test_files_of_noise_never_make_it_fail(client, body, kind, tasks, accept):
    found = client.post(
        "/predict/file", content=body, headers={"Content-Type": kind, "Accept": accept}, params={"tasks": tasks}
    )
    assert found.status_code in (200, 415, 422), found.text


@usual
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"]),
    data=st.data(),
    params=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
    headers=st.dictionaries(
        st.sampled_from(["Accept", "Content-Type", "X-API-Key", "Authorization", "Range", "If-None-Match"]),
        st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20),
        max_size=3,
    ),
    body=st.binary(max_size=60),
)
def test_every_end_point_takes_every_method_and_header(client, method, data, params, headers, body):
    paths = [*client.get("/openapi.json").json()["paths"], "/", "/docs", "/openapi.json", "/nothing/here"]
    path = data.draw(st.sampled_from(paths))
    found = client.request(method, path, params=params, headers=headers, content=body)
    assert found.status_code < 500, (method, path, found.text)
    assert "Traceback" not in found.text
