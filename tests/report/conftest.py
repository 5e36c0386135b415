"""Pages that many tests look at; not to be changed."""

import pathlib
from typing import Any, NamedTuple

import pytest

from brittle_jax.report.page import write_page
from tests.report.made_up_runs import write_own, write_run
from tests.report.parsed_page import Page


class Made(NamedTuple):
    """A folder of a run, the content of its results.json, and its page."""

    folder: pathlib.Path
    content: dict[str, Any]
    text: str
    page: Page


def made(folder, content):
    text = write_page(folder, content).read_text(encoding="utf-8")
    return Made(folder, content, text, Page(text))


@pytest.fixture(scope="session")
def of_row(tmp_path_factory):
    """Of a row of the paper, two configurations."""
    folder = tmp_path_factory.mktemp("row")
    return made(folder, write_run(folder))


@pytest.fixture(scope="session")
def of_own(tmp_path_factory):
    """Of your own pictures, with two kinds of anomaly and a probe."""
    folder = tmp_path_factory.mktemp("own")
    return made(folder, write_own(folder, probe_accuracy=0.5, probe_accuracy_sd=0.0))
