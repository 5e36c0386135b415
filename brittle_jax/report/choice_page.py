"""The answer of brittle_jax.choose, as a table for the terminal and as a page."""

import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from brittle_jax.report import page

_LEGEND = """\
synthetic, rotations, real: AUROC of that detector, in percent, against made-up anomalies, turned images, and yours
spread: how much its scores of held-back images vary, over their mean; gap: that mean over the one of training images
"""


def rows(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns a row for each candidate, with the detector that does best against synthetic anomalies; the best first.

    Args:
        content: of choose.json.
    """
    standings = {each["name"]: each for each in content["standings"]}
    at_equal_error = {name: value for group in content["brittleness"] for name, value in group["values"].items()}
    found = []
    for candidate in content["candidates"]:
        means = {name: sum(kinds.values()) / len(kinds) for name, kinds in candidate["synthetic"].items()}
        detector = max(means, key=means.get)
        standing = standings.get(f"{candidate['name']}, {detector}")
        found.append(
            {
                "candidate": candidate,
                "detector": detector,
                "means": means,
                "standing": standing,
                "at_equal_error": at_equal_error[candidate["name"]],
                "anomalies": {
                    name: sum(kinds.values()) / len(kinds) for name, kinds in candidate.get("anomalies", {}).items()
                },
                "is_choice": candidate["name"] == content["choice"]["candidate"],
            }
        )
    return sorted(found, key=lambda row: (row["candidate"]["is_reference"], -row["means"][row["detector"]]))


def table(content: Mapping[str, Any]) -> str:
    """Returns the answer as text."""
    cells = [_cells(row) for row in rows(content)]
    lines = [tuple(cells[0]), *(tuple(each.values()) for each in cells)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*text, _LEGEND, *sentences(content)])


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """Returns a row of the table, by heading."""
    candidate, detector, standing = row["candidate"], row["detector"], row["standing"]
    rotations = candidate["rotations"] and candidate["rotations"][detector]
    real = {"real": _number(row["anomalies"][detector], 1, scale=100)} if row["anomalies"] else {}
    return {
        "candidate": candidate["name"] + (" (reference)" if candidate["is_reference"] else ""),
        "detector": detector,
        "synthetic (95%)": _number(row["means"][detector], 1, standing and standing["interval"], scale=100),
        "rotations": _number(rotations, 1, scale=100),
        **real,
        "brittleness (95%)": _number(candidate["brittleness"], 4, candidate.get("brittleness_interval")),
        "error ratio": _number(candidate["error_ratio"], 2),
        "spread": _number(candidate["spread"][detector], 2),
        "gap": _number(candidate["gap"][detector], 2),
        "time": f"{candidate['seconds']:.0f} s",
    }


def sentences(content: Mapping[str, Any]) -> list[str]:
    """Returns what was chosen, and what speaks against it."""
    choice = content["choice"]
    low, high = (100 * each for each in choice["interval"])
    said = [
        f"choice: {choice['candidate']} with {choice['detector']}, AUROC {100 * choice['auroc']:.1f} "
        f"[{low:.1f}, {high:.1f}] against synthetic anomalies"
    ]
    if low <= 50:
        said.append("that is no better than chance: none of the candidates tells these synthetic anomalies")
    if choice["too_close"]:
        said.append(f"too close to call: {'; '.join(choice['too_close'])}")
    for group in content["brittleness"]:
        if group["agrees"] is False:
            said.append(
                f"brittleness would choose {group['choice']} among {group['group']} (at an error ratio of "
                f"{group['error_ratio']:.2f}), synthetic anomalies {group['synthetic_choice']}"
            )
    for name, regret in content.get("regrets", {}).items():
        said.append(f"regret on the real anomalies ({name}): {100 * regret:.1f} points")
    if command := chosen(content)["command"]:
        said.append(f"train it on more of the images: {command}")
    said.append(f"score new images: {score_command(content)}")
    return said


def chosen(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns what was measured of the candidate that was chosen."""
    (candidate,) = (each for each in content["candidates"] if each["name"] == content["choice"]["candidate"])
    return candidate


def score_command(content: Mapping[str, Any]) -> str:
    """Returns the command that scores new images with the choice, as a shell takes it."""
    run, detector = chosen(content)["run"], content["choice"]["detector"]
    words = ["python", "-m", "brittle_jax.score", f"--run={run}", f"--detector={detector}"]
    return shlex.join([*words, "--images=DIR", "--out=scores.csv"])


def write_page(folder: pathlib.Path, content: Mapping[str, Any]) -> pathlib.Path:
    """Writes report/index.html, and returns where it is.

    Raises:
        UserError: if the page cannot be written.
    """
    text = page.render(
        "choice.html",
        choice=content,
        rows=rows(content),
        said=[each[0].upper() + each[1:] for each in sentences(content)[:-1]],
        command=score_command(content),
    )
    return page.save(folder, text)


def _number(value: float | None, decimals: int, interval: Sequence[float] | None = None, *, scale: float = 1) -> str:
    """Returns a number, with its interval in brackets if it has one."""
    if value is None:
        return "-"
    text = f"{scale * value:.{decimals}f}"
    return text if interval is None else f"{text} [{', '.join(f'{scale * each:.{decimals}f}' for each in interval)}]"
