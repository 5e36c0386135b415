"""The work that `against_pytorch` times, as a PyTorch user would write it."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.reference import torch_networks

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
torch.backends.cudnn.benchmark = True  # XLA autotunes convolutions too

Runs = dict[str, Callable[[], object]]


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the comparison.

    Attributes:
        compiles: also time `torch.compile`.
        bfloat16: use activations in 16 bits, in brittle_jax for training, in PyTorch for everything.
    """

    compiles: bool
    bfloat16: bool


_MEAN, _STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Normalised(nn.Module):
    """Normalisation, a trunk, and a linear head without bias; no head for 0 output features."""

    def __init__(self, trunk: nn.Module, pooled_features: int, output_features: int):
        super().__init__()
        self.register_buffer("mean", torch.tensor(_MEAN).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(_STD).reshape(1, 3, 1, 1))
        self.trunk = trunk
        self.head = nn.Linear(pooled_features, output_features, bias=False) if output_features else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps [N, 3, H, W] in [0, 1] to [N, F]."""
        return self.head(self.trunk((images - self.mean) / self.std))


def small_resnet(features: int) -> nn.Module:
    """Returns the small ResNet in channels-last layout."""
    return _placed(Normalised(torch_networks.SmallResNet(), 512, features))


def densenet161() -> nn.Module:
    """Returns DenseNet-161 without a head, in channels-last layout."""
    return _placed(Normalised(torch_networks.DenseNet(), 2208, 0))


def _placed(module: nn.Module) -> nn.Module:
    return module.to(DEVICE, memory_format=torch.channels_last)


def synchronised(result: object) -> object:
    """Waits for the device and returns the result."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return result


def _to_device(images: np.ndarray) -> torch.Tensor:
    """Converts [N, H, W, 3] uint8 to [N, 3, H, W] float32 in [0, 1], in channels-last layout."""
    return torch.from_numpy(images).to(DEVICE).permute(0, 3, 1, 2).float() / 255


def _runs(run: Callable[..., object], modules: list[nn.Module], options: Options) -> Runs:
    """Returns functions that run the modules, by mode: `eager`, and `compiled` if asked for."""
    by_mode = {"eager": modules} | (
        {"compiled": [torch.compile(module) for module in modules]} if options.compiles else {}
    )
    return {mode: functools.partial(_run, run, each, options) for mode, each in by_mode.items()}


def _run(run: Callable[..., object], modules: list[nn.Module], options: Options) -> None:
    with torch.autocast(DEVICE, torch.bfloat16, enabled=options.bfloat16):
        synchronised(run(*modules))


def _update(student: nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def distillation(images: np.ndarray, features: int, epochs: int, batch_size: int, options: Options) -> Runs:
    """Training of a student. The teacher computes its outputs at every step."""

    def run(student: nn.Module, teacher: nn.Module) -> None:
        optimizer = torch.optim.Adam(student.parameters(), lr=1e-5)
        for _ in range(epochs):
            # Full batches only, as in brittle_jax: the last one is filled from the next permutation.
            order = np.concatenate([np.random.permutation(len(images)) for _ in range(2)])
            for start in range(0, len(images), batch_size):
                chosen = order[start : start + batch_size]
                inputs = _to_device(images[chosen])
                with torch.no_grad():
                    targets = teacher(inputs)
                _update(student, optimizer, (student(inputs) - targets).square().mean())

    return _runs(run, [small_resnet(features), small_resnet(features).eval()], options)


def step(images: np.ndarray, targets: np.ndarray, options: Options) -> Runs:
    """One update of a student."""
    return _student_step(images, targets, small_resnet(targets.shape[1]), options)


def _student_step(images: np.ndarray, targets: np.ndarray, student: nn.Module, options: Options) -> Runs:
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-5)

    def run(student: nn.Module) -> None:
        _update(
            student, optimizer, (student(_to_device(images)) - torch.from_numpy(targets).to(DEVICE)).square().mean()
        )

    return _runs(run, [student], options)


def score(images: np.ndarray, features: int, options: Options, batch_size: int = 128) -> Runs:
    """Squared distances between the outputs of student and teacher."""

    @torch.inference_mode()
    def run(student: nn.Module, teacher: nn.Module) -> torch.Tensor:
        rows = []
        for start in range(0, len(images), batch_size):
            inputs = _to_device(images[start : start + batch_size])
            rows.append((student(inputs) - teacher(inputs)).square().sum(1).cpu())
        return torch.cat(rows)

    return _runs(run, [small_resnet(features).eval() for _ in range(2)], options)


def gradient(images: np.ndarray, features: int, options: Options, batch_size: int = 128) -> Runs:
    """Input-gradient norms, from the gradient of the summed loss and with `torch.func`."""
    student, teacher = (small_resnet(features).eval().requires_grad_(False) for _ in range(2))

    def summed(student: nn.Module, teacher: nn.Module) -> torch.Tensor:
        rows = []
        for start in range(0, len(images), batch_size):
            inputs = _to_device(images[start : start + batch_size])
            with torch.no_grad():
                targets = teacher(inputs)
            inputs.requires_grad_()
            loss = (student(inputs) - targets).square().mean(1).sum()
            rows.append(torch.autograd.grad(loss, inputs)[0].flatten(1).norm(dim=1).cpu())
        return torch.cat(rows)

    def one_loss(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (student(image[None])[0] - target).square().mean()

    def mapped() -> torch.Tensor:
        rows = []
        for start in range(0, len(images), batch_size):
            inputs = _to_device(images[start : start + batch_size])
            with torch.no_grad():
                targets = teacher(inputs)
            gradients = torch.func.vmap(torch.func.grad(one_loss))(inputs, targets)
            rows.append(gradients.flatten(1).norm(dim=1).cpu())
        return torch.cat(rows)

    return {**_runs(summed, [student, teacher], options), "vmap of grad": lambda: synchronised(mapped())}


def moments(vectors: np.ndarray) -> Runs:
    """Mean and covariance of [N, F] float32."""

    def run() -> tuple[np.ndarray, np.ndarray]:
        rows = torch.from_numpy(vectors).to(DEVICE)
        return rows.mean(0).cpu().numpy(), torch.cov(rows.T).cpu().numpy()

    return {"eager": run}


def densenet(images: np.ndarray, options: Options) -> Runs:
    """Outputs of DenseNet-161 in evaluation mode."""

    @torch.inference_mode()
    def run(network: nn.Module) -> torch.Tensor:
        return network(_to_device(images)).cpu()

    return _runs(run, [densenet161().eval()], options)


def densenet_step(images: np.ndarray, options: Options) -> Runs:
    """One update of a DenseNet-161 as a student."""
    return _student_step(images, np.zeros((len(images), 2208), np.float32), densenet161(), options)


def rotnet(images: np.ndarray, options: Options) -> Runs:
    """One update of RotNet: crop and cutout, four rotations, cross-entropy, SGD.

    Crop and cutout are the same for the whole batch, the easy way to write them; brittle_jax draws them per image.
    """
    network = small_resnet(4)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def run(network: nn.Module) -> None:
        inputs = _to_device(images)
        padded = functional.pad(inputs, (4, 4, 4, 4), mode="reflect")
        top, left = np.random.randint(0, 9, 2)
        inputs = padded[:, :, top : top + 32, left : left + 32].clone()
        top, left = np.random.randint(0, 25, 2)
        inputs[:, :, top : top + 8, left : left + 8] = 0.47
        rotated = torch.cat([torch.rot90(inputs, turns, (2, 3)) for turns in range(4)])
        labels = torch.arange(4, device=DEVICE).repeat_interleave(len(images))
        outputs = network(rotated.contiguous(memory_format=torch.channels_last))
        _update(network, optimizer, functional.cross_entropy(outputs, labels))

    return _runs(run, [network], options)
