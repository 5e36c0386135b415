import importlib
import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent


def test_the_index_names_code_and_tests_that_exist():
    text = (ROOT / "BUILD_NOTES.md").read_text(encoding="utf-8")
    entries = re.findall(r"\| `([\w.]+):(\w+)` \| `([\w/.]+)` \|", text)
    assert len(entries) >= 15
    for module, name, test in entries:
        assert callable(getattr(importlib.import_module(module), name))
        assert name in (ROOT / test).read_text(encoding="utf-8"), f"{test} does not mention {name}"
