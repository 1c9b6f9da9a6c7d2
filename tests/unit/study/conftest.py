import pandas as pd
import pytest
import torch
from study_data import mixed_table


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def table() -> pd.DataFrame:
    return mixed_table()
