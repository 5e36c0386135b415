"""Makes the pictures of the README and docs/, and a sheet of parcels to look at critically.

python docs/make_pictures.py parcels                   # docs/parcels.jpg
python docs/make_pictures.py sheet --out=sheet.png     # twenty normal parcels, then twenty threats
python docs/make_pictures.py page --run=runs/ROW       # docs/page.jpg, of a finished run, with Chromium
python docs/make_pictures.py vulnerability             # docs/vulnerability.jpg, of results/vulnerability.csv
"""

import argparse
import csv
import io
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter
from PIL import Image

from brittle_jax.data.parcels.packing import pack
from brittle_jax.data.parcels.scanner import scan

_GAP_PIXELS = 10
_DOCS = pathlib.Path(__file__).parent
_ATTACKED = {
    "cifar10_random": "random",
    "cifar10_cifar_rotnet": "RotNet, CIFAR-10",
    "cifar10_cifar_autoencoder": "autoencoder, CIFAR-10",
    "cifar10_fmnist_rotnet": "RotNet, Fashion-MNIST",
    "cifar10_fmnist_classification": "classification, Fashion-MNIST",
    "cifar10_baseline": "supervised",
}


def parcels(*, per_class: int, columns: int, side_pixels: int) -> Image.Image:
    """Returns a sheet of parcels, the top view above the side view: normal ones first, then threats."""
    cells = [
        _both_views(np.random.default_rng([0, int(is_threat), index]), is_threat, side_pixels)
        for is_threat in (False, True)
        for index in range(per_class)
    ]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    width = max(cell.shape[1] for cell in cells) + _GAP_PIXELS
    tops = np.cumsum([0, *(max(cell.shape[0] for cell in row) + _GAP_PIXELS for row in rows)])
    sheet = np.full((tops[-1], width * columns, 3), 255, np.uint8)
    for row, top in zip(rows, tops, strict=False):
        for column, cell in enumerate(row):
            left = column * width
            sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return Image.fromarray(sheet)


def _both_views(rng: np.random.Generator, is_threat: bool, side_pixels: int) -> np.ndarray:
    scans = scan(rng, pack(rng, is_threat=is_threat), side_pixels=side_pixels)
    views = [view.image for view in scans.values()]
    width = max(view.shape[1] for view in views)
    return np.concatenate([np.pad(view, ((0, 0), (0, width - view.shape[1]), (0, 0)), mode="edge") for view in views])


def page(run: pathlib.Path, *, width: int, height: int) -> Image.Image:
    """Returns the top of a run's page as Chromium draws it, in pixels."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("chromium is not installed: it draws the page")
    source = run / "report" / "index.html"
    if not source.is_file():
        sys.exit(f"--run={run}: there is no {source}, name the folder of a finished run")
    with tempfile.TemporaryDirectory() as folder:
        picture = pathlib.Path(folder) / "page.png"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}"]
        command = [browser, *options, f"--window-size={width},{height}", f"--screenshot={picture}"]
        subprocess.run([*command, source.resolve().as_uri()], check=True, capture_output=True, timeout=60)
        return Image.open(io.BytesIO(picture.read_bytes())).convert("RGB")


def vulnerability() -> Image.Image:
    """Returns brittleness against how vulnerable a score is, a point for each student that was attacked."""
    with open(_DOCS / "results" / "vulnerability.csv", newline="", encoding="utf-8") as file:
        points = [line for line in csv.DictReader(file) if line["updates"] == "400"]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    for row, name in _ATTACKED.items():
        own = [line for line in points if line["row"] == row]
        brittleness, growth, distance = (
            [float(line[column]) for line in own] for column in ("brittleness", "growth", "distance")
        )
        panels[0].scatter(brittleness, growth, s=18, label=name)
        panels[1].scatter(brittleness, distance, s=18)
    for panel, label in zip(panels, ("growth of the score under attack", "distance to the threshold"), strict=True):
        panel.set(xscale="log", yscale="log", xlabel="brittleness", ylabel=label)
        for axis, ticks in ((panel.xaxis, [0.005, 0.01, 0.02]), (panel.yaxis, [0.1, 0.2, 0.5, 1])):
            axis.set_major_locator(FixedLocator(ticks))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
    figure.legend(loc="outside upper center", ncols=len(_ATTACKED) // 2, frameon=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    return Image.open(drawn).convert("RGB")


def main() -> None:
    """Reads the command line and writes one picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("parcels", "sheet", "page", "vulnerability"))
    parser.add_argument("--run", type=pathlib.Path, help="folder of the run whose page is drawn")
    parser.add_argument("--out", type=pathlib.Path, help="where the picture goes; needed for sheet")
    arguments = parser.parse_args()
    if arguments.what == "sheet" and arguments.out is None:
        parser.error("sheet needs --out=FILE")
    if arguments.what == "page":
        if arguments.run is None:
            parser.error("page needs --run=FOLDER")
        picture = page(arguments.run, width=1100, height=2080)
    elif arguments.what == "vulnerability":
        picture = vulnerability()
    elif arguments.what == "sheet":
        picture = parcels(per_class=20, columns=10, side_pixels=230)
    else:
        picture = parcels(per_class=4, columns=4, side_pixels=230)
    picture.save(arguments.out or _DOCS / f"{arguments.what}.jpg", quality=85, optimize=True)


if __name__ == "__main__":
    main()
