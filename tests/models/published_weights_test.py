"""Writes the weights of a random PyTorch network in every spelling that can be read."""

import hashlib
import pickle
import re
import warnings

import jax
import numpy as np
import pytest

from brittle_jax.errors import UserError
from brittle_jax.models.network import ARCHITECTURES
from brittle_jax.models.published_weights import load_trunk, sha256_of

pytestmark = pytest.mark.reference


def torchvision_names(reference, spelling):
    """Returns the state of a reference network under the names that published files use."""
    state = {}
    for name, tensor in reference.state_dict().items():
        kind, module, leaf = name.split(".")
        assert kind in ("convs", "norms")
        name = f"{module.replace('_', '.')}.{leaf}"
        if spelling == "old":
            name = re.sub(r"\.(norm|conv)([12])\.", r".\1.\2.", name)
        state[name if spelling == "bare" else f"features.{name}"] = tensor
    return state


def draw(torch, name, side):
    """Returns a trunk, the shapes of its variables, and a reference network with random weights and statistics."""
    from tests.reference import torch_networks

    trunk = ARCHITECTURES[name].trunk
    like = jax.eval_shape(trunk.init, jax.random.key(0), np.zeros((1, side, side, 3), np.float32))
    reference = torch_networks.DenseNet(trunk.growth, trunk.block_sizes, trunk.initial_features).eval()
    for norm in reference.norms.values():
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, 0, 0.1)
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 1.5)
    return trunk, dict(like), reference


def save(torch, state, path):
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.fixture
def tiny(torch):
    return draw(torch, "densenet_tiny", 64)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("spelling", ["old", "new", "bare"])
def test_every_spelling_and_file_type_gives_the_features_of_torch(torch, tiny, tmp_path, spelling, suffix):
    trunk, like, reference = tiny
    state = torchvision_names(reference, spelling)
    state["classifier.weight"], state["classifier.bias"] = torch.zeros(1000, 2), torch.zeros(1000)
    path = save(torch, state, tmp_path / f"weights{suffix}")
    variables = load_trunk(str(path), hashlib.sha256(path.read_bytes()).hexdigest()[:8], like)
    images = np.random.default_rng(1).uniform(size=(2, 64, 64, 3)).astype(np.float32)
    with torch.no_grad():
        expected = reference(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    outputs = np.asarray(jax.jit(trunk.apply)(variables, images))
    assert np.abs(outputs - expected).max() <= 1e-4 * np.abs(expected).max()


def wrapped(torch, state, how):
    """Returns a checkpoint as training programs save it."""
    parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    step = {"epoch": 90, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}}
    return {
        "state_dict": {"arch": "densenet", "state_dict": state, **step},
        "module.": parallel,
        "state_dict, module.": {"state_dict": parallel, **step},
        "parallel trunk": {name.replace("features.", "features.module."): value for name, value in state.items()},
    }[how]


@pytest.mark.parametrize("how", ["state_dict", "module.", "state_dict, module.", "parallel trunk"])
def test_training_checkpoints_are_unwrapped(torch, tiny, tmp_path, how):
    _, like, reference = tiny
    state = torchvision_names(reference, "new") | {"classifier.weight": torch.zeros(1000, 2)}
    expected = load_trunk(str(save(torch, state, tmp_path / "plain.pth")), "", like)
    suffixes = [".pth"] if "state_dict" in how else [".pth", ".safetensors"]
    for suffix in suffixes:
        path = save(torch, wrapped(torch, state, how), tmp_path / f"weights{suffix}")
        jax.tree.map(np.testing.assert_array_equal, load_trunk(str(path), "", like), expected)


def test_other_wrappings_are_refused_with_a_remedy(torch, tiny, tmp_path):
    _, like, reference = tiny
    state = torchvision_names(reference, "new")
    name = next(iter(state))
    cases = {
        r"the weights lie under 'model': save them alone, with torch.save\(torch.load\(FILE\)\['model'\], NEW_FILE\)": {
            "model": state,
            "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}},
        },
        r"the weights lie under 'net.state_dict': .*\['net'\]\['state_dict'\]": {"net": {"state_dict": state, "a": 1}},
        "the weights lie under 'state_dict' and 'state_dict_ema': save them alone": {
            "state_dict": state,
            "state_dict_ema": state,
        },
        "contains no weights, only arch, epoch: save": {"arch": "densenet", "epoch": 3},
        r"contains more than tensors \(epoch\): save": {**state, "epoch": 3},
        r"weights.pth: a list, not tensors by name: save the network's state_dict\(\) alone": [state[name]],
        "all names begin with 'backbone.': save": {f"backbone.{name}": value for name, value in state.items()},
        "all names begin with 'model.net.': save": {f"model.net.{key}": value for key, value in state.items()},
    }
    for message, content in cases.items():
        with pytest.raises(UserError, match=message):
            load_trunk(str(save(torch, content, tmp_path / "weights.pth")), "", like)
    content = {f"state_dict.{name}": value for name, value in state.items()}
    with pytest.raises(UserError, match="all names begin with 'state_dict.': save"):
        load_trunk(str(save(torch, content, tmp_path / "weights.safetensors")), "", like)


def test_whole_modules_are_refused_with_a_remedy(torch, tiny, tmp_path):
    path = tmp_path / "weights.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)
    with pytest.raises(
        UserError, match=r"weights.pth: a compiled module \(TorchScript\).* save the network's state_dict\(\)"
    ):
        load_trunk(str(path), "", tiny[1])
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(UserError, match=r"contains more than tensors, such as a whole module.* state_dict\(\) alone$"):
        load_trunk(str(path), "", tiny[1])


def test_densenet161_at_224_gives_the_features_of_torch(torch, tmp_path):
    trunk, like, reference = draw(torch, "densenet161", 224)
    path = save(torch, torchvision_names(reference, "old"), tmp_path / "densenet161.pth")
    variables = load_trunk(str(path), "", like)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 26_472_000
    images = np.random.default_rng(1).uniform(size=(1, 224, 224, 3)).astype(np.float32)
    with torch.no_grad():
        expected = reference(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    outputs = np.asarray(jax.jit(trunk.apply)(variables, images))
    assert np.abs(outputs - expected).max() <= 1e-4 * np.abs(expected).max()


class RunsCode:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return open, (str(self.witness), "w")


def test_a_pickle_with_code_is_refused_and_not_run(torch, tiny, tmp_path):
    path, witness = tmp_path / "weights.pth", tmp_path / "witness"
    torch.save({"features.conv0.weight": RunsCode(witness)}, path)
    with pytest.raises(UserError, match="contains more than tensors"):
        load_trunk(str(path), "", tiny[1])
    path.write_bytes(pickle.dumps(RunsCode(witness)))
    with pytest.raises(UserError, match="contains more than tensors|damaged"):
        load_trunk(str(path), "", tiny[1])
    assert not witness.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused(torch, tiny, tmp_path, suffix):
    path = save(torch, torchvision_names(tiny[2], "new"), tmp_path / f"weights{suffix}")
    for length in (path.stat().st_size // 2, 10, 0):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(
            UserError, match=f"teacher.weights=.*{path.name}: (damaged|contains more).*: download it again"
        ):
            load_trunk(str(path), "", tiny[1])


def test_weights_of_another_network_are_refused_by_the_first_mismatch(torch, tiny, tmp_path):
    _, like, reference = tiny
    state = torchvision_names(reference, "new")
    cases = {
        "has no norm5.weight": {name: tensor for name, tensor in state.items() if "norm5.weight" not in name},
        "has 1 more tensor, denseblock9.denselayer1.norm1.weight": state
        | {"features.denseblock9.denselayer1.norm1.weight": torch.zeros(2)},
        "conv0.weight is .7, 7, 3, 8., not .7, 7, 3, 16.": state | {"features.conv0.weight": torch.zeros(8, 3, 7, 7)},
        "twice, under two names": state | {"norm5.weight": torch.zeros(2)},
    }
    for message, content in cases.items():
        with pytest.raises(UserError, match=message):
            load_trunk(str(save(torch, content, tmp_path / "weights.pth")), "", like)


def test_a_missing_file_and_a_wrong_checksum_are_refused(torch, tiny, tmp_path):
    with pytest.raises(UserError, match="no such file; DenseNet-161's weights are at https.*8d451a50.pth"):
        load_trunk(str(tmp_path / "none.pth"), "", tiny[1])
    path = save(torch, torchvision_names(tiny[2], "new"), tmp_path / "weights.pth")
    with pytest.raises(UserError, match="not the published file: its SHA-256 is .*, not 8d451a50"):
        load_trunk(str(path), "8d451a50", tiny[1])
    digest = sha256_of(str(path))
    load_trunk(str(path), digest[:8].upper(), tiny[1])
    other = digest[:7] + ("0" if digest[7] != "0" else "1")
    with pytest.raises(UserError, match="not the published file"):
        load_trunk(str(path), other, tiny[1])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_weights_are_refused(torch, tiny, tmp_path, value):
    state = torchvision_names(tiny[2], "new")
    name = next(name for name in state if name.endswith("conv0.weight"))
    state[name] = torch.full_like(state[name], value)
    with pytest.raises(UserError, match="conv0.weight has non-finite values"):
        load_trunk(str(save(torch, state, tmp_path / "weights.pth")), "", tiny[1])


def test_a_kernel_of_another_rank_is_of_another_network(torch, tiny, tmp_path):
    state = torchvision_names(tiny[2], "new")
    name = next(name for name in state if name.endswith("conv0.weight"))
    state[name] = state[name].flatten(1)
    with pytest.raises(UserError, match="weights of another network: conv0.weight is"):
        load_trunk(str(save(torch, state, tmp_path / "weights.pth")), "", tiny[1])


@pytest.mark.parametrize("path", ["~nobody-of-that-name/x.pth", "x" * 300])
def test_an_impossible_path_is_a_missing_file(tiny, path):
    with pytest.raises(UserError, match="^teacher.weights=.*no such file"):
        load_trunk(path, "", tiny[1])


def test_an_older_torch_is_refused(torch, tiny, tmp_path, monkeypatch):
    path = save(torch, torchvision_names(tiny[2], "new"), tmp_path / "weights.pth")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.9.1+cpu")
    with pytest.raises(UserError, match="opens .pth files unsafely"):
        load_trunk(str(path), "", tiny[1])
