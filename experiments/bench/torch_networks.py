"""`cnn`, `r18`, `speedrun` and `mlp` in PyTorch, modules named as Flax names its own, so that weights carry over."""

from collections import OrderedDict

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

# Flax's name of each kind of array, and PyTorch's.
NAMES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def cnn(size: int) -> nn.Module:
    """`ugejax.networks.small.ConvolutionalBody`."""
    layers, channels = OrderedDict(), 3
    for i, (width, halved_from) in enumerate([(32, 16), (64, 4), (64, None), (128, 4), (128, None)]):
        stride = 2 if halved_from is not None and size >= halved_from else 1
        size = -(-size // stride)
        layers[f"Conv_{i}"] = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        layers[f"GroupNorm_{i}"] = nn.GroupNorm(8, width, eps=1e-6)
        layers[f"relu_{i}"] = nn.ReLU()
        channels = width
    return nn.Sequential(layers | {"mean": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()})


def mlp(size: int) -> nn.Module:
    """`ugejax.networks.small.PerceptronBody`, for images that come with their channels last."""
    layers = [("flat", nn.Flatten()), ("Dense_0", nn.Linear(3 * size**2, 512)), ("relu_0", nn.ReLU())]
    return nn.Sequential(OrderedDict([*layers, ("Dense_1", nn.Linear(512, 256)), ("relu_1", nn.ReLU())]))


def r18(size: int) -> nn.Module:
    """The body of `ugejax.networks.resnet.r18`."""
    stem = {"conv1": nn.Conv2d(3, 64, 3, 1, 1, bias=False), "bn1": nn.BatchNorm2d(64), "relu": nn.ReLU()}
    layers, channels = OrderedDict(stem), 64
    for stage, width in enumerate((64, 128, 256, 512)):
        for block in range(2):
            layers[f"layer{stage + 1}_{block}"] = Block(channels, width, 2 if stage > 0 and block == 0 else 1)
            channels = width
    return nn.Sequential(layers | {"mean": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()})


class Speedrun(nn.Module):
    """The body of `ugejax.networks.speedrun.speedrun`, for images of 32x32."""

    def __init__(self, size: int):
        """Its layers; what does not train has no gradient."""
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2, bias=False).requires_grad_(False)
        channels = 24
        for group, width in enumerate((64, 128, 128), 1):
            for place in (1, 2):
                self.add_module(f"conv{group}_{place}", nn.Conv2d(channels, width, 3, 1, 1, bias=False))
                norm = nn.BatchNorm2d(width, momentum=0.4)
                norm.weight.requires_grad_(False)
                self.add_module(f"bn{group}_{place}", norm)
                channels = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [B, 128] of normalised images x [B, 3, 32, 32]."""
        x = functional.gelu(self.whiten(x))
        for group in (1, 2, 3):
            for place in (1, 2):
                x = self.get_submodule(f"conv{group}_{place}")(x)
                x = functional.max_pool2d(x, 2) if place == 1 else x
                x = functional.gelu(self.get_submodule(f"bn{group}_{place}")(x))
        return functional.max_pool2d(x, 3).flatten(1) / 9


class Block(nn.Module):
    """`ugejax.networks.resnet.BasicBlock`."""

    def __init__(self, channels: int, width: int, stride: int):
        """Its layers, with a projection where the shape changes."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.projects = stride > 1 or channels != width
        if self.projects:
            self.shortcut_conv = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.shortcut_bn = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, width, ceil(H / stride), ceil(W / stride)] of maps x [B, C, H, W]."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + (self.shortcut_bn(self.shortcut_conv(x)) if self.projects else x))


class Classifier(nn.Module):
    """`ugejax.networks.classifier.Classifier`, of a network by its short name."""

    def __init__(self, network: str, size: int, num_classes: int):
        """A body for images of that side, and the head."""
        super().__init__()
        kinds = {"cnn": (cnn, 128), "mlp": (mlp, 256), "r18": (r18, 512), "speedrun": (Speedrun, 128)}
        body, features = kinds[network]
        self.body, self.head = body(size), nn.Linear(features, num_classes)
        self.channels_last = network == "mlp"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [B, num_classes] of images x [B, 3, H, W] in [0, 1]."""
        x = (x - 0.5) / 0.25
        return self.head(self.body(x.permute(0, 2, 3, 1) if self.channels_last else x))


def to_torch(name: str, array: np.ndarray) -> tuple[str, torch.Tensor]:
    """A Flax array by the name "params/body/Conv_0/kernel" as PyTorch's "body.Conv_0.weight"."""
    *path, kind = name.split("/")[1:]
    if kind == "filters":  # columns of 2x2 pixels with their channels, which come with their negatives
        weight = array.reshape(2, 2, -1, array.shape[1]).transpose(3, 2, 0, 1)
        return "body.whiten.weight", torch.from_numpy(np.concatenate([weight, -weight]))
    order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, (0,))
    return ".".join([*path, NAMES[kind]]), torch.from_numpy(np.ascontiguousarray(array.transpose(order)))


def to_flax(tensor: torch.Tensor) -> np.ndarray:
    """A PyTorch array with its axes in Flax's order."""
    array = tensor.detach().cpu().numpy()
    return array.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim, (0,)))
