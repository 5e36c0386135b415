"""The embedded parcels meet the criteria of docs/data-sets.md.

This takes three quarters of an hour on a CPU core, so it is not part of the default run:
`python -m pytest -m slow -s -n 0`.
"""

import pytest

from benchmarks.parcels import CRITERIA, Lab

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(seed=120, directory=str(tmp_path_factory.mktemp("data")), changes={})


@pytest.mark.parametrize("name", CRITERIA)
def test_the_criterion_holds(lab, name):
    rows = list(CRITERIA[name](lab))
    assert rows
    for row in rows:
        print(f"{row.name}: {row.figure:.3f}")
        low, high = row.bounds
        assert low <= row.figure <= high
