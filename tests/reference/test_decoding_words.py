"""What graph.json says of outputs, carried out by hand from its options and state alone: the answers of the task."""

import json

import numpy as np
import pytest
import torch

from polytask.serving import export as exporting
from polytask.tasks import Regression, Separation, Survival, Synthesis, Task, Transcription, registry


def told(task) -> tuple[dict, dict]:
    """Options and state as the file has them."""
    options, state = json.loads(json.dumps([task.options(), task.state()]))
    return options, state


@pytest.mark.parametrize("kind", registry.names())
def test_the_graph_s_file_says_how_outputs_become_answers(kind):
    task = registry.create(kind, name="target")
    task.fit(np.array(task.example_labels))
    said = exporting.output_of(task, ())
    assert said["decode"] == type(task).decoding != Task.decoding
    assert said["shape"] == ["batch", task.n_outputs]
    assert (said["options"], said["state"]) == told(task)


def test_regression_is_scaled_back_by_the_keys_that_are_named():
    task = Regression(name="price", transform="log")
    task.fit(np.array([1.0, 4.0, 9.0]))
    outputs = np.random.default_rng(0).normal(size=(5, 1))
    scaler = told(task)[1]["scaler"]
    assert "output * state.scaler.scale + state.scaler.centre" in task.decoding
    by_hand = np.exp(outputs[:, 0] * scaler["scale"] + scaler["centre"])
    np.testing.assert_allclose(task.decode(torch.from_numpy(outputs)).values, by_hand)


def test_survival():
    task = Survival(name="relapse", target=("months", "relapsed"), n_intervals=4)
    task.fit(np.array([[2, 1], [4, 1], [6, 1], [8, 0], [9, 1], [12, 1]]))
    outputs = np.random.default_rng(0).normal(size=(5, task.n_outputs))
    _, state = told(task)
    beyond = np.cumprod(1 / (1 + np.exp(-outputs)), axis=1)
    answer = task.decode(torch.from_numpy(outputs))
    np.testing.assert_allclose(answer.probabilities, beyond)
    chances = np.concatenate([np.ones((5, 1)), beyond], axis=1)
    np.testing.assert_allclose(answer.values, np.trapezoid(chances, [0.0, *state["edges"]], axis=1))


def test_synthesis():
    task = Synthesis(name="sound")
    draw = np.random.default_rng(0)
    task.fit(draw.normal(3, 2, size=(6, 4, 3)))
    outputs = draw.normal(size=(5, task.n_outputs))
    _, state = told(task)
    means = np.array(state["means"])
    by_hand = outputs.reshape(5, *means.shape) * state["scale"] + means
    np.testing.assert_allclose(task.decode(torch.from_numpy(outputs)).values, by_hand)


def test_separation():
    task = Separation(name="voices", window=8, hop=4)
    draw = np.random.default_rng(0)
    task.fit(draw.normal(size=(5, 2, 32)))
    outputs = draw.normal(size=(3, 9, task.n_outputs))
    options, state = told(task)
    n = options["window"] // 2 + 1
    masks = task.decode(torch.from_numpy(outputs)).values
    for k in range(len(state["bias"])):
        np.testing.assert_array_equal(masks[:, :, k], outputs[:, :, k * n : (k + 1) * n])


def test_transcription():
    task = Transcription(name="text")
    task.fit(np.array(["abba", "cab", "b"], dtype=object))
    outputs = np.random.default_rng(0).normal(size=(20, 12, task.n_outputs))
    options, state = told(task)
    texts = []
    for row in outputs.argmax(-1):
        kept = [k for t, k in enumerate(row) if t == 0 or row[t - 1] != k]
        texts.append(options["separator"].join(str(state["symbols"][k - 1]) for k in kept if k))
    assert list(task.decode(torch.from_numpy(outputs)).values) == texts
    assert len(set(texts)) > 1
