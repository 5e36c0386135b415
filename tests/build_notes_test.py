import importlib
import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent


def test_the_index_names_code_and_tests_that_exist():
    rows = re.findall(r"\| `([\w.]+):(\w+)` \| `([\w/.]+)` \|", (ROOT / "BUILD_NOTES.md").read_text())
    assert len(rows) >= 15
    for module, name, test in rows:
        assert callable(getattr(importlib.import_module(module), name))
        assert name in (ROOT / test).read_text(), f"{test} does not mention {name}"


def test_the_readmes_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    exec(code, {})
    assert float(capsys.readouterr().out) > 0
