"""Writes resnet18_width8.pth: what torch.save makes of a torchvision ResNet-18 with CIFAR's stem, an eighth as wide.

    python tests/make_walk_fixture.py

Needs torch and torchvision; made once with torch 2.13 and torchvision 0.28 on a CPU. All numbers in it are zero, so
that it takes no room in the repository: test_walk.py puts trained ones in their place.
"""

import collections
import pathlib

import torch
import torchvision
from torch import nn

CLASSES, NARROWER = 4, 8


def main():
    model = torchvision.models.resnet18(num_classes=CLASSES)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()

    def narrow(tensor):
        shape = [size if size in (1, 3, CLASSES) else size // NARROWER for size in tensor.shape]
        return torch.zeros(shape, dtype=tensor.dtype)

    state = collections.OrderedDict((name, narrow(tensor)) for name, tensor in model.state_dict().items())
    torch.save(state, pathlib.Path(__file__).with_name("resnet18_width8.pth"))


if __name__ == "__main__":
    main()
