"""Connectionist temporal classification, held against PyTorch's loss and against sums over every path."""

import itertools
import math

import numpy as np
import pytest
import torch
import torchmetrics.functional.text as tm

from polytask import Recipe, load
from polytask.data import spoken_strings
from polytask.errors import TargetError
from polytask.tasks import Transcription
from polytask.tasks._alignment import alignment_losses, beam_path, best_path, collapsed
from polytask.tasks.members import where_there
from polytask.training.data_sets import ArrayData


def case(n=6, length=9, symbols=4, longest=4, seed=0):
    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(n, length, symbols + 1, generator=draw, dtype=torch.float64) * 2
    labels = torch.randint(1, symbols + 1, (n, longest), generator=draw)
    for row in range(n):
        labels[row, row % (longest + 1) :] = 0  # the empty text too
    return z, labels


def test_losses_and_gradients_are_those_of_pytorch():
    z, labels = case(n=12)
    mine, theirs = z.clone().requires_grad_(), z.clone().requires_grad_()
    losses = alignment_losses(mine.log_softmax(-1), labels)
    lengths = torch.full((12,), 9), (labels > 0).sum(1)
    wanted = torch.nn.functional.ctc_loss(theirs.log_softmax(-1).transpose(0, 1), labels, *lengths, reduction="none")
    torch.testing.assert_close(losses, wanted)
    losses.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-10, rtol=1e-8)


def by_label(log_p):
    """The chance of every label, from every path."""
    chances = {}
    n_elements, n_codes = log_p.shape
    for path in itertools.product(range(n_codes), repeat=n_elements):
        label = collapsed(path)
        chances[label] = chances.get(label, 0.0) + math.exp(sum(log_p[t, k].item() for t, k in enumerate(path)))
    return chances


@pytest.mark.parametrize("seed", range(6))
def test_tiny_cases_are_sums_over_all_paths_and_a_wide_beam_finds_the_likeliest_text(seed):
    z, _ = case(n=1, length=5, symbols=2, seed=seed)
    log_p = z[0].log_softmax(-1)
    chances = by_label(log_p)
    assert sum(chances.values()) == pytest.approx(1.0)
    for label, chance in chances.items():
        padded = torch.tensor([[*label, *[0] * (5 - len(label))]])
        assert alignment_losses(log_p[None], padded).item() == pytest.approx(-math.log(chance), abs=1e-9)
    assert beam_path(log_p, 1000) == max(chances, key=chances.get)
    likeliest = max(
        itertools.product(range(3), repeat=5), key=lambda p: sum(log_p[t, k].item() for t, k in enumerate(p))
    )
    assert best_path(log_p) == collapsed(likeliest)


def test_the_likeliest_path_need_not_be_the_likeliest_text():
    log_p = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
    assert best_path(log_p) == ()
    assert beam_path(log_p, 4) == (1,)  # 1 - 0.36 against 0.36


def fitted(**options):
    task = Transcription(name="said", **options)
    task.fit(np.array(["no", "on off", "noon", None], dtype=object))
    return task


def test_a_text_that_does_not_fit_has_no_gradient_and_is_counted():
    task = fitted()
    targets, observed = (torch.from_numpy(a) for a in task.encode(np.array(["noon", "no"], dtype=object)))
    z = torch.randn(2, 4, task.n_outputs, generator=torch.Generator().manual_seed(0)).requires_grad_()
    losses = task.loss(z, targets, observed)
    losses.sum().backward()
    assert losses[0] == 0.0  # four letters, and a blank between the two equal ones
    assert not z.grad[0].any()
    assert z.grad[1].any()
    assert task.evaluate(z, targets, observed)["too_long"] == 0.5
    whole = torch.randn(2, 5, task.n_outputs)
    assert task.evaluate(whole, targets, observed)["too_long"] == 0.0


@pytest.mark.parametrize("beam", [1, 5])
def test_character_errors_are_those_of_torchmetrics(beam):
    task = fitted(beam=beam)
    texts = np.array(["no", "on", "noon", "off on", "n"], dtype=object)
    targets, observed = (torch.from_numpy(a) for a in task.encode(texts))
    z = torch.randn(5, 9, task.n_outputs, generator=torch.Generator().manual_seed(1)) * 3
    answers = task.decode(z).values.tolist()
    assert len(set(answers)) > 1
    wanted = tm.char_error_rate(answers, texts.tolist()).item()
    assert task.evaluate(z, targets, observed)["character_error"] == pytest.approx(wanted)


def test_symbols_may_be_words_and_spaces_count_as_symbols():
    assert " " in fitted().symbols_.names
    task = fitted(separator=" ")
    assert task.symbols_.names == ("no", "noon", "off", "on")
    assert task.decode(task.outputs_from(task.decode(task.outputs_from(_of("on off no"))))).values.tolist() == [
        "on off no"
    ]


def _of(text):
    from polytask.tasks import Prediction

    return Prediction(np.array([text], dtype=object))


def test_texts_that_cannot_be_learned_are_refused():
    with pytest.raises(TargetError, match="no text in its 2 rows"):
        Transcription(name="said").fit(np.array([None, np.nan], dtype=object))
    with pytest.raises(TargetError, match="one text only, ''"):
        Transcription(name="said").fit(np.array(["", " "], dtype=object))
    with pytest.raises(TargetError, match="one text only, 'on'"):
        Transcription(name="said").fit(np.array(["on", "on"], dtype=object))
    with pytest.raises(TargetError, match="symbol 'x' of row 1; it knows ' ', 'f', 'n', 'o'"):
        fitted().encode(np.array(["no", "xx"], dtype=object))
    assert fitted().is_known(np.array(["no", "xx", None], dtype=object)).tolist() == [True, False, True]
    with pytest.raises(TargetError, match="beam of at least 1"):
        Transcription(name="said", beam=0)


def test_a_symbol_that_is_named_and_never_seen_is_an_output_like_any_other():
    task = Transcription(name="said", symbols=["n", "o", "x"])
    task.fit(np.array(["no", "on", None], dtype=object))
    targets, observed = task.encode(np.array(["ox"], dtype=object))
    assert targets.tolist() == [[2, 3]]
    assert observed.tolist() == [True]
    assert task.n_outputs == 4
    assert task.initial_bias().isfinite().all()
    with pytest.raises(TargetError, match="symbol 'f' of row 0"):
        task.fit(np.array(["off", "on"], dtype=object))
    with pytest.raises(TargetError, match="different and not empty, got 'n', 'n'"):
        Transcription(name="said", symbols=["n", "n"])


def test_elements_that_are_not_there_change_neither_loss_nor_text_nor_metrics():
    task = fitted()
    texts = np.array(["no", "", "noon", "on"], dtype=object)
    targets, observed = (torch.from_numpy(a) for a in task.encode(texts))
    assert observed.all()  # nothing said is not the same as not known
    z = torch.randn(4, 6, task.n_outputs, generator=torch.Generator().manual_seed(2))
    longer = torch.nn.functional.pad(z, (0, 0, 0, 30)).requires_grad_()
    there = (torch.arange(36) < 6).expand(4, -1)
    padded = where_there(longer, there, task.link)
    short = z.clone().requires_grad_()
    losses = task.loss(padded, targets, observed), task.loss(short, targets, observed)
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.sum().backward()
    torch.testing.assert_close(longer.grad[:, :6], short.grad)
    assert not longer.grad[:, 6:].any()
    assert task.evaluate(padded, targets, observed) == pytest.approx(task.evaluate(z, targets, observed), rel=1e-6)
    assert task.decode(padded).values.tolist() == task.decode(z).values.tolist()
    nothing = where_there(z, torch.zeros(4, 6, dtype=torch.bool), task.link)
    assert task.decode(nothing).values.tolist() == [""] * 4
    assert task.label_losses(nothing, targets).tolist() == [0.0] * 4
    assert task.evaluate(nothing, targets, observed)["too_long"] == 0.75


def test_recordings_are_written_down_beside_who_speaks(tmp_path):
    made = spoken_strings(128, n_speakers=2, n_syllables=5, length=(1, 2), noise=0.005)
    labels = {**made.labels, "text": made.labels["text"].copy()}
    labels["text"][::9] = None
    recipe = Recipe(
        tasks={"text": {"kind": "transcription", "weight": 0.3}, "speaker": "binary"},
        encoder={"name": "speech_frames", "n_mels": 20, "hop": 0.02, "channels": [8, 12], "halvings": 1, "width": 24},
        split={"validation": 0.0, "test": 0.25},
        training={"epochs": 12, "batch_size": 8, "learning_rate": 8e-3, "patience": None},
    )
    run = recipe.run(ArrayData("recordings", made.waves, labels), out=tmp_path / "run")
    found = {name: result.metrics for name, result in run.record.tasks.items()}
    assert found["text"]["character_error"] < 0.6
    assert found["text"]["relative_error"] < 0.5
    assert found["text"]["too_long"] == 0.0
    assert found["speaker"]["accuracy"] > 0.7
    answers = load(tmp_path / "run").predict(made.waves)
    assert answers["text"].values.tolist() == run.predict(made.waves)["text"].values.tolist()
    assert set("".join(answers["text"].values)) <= set("aeiou")
    some = made.waves[:1, : round(made.seconds[0] * made.rate)]
    alone = np.pad(some, ((0, 0), (0, made.waves.shape[1] - some.shape[1])))
    assert run.predict(alone)["text"].values[0] == answers["text"].values[0]
