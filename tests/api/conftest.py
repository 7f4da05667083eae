"""One profiled, hardly trained elastic model for all tests of this folder."""

from __future__ import annotations

import pytest
from api_subject import QUICK, TASKS, TRAIN, Ready, example, user_data, user_model

import mtnas


@pytest.fixture(scope="session")
def ready() -> Ready:
    data = user_data()
    elastic = mtnas.make_elastic(user_model(), example(), prove=False)
    mtnas.train(elastic, TASKS, data, config=TRAIN)
    return Ready(data, elastic, mtnas.profile(elastic, config=QUICK))
