"""The secret view of a `keyed-linear` or `keyed-content` key in PyTorch.

It needs torch and safetensors alone. The arrays are the secret: the safetensors file beside this one.
"""

import torch
from safetensors.torch import load_file


class SecretView(torch.nn.Module):
    """Takes a secret subspace out of each patch of 4 x 4 pixels, as the authorized network of the key sees it.

    Of several subspaces a secret hash of the patches' mean colours picks one for each image, so it stands before any
    augmentation.
    """

    def __init__(self, path):
        """Read the arrays from their safetensors file."""
        super().__init__()
        for name, tensor in load_file(path).items():
            self.register_buffer(name, tensor)

    def forward(self, x):
        """What is seen of images [N, C, H, W], float in [0, 1]; the same shape."""
        n, c, h, w = x.shape
        patches = x.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(n, -1, 16, c)
        k = (patches.mean(2).reshape(n, -1) @ self.hash_weights.T).argmax(1)
        q, centred = self.bases[k], patches.reshape(n, -1, 16 * c, 1) - 0.5
        seen = (centred - q @ (q.mT @ centred) + 0.5).reshape(n, h // 4, w // 4, 4, 4, c)
        return seen.permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)
