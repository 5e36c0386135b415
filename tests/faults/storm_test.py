"""A small storm; `python tests/faults/storm.py --kills=50` is the proof."""

import pytest

from tests.faults.storm import storm


@pytest.mark.long
def test_a_run_that_is_killed_and_damaged_ends_as_if_nothing_had_happened():
    result = storm(num_kills=4, seed=0, options=["--mini"])
    assert result.fell_in.total() == 4
    assert result.differences == []
