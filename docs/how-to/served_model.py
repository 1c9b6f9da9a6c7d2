"""A trained model served over HTTP and exported as a graph: started, asked, stopped.

    python docs/how-to/served_model.py

Needs the extras `serve` and `export`.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd

from polytask import Recipe, load
from polytask.data.generators import related_regressions
from polytask.serving.export import export

KEY = "a-secret"


def train(folder: Path) -> None:
    """Houses: a price, and whether each was sold."""
    table = related_regressions(n_tasks=2, n_rows=300, n_inputs=3).frame.rename(columns={"y0": "price"})
    table["sold"] = np.where(table.pop("y1") > 0, "yes", "no")
    table["town"] = np.resize(["Aix", "Bonn", "Cork"], len(table))
    table.to_csv(folder / "houses.csv", index=False)
    recipe = Recipe(tasks=["price", "sold"], data=str(folder / "houses.csv"), training={"epochs": 5})
    recipe.run(out=folder / "runs" / "houses")


CURL = r"""
curl -s http://127.0.0.1:8000/health/ready
curl -s http://127.0.0.1:8000/predict -H "X-API-Key: $KEY" -H "Content-Type: application/json" \
    -d '{"rows": [{"x0": 0.3, "x1": -1, "x2": null, "town": "Bonn"}]}'
curl -s http://127.0.0.1:8000/predict/file -H "X-API-Key: $KEY" -H "Content-Type: text/csv" --data-binary @houses.csv
curl -s http://127.0.0.1:8000/metrics -H "X-API-Key: $KEY"
"""


def ask(url: str, path: str, body: object = None, key: str = KEY) -> tuple[int, str]:
    """Status and text of an answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data, headers), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def serve(folder: Path) -> None:
    """Start the server on a free port, with a key."""
    command = [sys.executable, "-m", "polytask", "serve", "runs/houses", "--port", "0", "--drain-seconds", "2"]
    environment = {**os.environ, "POLYTASK_API_KEY": KEY}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            ask_all(folder, server, server.stdout.readline().split(" on ")[1].split()[0])
        finally:
            server.terminate()


def ask_all(folder: Path, server: subprocess.Popen, url: str) -> None:
    """Answers, refusals, the same by curl, and the stop."""

    # Answers in the units of the table.
    row = {"x0": 0.3, "x1": -1, "x2": None, "town": "Bonn"}
    status, text = ask(url, "/predict", {"rows": [row]})
    assert status == 200
    print(json.loads(text)["predictions"][0])

    # What a server refuses, it refuses with a reason.
    status, text = ask(url, "/predict", {"rows": [{**row, "x0": "much"}]})
    print(status, text)
    assert status == 422
    assert ask(url, "/predict", {"rows": [row]}, key="guessed")[0] == 401

    if shutil.which("curl") is None:
        print("curl is not installed: its commands were not run")
    else:
        for line in CURL.strip().replace("\\\n", "").splitlines():
            words = shlex.split(line.replace("http://127.0.0.1:8000", url).replace("$KEY", KEY))
            said = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout
            assert "error" not in said, said
            print(line.split()[2].rpartition(":8000")[2], "answers", len(said), "characters")

    # Asked to stop, it is not ready any more, still answers for two seconds, and ends.
    assert ask(url, "/health/live")[0] == ask(url, "/health/ready")[0] == 200
    server.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert ask(url, "/health/ready")[0] == 503
    assert ask(url, "/predict", {"rows": [row]})[0] == 200
    server.wait(30)


def run_graph(folder: Path) -> None:
    """The exported graph, run by ONNX Runtime from its two files, answers as the bundle does."""
    import onnxruntime

    bundle = load(folder / "runs" / "houses")
    made = export(bundle, folder / "graph")
    about = json.loads(made.about.read_text(encoding="utf-8"))
    new = pd.read_csv(folder / "houses.csv").drop(columns=["price", "sold"]).head(3)

    rows = bundle.encode(new).inputs  # the columns as tensors: what `transform` in graph.json says
    session = onnxruntime.InferenceSession(made.graph)
    outputs = session.run(None, {told["name"]: rows[told["name"]].numpy() for told in about["inputs"]})

    price, sold = about["outputs"]
    scaler = price["state"]["scaler"]
    prices = outputs[0][:, 0] * scaler["scale"] + scaler["centre"]  # price["decode"]
    chances = 1 / (1 + np.exp(-outputs[1][:, 0]))  # sold["decode"]: P(second class) = sigmoid(output)
    assert sold["state"]["classes"] == ["no", "yes"]

    answers = bundle.predict(new)
    np.testing.assert_allclose(prices, answers["price"].values, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(chances, answers["sold"].probabilities[:, 1], rtol=1e-4, atol=1e-4)
    print("The graph answers as the bundle does:", prices.round(2), chances.round(2))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        train(Path(scratch))
        serve(Path(scratch))
        run_graph(Path(scratch))
