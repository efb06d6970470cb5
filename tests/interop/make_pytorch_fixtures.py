"""Writes what PyTorch, torchvision and timm say about weights that need no file, and small files that torch.save wrote.

    python tests/interop/make_pytorch_fixtures.py

Needs torch, torchvision, timm and NumPy; made once with torch 2.13, torchvision 0.29 and timm 1.0.31 on a CPU.
logits.npz: names, shapes and logits of torchvision's ResNet-18 with either stem, and of timm's ViT-Tiny.
"""

import collections
import pathlib

import numpy as np
import timm
import torch
import torchvision
from made_weights import made, pixels
from torch import nn

FOLDER = pathlib.Path(__file__).parent
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def cifar_stem():
    model = torchvision.models.resnet18(num_classes=10)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return model


MODELS = {
    "resnet18_cifar": (cifar_stem, 32),
    "resnet18_imagenet": (lambda: torchvision.models.resnet18(num_classes=10), 64),
    "vit_tiny": (
        lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, num_classes=10, pretrained=False),
        32,
    ),
}


def main():
    out = {}
    for name, (build, side) in MODELS.items():
        model = build().eval()
        state = {
            key: torch.from_numpy(np.asarray(made(key, tuple(value.shape)))) if value.is_floating_point() else value
            for key, value in model.state_dict().items()
        }
        model.load_state_dict(state)
        images = torch.from_numpy(pixels(4, side)).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            logits = model((images - MEAN) / STD).numpy()
        out[f"{name}/names"] = np.array(list(state))
        out[f"{name}/shapes"] = np.array([",".join(map(str, value.shape)) for value in state.values()])
        out[f"{name}/logits"] = logits
    np.savez_compressed(FOLDER / "logits.npz", **out)

    torch.manual_seed(0)
    base = torch.randn(5, 6)
    plain = collections.OrderedDict(
        whole=base,
        turned=base.T,
        part=base[1:4, ::2],
        half=torch.randn(3).half(),
        brain=torch.randn(3).bfloat16(),
        count=torch.tensor(7),
        parameter=nn.Parameter(torch.randn(2, 1)),
    )
    torch.save(plain, FOLDER / "views.pth")
    np.savez(FOLDER / "views.npz", **{name: value.detach().float().numpy() for name, value in plain.items()})
    torch.save({"epoch": 3, "state_dict": plain, "note": "a", "rates": [0.1, None]}, FOLDER / "wrapped.pth")
    optimizer = {"state": {0: {"momentum_buffer": torch.randn(3)}}}
    torch.save({"state_dict": plain, "optimizer": optimizer}, FOLDER / "with_optimizer.pth")
    torch.save(nn.Linear(2, 2), FOLDER / "whole_model.pth")
    torch.save(plain, FOLDER / "legacy.pth", _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
