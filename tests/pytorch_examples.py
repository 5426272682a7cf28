"""NumPy under PyTorch's names: what the modules for partners need of it, for tests without PyTorch."""

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy


class Tensor(np.ndarray):
    """An array with the names that PyTorch has for what NumPy does."""

    def permute(self, *axes: int) -> "Tensor":
        return self.transpose(axes)

    def to(self, device: str) -> "Tensor":
        return self

    def long(self) -> "Tensor":
        return self.astype(np.int64)


def load_file(path: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, read by the package."""
    return {name: array.view(Tensor) for name, array in safetensors.numpy.load_file(path).items()}


class Module:
    """A module that computes, and no more."""

    def register_buffer(self, name: str, tensor: Tensor) -> None:
        setattr(self, name, tensor)


def in_place_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy where what runs imports PyTorch and safetensors."""
    torch = types.SimpleNamespace(
        nn=types.SimpleNamespace(Module=Module),
        utils=types.SimpleNamespace(data=types.SimpleNamespace(Dataset=object)),
        arange=lambda n, device: np.arange(n).view(Tensor),
        stack=lambda arrays, axis: np.stack(arrays, axis).view(Tensor),
        cat=lambda arrays, axis: np.concatenate(arrays, axis).view(Tensor),
        from_numpy=lambda array: array.view(Tensor),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "safetensors", types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "safetensors.torch", types.SimpleNamespace(load_file=load_file))


def seen_by_module(out: Path, images: np.ndarray) -> np.ndarray:
    """What the exported module beside a safetensors file sees of uint8 images [N, H, W, C]."""
    namespace: dict[str, Any] = {}
    exec(out.with_suffix(".py").read_text(), namespace)
    module = namespace["SecretView"](str(out))
    return module.forward((images / np.float32(255)).transpose(0, 3, 1, 2).view(Tensor)).transpose(0, 2, 3, 1)
