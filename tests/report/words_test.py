import pytest

from brittle_jax.report.words import breakable, shortened


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("drawn_spot", "drawn_spot"),
        ("unimodal/airplane", "unimodal/<wbr>airplane"),
        ("normal pictures against drawn_spot, scab", "normal pictures against drawn_spot, scab"),
        ("cifar10_fmnist_rotnet", "cifar10_<wbr>fmnist_<wbr>rotnet"),
        ("data.max_test_samples", "data.<wbr>max_<wbr>test_<wbr>samples"),
        ("/data/<b>/a-very/long name", "/<wbr>data/<wbr>&lt;b&gt;/<wbr>a-<wbr>very/<wbr>long name"),
        ("", ""),
    ],
)
def test_names_break_after_their_words_if_they_are_long(name, broken):
    assert breakable(name) == broken


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("scab/1.png", "scab/1.png"),
        ("drawn_spot/healthy_0204.jpg", "drawn_<wbr>spot/<wbr>healthy_<wbr>0204.jpg"),
        ("x" * 30, "xxxxx…\u2060xxxxxxx"),
        (
            "scab/IMG_20210412-orchard_seven_tree.scab_0045_resizedandrotatedtwice.jpg",
            "scab/<wbr>IMG_<wbr>20210412-<wbr>…<wbr>0045_<wbr>resiz…\u2060ice.jpg",
        ),
        ("a&b<c>", "a&amp;b&lt;c&gt;"),
    ],
)
def test_long_names_are_cut_in_the_middle_and_full_in_the_title(name, shown):
    title = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert shortened(name) == f'<bdi class="name" title="{title}">{shown}</bdi>'


def test_a_name_with_quotes_stays_within_its_title():
    assert 'title="&#34; onclick=&#34;x"' in shortened('" onclick="x')
