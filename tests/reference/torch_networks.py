"""The three networks in PyTorch, written apart from the Flax ones, and the copying of weights between them."""

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
        return functional.max_pool2d(self.levels(x)[-1], 4).flatten(1)

    def levels(self, x):
        blocks = self.blocks
        prep = blocks["prep"](x)
        x = functional.max_pool2d(blocks["layer1"](prep), 2)
        layer1 = x + blocks["layer1_residual2"](blocks["layer1_residual1"](x))
        layer2 = functional.max_pool2d(blocks["layer2"](layer1), 2)
        x = functional.max_pool2d(blocks["layer3"](layer2), 2)
        return [prep, layer1, layer2, x + blocks["layer3_residual2"](blocks["layer3_residual1"](x))]

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
        return functional.relu(self.norms["norm5"](self.levels(x)[-1])).mean(dim=(2, 3))

    def levels(self, x):
        blocks = []
        x = functional.relu(self.norms["norm0"](self.convs["conv0"](x)), inplace=True)
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        for i, size in enumerate(self.block_sizes, 1):
            for j in range(1, size + 1):
                layer = f"denseblock{i}_denselayer{j}"
                y = self.norm_relu_conv(x, f"{layer}_norm1", f"{layer}_conv1")
                x = torch.cat([x, self.norm_relu_conv(y, f"{layer}_norm2", f"{layer}_conv2")], dim=1)
            blocks.append(x)
            if i < len(self.block_sizes):
                x = self.norm_relu_conv(x, f"transition{i}_norm", f"transition{i}_conv")
                x = functional.avg_pool2d(x, 2)
        return blocks

    def load(self, variables):
        for name, conv in self.convs.items():
            copy_conv(conv, variables["params"][name])
        for name, norm in self.norms.items():
            copy_norm(norm, variables["params"][name], variables["batch_stats"][name])


class SameConv(nn.Conv2d):
    """A convolution without bias, with TensorFlow's padding: what is odd of it goes to the right and to the bottom."""

    def __init__(self, inputs, outputs, kernel=1, stride=1, groups=1):
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x):
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = []
        for size in (x.shape[3], x.shape[2]):
            outputs = (size + stride - 1) // stride
            total = max((outputs - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(functional.pad(x, pads))


class LiteBlock(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride, expansion):
        super().__init__()
        inner = expansion * inputs
        if expansion > 1:
            self._expand_conv, self._bn0 = SameConv(inputs, inner), nn.BatchNorm2d(inner, eps=1e-3)
        self._depthwise_conv = SameConv(inner, inner, kernel, stride, groups=inner)
        self._bn1 = nn.BatchNorm2d(inner, eps=1e-3)
        self._project_conv, self._bn2 = SameConv(inner, outputs), nn.BatchNorm2d(outputs, eps=1e-3)
        self.expands, self.is_residual = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, inputs):
        x = functional.relu6(self._bn0(self._expand_conv(inputs))) if self.expands else inputs
        x = functional.relu6(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))
        return x + inputs if self.is_residual else x


class EfficientNetLite(nn.Module):
    """The names of its tensors are those of the published file."""

    def __init__(self, repeats=(1, 2, 2, 3, 3, 4, 1)):
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, 32, 3, 2), nn.BatchNorm2d(32, eps=1e-3)
        self._blocks, self.ends, inputs = nn.ModuleList(), [], 32
        widths, kernels, strides = (16, 24, 40, 80, 112, 192, 320), (3, 3, 5, 3, 5, 5, 3), (1, 2, 2, 2, 1, 2, 1)
        for outputs, kernel, stride, count in zip(widths, kernels, strides, repeats, strict=True):
            for number in range(count):
                expansion = 6 if self._blocks else 1
                self._blocks.append(LiteBlock(inputs, outputs, kernel, stride if number == 0 else 1, expansion))
                inputs = outputs
            self.ends.append(len(self._blocks))
        self._conv_head, self._bn1 = SameConv(320, 1280), nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x):
        return functional.relu6(self._bn1(self._conv_head(self.levels(x)[-1]))).mean(dim=(2, 3))

    def levels(self, x):
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        found = []
        for number, block in enumerate(self._blocks, 1):
            x = block(x)
            if number in self.ends:
                found.append(x)
        return found


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
