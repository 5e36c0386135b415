import pytest

from brittle_jax.text import nearest, split_list


@pytest.mark.parametrize(("text", "items"), [("", []), (" , ", []), ("a", ["a"]), (" a, b c ,,d", ["a", "b c", "d"])])
def test_lists_are_separated_by_commas(text, items):
    assert split_list(text) == items


def test_similar_names_are_suggested():
    assert nearest("dta.name", ["data.name", "seed"]) == " (did you mean data.name?)"
    assert nearest("colours", ["colour", "colors", "seed"]) == " (did you mean colour or colors?)"
    assert nearest("xyz", ["data.name", "seed"]) == ""
