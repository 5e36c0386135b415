"""The two networks in PyTorch, written apart from the Flax ones, and the copying of weights between them."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class ConvBlock(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return functional.relu(self.norm(self.conv(x)), inplace=True)


class SmallResNet(nn.Module):
    def __init__(self, widths=(64, 128, 256, 512)):
        super().__init__()
        a, b, c, d = widths
        self.blocks = nn.ModuleDict(
            {
                "prep": ConvBlock(3, a),
                "layer1": ConvBlock(a, b),
                "layer1_residual1": ConvBlock(b, b),
                "layer1_residual2": ConvBlock(b, b),
                "layer2": ConvBlock(b, c),
                "layer3": ConvBlock(c, d),
                "layer3_residual1": ConvBlock(d, d),
                "layer3_residual2": ConvBlock(d, d),
            }
        )

    def forward(self, x):
        blocks = self.blocks
        x = functional.max_pool2d(blocks["layer1"](blocks["prep"](x)), 2)
        x = x + blocks["layer1_residual2"](blocks["layer1_residual1"](x))
        x = functional.max_pool2d(blocks["layer2"](x), 2)
        x = functional.max_pool2d(blocks["layer3"](x), 2)
        x = x + blocks["layer3_residual2"](blocks["layer3_residual1"](x))
        return functional.max_pool2d(x, 4).flatten(1)

    def load(self, variables):
        for name, block in self.blocks.items():
            copy_conv(block.conv, variables["params"][name]["Conv_0"])
            copy_norm(block.norm, *(variables[kind][name]["BatchNorm_0"] for kind in ("params", "batch_stats")))


class DenseNet(nn.Module):
    def __init__(self, growth=48, block_sizes=(6, 12, 36, 24), initial_features=96):
        super().__init__()
        self.block_sizes = block_sizes
        self.convs, self.norms = nn.ModuleDict(), nn.ModuleDict()
        self.convs["conv0"] = nn.Conv2d(3, initial_features, 7, stride=2, padding=3, bias=False)
        self.norms["norm0"] = nn.BatchNorm2d(initial_features)
        features = initial_features
        for i, size in enumerate(block_sizes, 1):
            for j in range(1, size + 1):
                layer = f"denseblock{i}_denselayer{j}"
                self.norms[f"{layer}_norm1"] = nn.BatchNorm2d(features)
                self.convs[f"{layer}_conv1"] = nn.Conv2d(features, 4 * growth, 1, bias=False)
                self.norms[f"{layer}_norm2"] = nn.BatchNorm2d(4 * growth)
                self.convs[f"{layer}_conv2"] = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
                features += growth
            if i < len(block_sizes):
                self.norms[f"transition{i}_norm"] = nn.BatchNorm2d(features)
                self.convs[f"transition{i}_conv"] = nn.Conv2d(features, features // 2, 1, bias=False)
                features //= 2
        self.norms["norm5"] = nn.BatchNorm2d(features)

    def norm_relu_conv(self, x, norm, conv):
        return self.convs[conv](functional.relu(self.norms[norm](x), inplace=True))

    def forward(self, x):
        x = functional.relu(self.norms["norm0"](self.convs["conv0"](x)), inplace=True)
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        for i, size in enumerate(self.block_sizes, 1):
            for j in range(1, size + 1):
                layer = f"denseblock{i}_denselayer{j}"
                y = self.norm_relu_conv(x, f"{layer}_norm1", f"{layer}_conv1")
                x = torch.cat([x, self.norm_relu_conv(y, f"{layer}_norm2", f"{layer}_conv2")], dim=1)
            if i < len(self.block_sizes):
                x = self.norm_relu_conv(x, f"transition{i}_norm", f"transition{i}_conv")
                x = functional.avg_pool2d(x, 2)
        return functional.relu(self.norms["norm5"](x)).mean(dim=(2, 3))

    def load(self, variables):
        for name, conv in self.convs.items():
            copy_conv(conv, variables["params"][name])
        for name, norm in self.norms.items():
            copy_norm(norm, variables["params"][name], variables["batch_stats"][name])


def copy_conv(conv, params):
    conv.weight.data = torch.tensor(np.transpose(params["kernel"], (3, 2, 0, 1)).copy())


def copy_norm(norm, params, statistics):
    norm.weight.data = torch.tensor(np.array(params["scale"]))
    norm.bias.data = torch.tensor(np.array(params["bias"]))
    norm.running_mean = torch.tensor(np.array(statistics["mean"]))
    norm.running_var = torch.tensor(np.array(statistics["var"]))


def random_norms(variables, seed=0):
    """Gives batch norms random scales, biases and running averages, so that each of them matters."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        kind = path[-1].key
        if kind in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        if kind in ("bias", "mean"):
            return rng.normal(0, 0.1, leaf.shape).astype(np.float32)
        return np.asarray(leaf)

    import jax

    return jax.tree_util.tree_map_with_path(draw, variables)
