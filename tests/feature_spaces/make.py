"""Makes the small encoders beside this file and records what their PyTorch originals give.

Needs torch, transformers, open_clip_torch and safetensors, which the tests themselves do not:
    python tests/feature_spaces/make.py
"""

from pathlib import Path

import numpy as np
import torch
from open_clip.modified_resnet import ModifiedResNet
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, Dinov2Config, Dinov2Model

HERE = Path(__file__).parent
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Weights large enough that every part of the network shows in its features, on the grid of float16."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                if name.endswith("running_var"):
                    tensor.uniform_(0.5, 2)
                elif tensor.ndim == 1 and name.endswith("weight"):
                    tensor.normal_(1, 0.2)
                elif tensor.ndim in (2, 4):
                    # Kernels of convolutions larger, lest biases drown the image.
                    tensor.normal_(0, (tensor.ndim / 2) * (2 / tensor[0].numel()) ** 0.5)
                else:
                    tensor.normal_(0, 0.3)
                tensor.copy_(tensor.half())
    return model.eval()


def pixels(images: np.ndarray, statistics: tuple) -> torch.Tensor:
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in statistics)
    return (torch.tensor(images.transpose(0, 3, 1, 2)) / 255 - mean) / std


def main() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images = {}
    for side in (32, 42, 64):  # blocks of 2x2 pixels in blocks of half the image
        coarse, fine = (
            rng.integers(0, 128, (2, n, n, 3)).repeat(side // n, 1).repeat(side // n, 2) for n in (2, side // 2)
        )
        images[side] = (coarse + fine).astype(np.uint8)

    clip = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=8,
    )  # fmt: skip
    clip = randomised(CLIPVisionModelWithProjection(clip))
    dinov2 = Dinov2Config(
        hidden_size=16, mlp_ratio=2, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )  # fmt: skip
    dinov2 = randomised(Dinov2Model(dinov2))
    resnet = randomised(ModifiedResNet(layers=[2, 1, 1, 1], output_dim=8, heads=1, image_size=64, width=2))
    with torch.no_grad():
        features = {
            "clip-vit": clip(pixels(images[32], CLIP)).image_embeds,
            "dinov2": dinov2(pixels(images[42], IMAGENET)).pooler_output,
            "clip-resnet": resnet(pixels(images[64], CLIP)),
        }
    for model, name in ((clip, "clip-vit"), (dinov2, "dinov2")):
        model.half().save_pretrained(HERE / name)
    (HERE / "clip-resnet").mkdir(exist_ok=True)
    arrays = {f"visual.{name}": array.contiguous() for name, array in resnet.half().state_dict().items()}
    save_file(arrays, HERE / "clip-resnet" / "open_clip_model.safetensors")
    (HERE / "dinov2" / "preprocessor_config.json").write_text(
        '{"size": {"shortest_edge": 42}, "crop_size": {"height": 42, "width": 42}}\n'
    )
    np.savez_compressed(
        HERE / "expected.npz", **{str(side): value for side, value in images.items()},
        **{name: value.numpy() for name, value in features.items()},
    )  # fmt: skip


if __name__ == "__main__":
    main()
