"""The page of a row that was repeated over several seeds: means and spreads, with links to the pages of the runs."""

import pathlib
from collections.abc import Mapping
from typing import Any

from brittle_jax import results
from brittle_jax.report import page


def write_page(folder: pathlib.Path, content: Mapping[str, Any]) -> pathlib.Path:
    """Writes report/index.html, and returns where it is.

    Args:
        folder: of the repeated row, with the runs in it.
        content: of its results.json.

    Raises:
        UserError: if the page cannot be written.
    """
    text = page.render("seeds.html", results=content, groups=results.groups_over_seeds(content))
    return page.save(folder, text)
