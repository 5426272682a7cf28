"""The secret view of a `keyed-dither` key in PyTorch.

It needs torch, numpy and safetensors alone. The arrays are the secret: the safetensors file beside this one.
"""

import hashlib

import numpy as np
import torch
from safetensors.torch import load_file


def chacha20(start):
    """The 16 words of a block of ChaCha20 from those that it starts with, int64 tensors of 32 bits or numbers."""
    words, mask = list(start), 2**32 - 1
    for step in range(20):
        for i in range(4):
            a, b, c, d = (4 * row + (i + row * (step % 2)) % 4 for row in range(4))
            for to, more, other, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                words[to] = words[to] + words[more] & mask
                mixed = words[other] ^ words[to]
                words[other] = mixed << turn & mask | mixed >> 32 - turn
    return torch.stack([word + began & mask for word, began in zip(words, start, strict=True)], -1)


class SecretView(torch.nn.Module):
    """Rounds each value after a secret offset is added, as the authorized network of the key sees it.

    The offset follows from the secret, the salt of the release and the image's own anchor pixels, in whole numbers of
    which no bit may differ: BLAKE2s with a key, then ChaCha20. So it stands before any augmentation.
    """

    def __init__(self, path):
        """Read the arrays from their safetensors file."""
        super().__init__()
        data = load_file(path)
        self.register_buffer("anchors", data["anchors"])
        self.step = int(data["step"])
        self.secret, self.salt = (
            b"".join(int(word).to_bytes(4, "little") for word in data[name]) for name in ("secret", "salt")
        )

    def forward(self, x):
        """What is seen of images [N, C, H, W], float in [0, 1], of 8 bits; the same shape."""
        n, c, h, w = x.shape
        levels = (x * 255).round().long().permute(0, 2, 3, 1).reshape(n, h * w, c)
        pixels = levels[:, self.anchors].reshape(n, -1).tolist()
        tags = b"".join(hashlib.blake2s(self.salt + bytes(own), key=self.secret).digest() for own in pixels)
        tags = torch.from_numpy(np.frombuffer(tags, "<u4").astype(np.int64)).to(x.device)
        key = tags.reshape(n, 8).T[:, :, None]
        count = torch.arange(-(-h * w * c // 16), device=x.device)
        words = chacha20([0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *key, count, 0, 0, 0])
        dither = (words.reshape(n, -1)[:, : h * w * c] * self.step >> 32).reshape(n, h * w, c)
        cell = (levels + dither) // self.step * self.step - dither
        seen = ((cell + (self.step - 1) / 2) / 255).clip(0, 1)
        return seen.reshape(n, h, w, c).permute(0, 3, 1, 2)
