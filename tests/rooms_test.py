"""The rooms of the package: imports point down only."""

import ast
import pathlib

import pytest

import brittle_jax

PACKAGE = pathlib.Path(brittle_jax.__file__).parent

# From top to bottom: a room may import what stands below it, and itself. BUILD_NOTES.md says what each does.
FLOORS = [
    {"main", "batch", "choose", "export", "score", "__main__"},
    {"run"},
    {"report", "apply"},
    {"teachers", "student", "probe"},
    {"train"},
    {"inference"},
    {"loop"},
    {"evaluate", "auxiliary"},
    {"models"},
    {"command_line", "recipes", "runtime"},
    {"config"},
    {"data"},
    {"checkpoint", "devices", "heap", "journal", "metric_log", "results", "rows"},
    {"background", "console", "files", "interrupt", "precision", "published", "seeding", "text"},
    {"errors"},
    {"__init__"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(module):
    """Returns the first name below the package: `brittle_jax.data.images` is in `data`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports_of(file):
    """Yields the modules of this package that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "brittle_jax")
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "brittle_jax":
            for alias in node.names:
                is_module = any((PACKAGE.parent / node.module.replace(".", "/")).glob(f"{alias.name}*"))
                yield f"{node.module}.{alias.name}" if is_module else node.module


FILES = sorted(file for file in PACKAGE.rglob("*.py") if "configs" not in file.relative_to(PACKAGE).parts)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_no_import_points_up(file):
    room = room_of(f"brittle_jax.{file.relative_to(PACKAGE).with_suffix('').as_posix().replace('/', '.')}")
    for module in imports_of(file):
        imported = room_of(module)
        assert imported == room or FLOOR_OF[imported] > FLOOR_OF[room], f"{room} imports {module}"


def test_every_room_has_a_floor_and_exists():
    rooms = {file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in FILES}
    assert rooms == FLOOR_OF.keys()
