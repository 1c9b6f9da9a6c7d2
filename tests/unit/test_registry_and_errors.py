"""Names of methods, and what an error says."""

from __future__ import annotations

import importlib.metadata
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import polytask
from polytask import errors
from polytask.balancing import registry as balancers
from polytask.errors import PolytaskError, RecipeError, UnknownNameError
from polytask.models.encoders import registry as encoders
from polytask.registry import Registry
from polytask.tasks import registry as tasks


def test_the_tree_of_errors():
    public = [getattr(errors, name) for name in errors.__all__]
    assert all(issubclass(error, PolytaskError) for error in public)
    for error in public:
        if error is not PolytaskError:
            assert error.__doc__
    assert issubclass(errors.DataError, ValueError)
    assert issubclass(errors.RecipeError, ValueError)
    assert issubclass(errors.StorageError, OSError)
    assert issubclass(errors.MissingExtraError, ImportError)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nash", "Did you mean 'nash_mtl'?"),
        ("uncertanty", "Did you mean 'uncertainty'?"),
        ("zzzzzz", "Known: "),
    ],
)
def test_unknown_names_carry_near_ones(name, expected):
    with pytest.raises(UnknownNameError, match="No balancer named") as caught:
        balancers.load(name)
    assert expected in str(caught.value)


def test_of_very_many_names_some_are_listed():
    text = str(UnknownNameError("column", "c1o", [f"c{i}" for i in range(2000)]))
    assert text.startswith("No column named 'c1o'. Did you mean 'c1")
    assert text.endswith(", ... (2,000 in all).")
    assert len(text) < 700
    assert str(UnknownNameError("column", "a", [])) == "No column named 'a'. Known: none."


def test_unknown_options_carry_near_ones():
    with pytest.raises(RecipeError, match="Did you mean 'label_smoothing'"):
        tasks.create("binary", name="a", label_smooth=0.1)


@pytest.mark.parametrize(
    ("registry", "name", "options", "message"),
    [
        (balancers, "fairgrad", {"alpha": "2"}, "Option alpha of balancer 'fairgrad' takes a number; got '2'."),
        (balancers, "dwa", {"period": 1.5}, "Option period .* takes a whole number or null; got 1.5."),
        (balancers, "nash_mtl", {"max_norm": True}, "takes a number or null; got True."),
        (balancers, "modo", {"independent": "no"}, "takes true or false; got 'no'."),
        (balancers, "auto_lambda", {"lr": "1e-3"}, "got '1e-3', which YAML reads as a text: write 1.0e-3."),
        (balancers, "auto_lambda", {"lr": "2.5E4"}, r"got '2.5E4', which YAML reads as a text: write 2.5e\+4."),
        (balancers, "igb", {"period": np.float64(1.5)}, "takes a whole number or null; got np.float64"),
        (balancers, "modo", {"gamma": torch.tensor([0.1])}, r"takes a number; got tensor\(\[0.1000\]\)."),
        (balancers, "fixed", {"weights": 3.0}, ""),
        (encoders, "mlp", {"widths": "wide"}, "takes a list of whole numbers; got 'wide'."),
        (encoders, "mlp", {"widths": [8, None]}, r"takes a list of whole numbers; got \[8, None\]."),
        (
            tasks,
            "quantile",
            {"name": "y", "quantiles": [0.1, "high"]},
            r"takes a list of numbers; got \[0.1, 'high'\].",
        ),
    ],
)
def test_options_of_another_kind_are_named_before_they_are_used(registry, name, options, message):
    if not message:  # a kind that is no plain data: the method looks at it when it has its tasks
        registry.create(name, **options)
        return
    with pytest.raises(RecipeError, match=message):
        registry.create(name, *([] if registry is not encoders else [{}]), **options)


@pytest.mark.parametrize("period", [10.0, np.float32(10), np.int64(10), torch.tensor(10), torch.tensor(10.0)])
def test_whole_numbers_may_be_written_as_floats(period):
    assert balancers.create("igb", period=period).period == 10


def test_numbers_and_truth_values_of_numpy_and_pytorch_are_taken():
    assert balancers.create("cagrad", rescale=np.False_).rescale == 0
    assert balancers.create("modo", gamma=torch.tensor(0.5)).gamma == 0.5
    assert balancers.create("auto_lambda", lr=np.float32(0.5)).lr == 0.5
    made = tasks.create("quantile", name="y", quantiles=torch.tensor([0.25, 0.5]))
    assert [float(quantile) for quantile in made.quantiles] == [0.25, 0.5]


def test_names_and_summaries_import_nothing():
    for module in [m for m in sys.modules if m.startswith("polytask.balancing.losses.")]:
        assert module  # loaded by other tests, perhaps; the count below is what matters
    before = set(sys.modules)
    for name in balancers.names():
        assert balancers.summary(name).endswith((".", ";", ":"))
    assert set(sys.modules) == before


def test_classes_by_name_and_back():
    for name in tasks.names():
        loaded = tasks.load(name)
        assert tasks.name_of(loaded) == name
        assert tasks.by_class_name(loaded.__name__) is loaded
    with pytest.raises(AttributeError, match="No task class"):
        tasks.by_class_name("Nothing")
    with pytest.raises(UnknownNameError):
        tasks.name_of(int)


def test_plug_ins_of_other_distributions(monkeypatch):
    from polytask.tasks import Binary

    class Mine(Binary):
        """Mine alone.

        And more of it.
        """

    Mine.__module__ = "elsewhere"
    entry = SimpleNamespace(name="mine", value=f"elsewhere:{Mine.__qualname__}", load=lambda: Mine)

    def entry_points(group):
        assert group == "polytask.task"
        return [entry]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    registry = Registry("task", tasks.packages, tasks.base, tasks.besides)
    assert "mine" in registry.names()
    assert registry.load("mine") is Mine
    assert registry.summary("mine") == "Mine alone."
    assert registry.name_of(Mine) == "mine"


def test_a_folder_that_is_no_package_is_an_error():
    with pytest.raises(ImportError, match="is not a package"):
        Registry("x", ("polytask.errors",), "polytask.errors:PolytaskError").names()


def test_public_names_are_lazy_and_there():
    assert set(polytask.__all__) <= set(dir(polytask))
    for name in polytask.__all__:
        assert getattr(polytask, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        polytask.nothing  # noqa: B018
