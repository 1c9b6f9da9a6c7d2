"""Every registered way of sharing keeps the contract, with every kind of encoder."""

import pytest

from polytask.models.sharing import registry
from polytask.testing import check_sharing

CASES = ("mlp", "mlp_two_sources", "tabular", "cnn", "cnn_two_sources", "resnet18")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", registry.names())
def test_keeps_the_contract(name, case):
    check_sharing(name, cases=[case])
