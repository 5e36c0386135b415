import io
import re
import time

import pytest
from tqdm import tqdm

from brittle_jax import console


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.34, "8.3 s"), (245, "4 min 05 s"), (7500, "2 h 05 min"), (3599.7, "1 h 00 min")]
)
def test_durations_are_readable(seconds, text):
    assert console.duration(seconds) == text


def test_progress_ends_with_a_line_of_what_was_done(capsys):
    with console.track("scores", 10) as progress:
        progress.update(4)
        progress.update(6)
    assert capsys.readouterr().out.startswith("  scores: 10 images in ")


def test_compilation_is_no_work_that_the_time_left_is_judged_by(capsys):
    with console.track("scores", 1000, seconds_between_lines=0.0) as progress:
        time.sleep(0.5)  # as compilation takes before the first update ends
        for _ in range(10):
            progress.update(1)
            time.sleep(0.001)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 and lines[0].startswith("  scores: 2/1000, ")
    for line in lines[:-1]:
        assert float(re.search(r"([\d.e+]+) images/s, ([\d.]+) s left", line)[2]) < 100  # 500 s with the compilation


def test_the_bar_on_a_terminal_does_not_count_compilation_either():
    bar = tqdm(total=1000, file=io.StringIO())
    progress = console.Progress("scores", 1000, "image", bar, 0, 20.0)
    time.sleep(0.5)
    for _ in range(10):
        progress.update(1)
        time.sleep(0.001)
    shown = bar.format_dict
    assert shown["n"] == 10
    assert shown["elapsed"] < 0.4


@pytest.mark.parametrize(("number", "text"), [(0, "0 pictures"), (1, "1 picture"), (1200, "1,200 pictures")])
def test_counts_are_singular_or_plural(number, text):
    assert console.count(number, "picture") == text
