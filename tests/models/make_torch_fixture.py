"""Writes torch_resnet18.npz and torch_vit.npz beside itself: what PyTorch computes from given weights.

    python tests/models/make_torch_fixture.py

Needs PyTorch and NumPy only; the committed files were made once with PyTorch 2.13 on a CPU. The
ResNet is torchvision's, key for key, with the CIFAR stem; the ViT is PyTorch's own encoder layer.
The weights are random in every tensor (a scale of one or a bias of zero would hide a swapped name)
and rounded to float16, so that the files stay small and hold them exactly.
"""

import pathlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

FOLDER = pathlib.Path(__file__).parent
MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
STD = torch.tensor([0.2470, 0.2435, 0.2616]).view(3, 1, 1)
CLASSES, BATCH, SIDE = 10, 4, 16


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, stage_sizes=(2, 2, 2, 2), width=4):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.num_stages = len(stage_sizes)
        inputs = width
        for stage, size in enumerate(stage_sizes):
            outputs = width * 2**stage
            blocks = []
            for block in range(size):
                blocks.append(BasicBlock(inputs, outputs, 2 if stage > 0 and block == 0 else 1))
                inputs = outputs
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, CLASSES)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1((x - MEAN) / STD)))
        for stage in range(self.num_stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


class ViT(nn.Module):
    def __init__(self, dim=32, depth=2, heads=2, patch=4):
        super().__init__()
        self.conv_proj = nn.Conv2d(3, dim, patch, patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embedding = nn.Parameter(torch.zeros(1, (SIDE // patch) ** 2 + 1, dim))
        layers = []
        for _ in range(depth):
            layer = nn.TransformerEncoderLayer(
                dim, heads, 4 * dim, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
            )
            layers.append(layer)
        self.layers = nn.Sequential(*layers)
        self.ln = nn.LayerNorm(dim, eps=1e-6)
        self.fc = nn.Linear(dim, CLASSES)

    def forward(self, x):
        x = self.conv_proj((x - MEAN) / STD).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1) + self.pos_embedding
        return self.fc(self.ln(self.layers(x))[:, 0])


def randomize(model, small):
    """Random values, exact in float16, in every tensor; ``small`` ones make the first norm's epsilon count."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            if name.endswith("running_var"):
                values = torch.empty_like(tensor).uniform_(0.5, 2)
            elif tensor.ndim == 1:
                values = 0.2 * torch.randn_like(tensor) + (1 if name.endswith("weight") else 0)
            else:
                values = torch.randn_like(tensor) * (2 / tensor[0].numel()) ** 0.5
            tensor.copy_((values * small.get(name, 1)).half().float())


def arrays(model, prefix, dtype):
    return {
        f"{prefix}/{name}": tensor.detach().numpy().astype(dtype)
        for name, tensor in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def main():
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE))
    images, labels = pixels.float() / 255, torch.randint(0, CLASSES, (BATCH,))
    batch = {"pixels": pixels.permute(0, 2, 3, 1).numpy().astype(np.uint8), "labels": labels.numpy()}

    resnet = ResNet()
    randomize(resnet, {"conv1.weight": 0.03, "bn1.running_mean": 0.03, "bn1.running_var": 0.03**2})
    out = arrays(resnet, "before", np.float16)
    out["eval_logits"] = resnet.eval()(images).detach().numpy()
    optimizer = torch.optim.SGD(resnet.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    logits = resnet.train()(images)
    F.cross_entropy(logits, labels).backward()
    optimizer.step()
    out["train_logits"] = logits.detach().numpy()
    out |= arrays(resnet, "after", np.float32)
    np.savez_compressed(FOLDER / "torch_resnet18.npz", **batch, **out)

    vit = ViT()
    randomize(vit, dict.fromkeys(["class_token", "pos_embedding", "conv_proj.weight", "conv_proj.bias"], 0.02))
    logits = vit.train()(images)  # no dropout; train() only keeps PyTorch off its fused inference path
    out = arrays(vit, "before", np.float16) | {"logits": logits.detach().numpy()}
    np.savez_compressed(FOLDER / "torch_vit.npz", **batch, **out)


if __name__ == "__main__":
    main()
