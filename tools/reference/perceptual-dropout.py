"""Reference values of LPIPS with the dropout of its heads, by torch and torchvision.

    python3 tools/reference/perceptual-dropout.py > tests/fixtures/perceptual-dropout.json

Weights, images and what is kept are made by a formula of name and index, which the test repeats; only outputs are stored. Images lie in
the top left corner of a canvas; here they are cut out, which must give the same. `draws` are of torch's own nn.Dropout.
"""
import json

import torch
from fid_inception import fill, numbers, value
from torch import nn
from torchvision.models import vgg16

torch.set_num_threads(1)
B, CANVAS, DRAWS = 2, 32, 200
TAKEN = (3, 8, 15, 22, 29)
CHANNELS = (64, 128, 256, 512, 512)
shift, scale = torch.tensor([-0.03, -0.088, -0.188])[:, None, None], torch.tensor([0.458, 0.448, 0.45])[:, None, None]
vgg = vgg16(init_weights=False)
vgg.classifier = nn.Identity()
vgg = fill(vgg).requires_grad_(False)


class Kept(nn.Module):
    """nn.Dropout with a given draw."""

    def __init__(self, kept):
        super().__init__()
        self.kept = kept

    def forward(self, x):
        return torch.where(self.kept, x / (1 - nn.Dropout().p), torch.zeros(()))


def heads(dropouts):
    """As in LPIPS: dropout, then a 1x1 convolution without bias."""
    out = []
    for level, (channels, dropout) in enumerate(zip(CHANNELS, dropouts)):
        head = nn.Conv2d(channels, 1, 1, bias=False).requires_grad_(False)
        head.weight.data.copy_(value(f"lin{level}.model.1.weight", (1, channels, 1, 1)).abs())
        out.append(nn.Sequential(dropout, head))
    return nn.ModuleList(out).train()


def squares(x, y):
    def features(x):
        found, x = [], (x - shift) / scale
        for i, layer in enumerate(vgg.features[:30]):
            x = layer(x)
            if i in TAKEN:
                found.append(x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    return [(a - b) ** 2 for a, b in zip(features(x), features(y))]


def distance(found, heads):
    return sum(head(level).mean((2, 3)) for head, level in zip(heads, found)).mean()


out = {"cases": []}
for side in (32, 16):
    cut = lambda name: numbers(name, B, 3, CANVAS, CANVAS)[:, :, :side, :side].clone()
    x, y = cut("dropout/a").requires_grad_(), cut("dropout/b")
    kept = [
        numbers(f"dropout/keep{level}", B, channels, CANVAS >> level, CANVAS >> level)[:, :, : side >> level, : side >> level] >= 0
        for level, channels in enumerate(CHANNELS)
    ]
    found = squares(x, y)
    loss = distance(found, heads([Kept(one) for one in kept]))
    (slope,) = torch.autograd.grad(loss, x, retain_graph=True)
    with torch.no_grad():
        torch.manual_seed(1)
        drawn = torch.stack([distance(found, heads([nn.Dropout() for _ in CHANNELS])) for _ in range(DRAWS)])
        plain = distance(found, heads([nn.Identity() for _ in CHANNELS]))
    out["cases"].append(
        dict(
            side=side,
            plain=float(plain),
            loss=float(loss),
            norm=float(slope.double().norm()),
            corner=slope[0, 0, 0, :6].tolist(),
            last=slope[-1, -1, -1, -6:].tolist(),
            draws=dict(count=DRAWS, mean=float(drawn.mean()), deviation=float(drawn.std())),
        )
    )
print(json.dumps(out, indent=1))
