"""Reads files that PyTorch writes in its legacy format, and refuses all else."""

import io
import pickle

import numpy as np
import pytest

from brittle_jax.models.legacy_file import read_tensors

pytestmark = pytest.mark.reference


def legacy(torch, content):
    """Returns the file of any content."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def test_tensors_of_any_layout_are_read_as_torch_reads_them(torch):
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    state = network.state_dict()  # with metadata, and a count in 64-bit integers
    state["base"], state["turned"], state["part"] = base, base.permute(2, 0, 1), base[1, :, 1:3]  # of one storage
    state["scalar"], state["empty"] = torch.tensor(7), torch.zeros(0, 3)
    tensors = read_tensors(legacy(torch, state))
    assert tensors.keys() == state.keys()
    for name, tensor in state.items():
        np.testing.assert_array_equal(tensors[name], tensor.detach().numpy())
        assert tensors[name].dtype == tensor.detach().numpy().dtype


class RunsCode:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return open, (str(self.witness), "w")


def test_code_is_refused_and_not_run(torch, tmp_path):
    witness = tmp_path / "witness"
    for content in (legacy(torch, {"a": RunsCode(witness)}), pickle.dumps(RunsCode(witness))):
        with pytest.raises(ValueError, match=r"io.open is no part of a tensor"):
            read_tensors(content)
    assert not witness.exists()


def test_other_content_is_refused(torch):
    ordered = type(torch.nn.Linear(1, 1).state_dict())
    one = torch.zeros(2)
    for content in (one, [one], {"a": one}, ordered(), ordered(a=1), ordered(a=one, b={"c": one})):
        with pytest.raises(ValueError, match="no dictionary of tensors"):
            read_tensors(legacy(torch, content))
    with pytest.raises(ValueError, match="torch.HalfStorage is no part of a tensor"):
        read_tensors(legacy(torch, ordered(a=one.half())))
    file = io.BytesIO()
    torch.save(ordered(a=one), file)  # the format of today
    for content in (file.getvalue(), b"", b"text", pickle.dumps(0)):
        with pytest.raises(ValueError):
            read_tensors(content)


def test_a_file_that_is_cut_off_or_longer_is_refused(torch):
    content = legacy(torch, torch.nn.Linear(3, 2).state_dict())
    for length in range(len(content)):
        with pytest.raises(ValueError):
            read_tensors(content[:length])
    with pytest.raises(ValueError, match="its length is not what its list of storages says"):
        read_tensors(content + b"\0")


def test_a_tensor_that_exceeds_its_storage_is_refused(torch):
    content = legacy(torch, type(torch.nn.Linear(1, 1).state_dict())(a=torch.zeros(77)))
    size = b"K\x4d\x85"  # (77,)
    assert content.count(size) == 1
    with pytest.raises(ValueError, match="a tensor exceeds its storage"):
        read_tensors(content.replace(size, b"K\x4e\x85"))
