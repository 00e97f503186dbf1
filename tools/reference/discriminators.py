"""Reference values of the discriminators dino, stylegan and maskbit, and of the perceptual distance by a vision transformer, by torch.

    /usr/bin/python3 -B tools/reference/discriminators.py > tests/fixtures/discriminators.json

Spectral norm is torch.nn.utils.spectral_norm in training, batch norm F.batch_norm, group norm nn.GroupNorm, convolutions in rings
nn.Conv1d with circular padding. Weights and images are made by a formula of name and index, which the tests repeat.
"""
import json
import math

import numpy as np
import torch
import torch.nn.functional as F
from numbers_by_formula import numbers as formula
from torch import nn

torch.set_num_threads(1)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def numbers(name, *shape):
    return torch.from_numpy(formula(name, *shape).astype(np.float32))


class Weights(dict):
    """Weights by name, made when they are first asked for: matrices by their inputs, gains around 1, the rest small."""

    def __init__(self, plain=False):
        super().__init__()
        self.plain = plain

    def get(self, name, *shape):
        if name not in self:
            x = numbers(name, *shape)
            if not self.plain:
                fan_in = math.prod(shape[1:])
                gain = name.endswith((".norm.weight", "norm1.weight", "norm2.weight", "gamma")) or name == "vit.norm.weight"
                x = 1 + 0.2 * x if gain else 0.2 * x if len(shape) == 1 else x * math.sqrt(3 / fan_in)
            self[name] = x.requires_grad_()
        return self[name]


def listed(x):
    return [float(f"{v:.8g}") for v in x.detach().flatten().tolist()]


def summary(x):
    x = x.flatten()
    return dict(norm=float(x.double().norm()), first=listed(x[:2]), last=listed(x[-2:]))


def vit(w, c, images):
    """Sequences before the first block, after each block, and after the last norm. timm's form."""
    e, p, n = c["width"], c["patch"], c["grid"]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    x = ((images + 1) / 2 - mean) / std
    x = F.conv2d(x, w.get("vit.patch_embed.proj.weight", e, 3, p, p), w.get("vit.patch_embed.proj.bias", e), stride=p)
    x = x.flatten(2).transpose(1, 2)
    b = x.shape[0]
    if c["registers"]:
        x = x + w.get("vit.pos_embed", 1, n * n, e)
        x = torch.cat([w.get("vit.cls_token", 1, 1, e).expand(b, -1, -1), w.get("vit.reg_token", 1, c["registers"], e).expand(b, -1, -1), x], 1)
    else:
        x = torch.cat([w.get("vit.cls_token", 1, 1, e).expand(b, -1, -1), x], 1) + w.get("vit.pos_embed", 1, n * n + 1, e)
    norm = lambda name, x: F.layer_norm(x, (e,), w.get(f"{name}.weight", e), w.get(f"{name}.bias", e), 1e-6)
    linear = lambda name, x, to: F.linear(x, w.get(f"{name}.weight", to, x.shape[-1]), w.get(f"{name}.bias", to))
    scale = lambda name, x: x * w.get(f"{name}.gamma", e) if c["scaled"] else x
    embedding, blocks = x, []
    for i in range(c["layers"]):
        name = f"vit.blocks.{i}"
        q, k, v = linear(f"{name}.attn.qkv", norm(f"{name}.norm1", x), 3 * e).view(b, -1, 3, c["heads"], e // c["heads"]).permute(2, 0, 3, 1, 4)
        mixed = ((q @ k.transpose(-1, -2)) * (e // c["heads"]) ** -0.5).softmax(-1) @ v
        x = x + scale(f"{name}.ls1", linear(f"{name}.attn.proj", mixed.transpose(1, 2).reshape(b, -1, e), e))
        inner = F.gelu(linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", x), c["hidden"]))
        x = x + scale(f"{name}.ls2", linear(f"{name}.mlp.fc2", inner, e))
        blocks.append(x)
    return embedding, blocks, norm("vit.norm", x)


class Head(nn.Module):
    def __init__(self, w, name, e):
        super().__init__()
        self.parts, self.norms = nn.ModuleDict(), {}
        for part, to, kernel in (("first", e, 1), ("second", e, 9), ("output", 1, 1)):
            conv = nn.Conv1d(e, to, kernel, padding=kernel // 2, padding_mode="circular")
            full = f"heads.{name}.{part}"
            conv.weight.data = w.get(f"{full}.weight", to, e, kernel).detach().clone()
            conv.bias.data = w.get(f"{full}.bias", to).detach().clone()
            conv = nn.utils.spectral_norm(conv, eps=1e-12)
            u = numbers(f"singular.{full}.weight", to)
            conv.weight_u = u / u.norm()
            self.parts[part] = conv
            if part != "output":
                self.norms[part] = [w.get(f"{full}.norm.{k}", e) for k in ("weight", "bias")]

    def block(self, part, x):
        y = self.parts[part](x)
        groups = torch.chunk(y, math.ceil(len(y) / 8))
        y = torch.cat([F.batch_norm(g, None, None, *self.norms[part], True, 0.0, 1e-6) for g in groups])
        return F.leaky_relu(y, 0.2)

    def forward(self, x):
        x = self.block("first", x)
        x = (self.block("second", x) + x) / math.sqrt(2)
        return self.parts["output"](x)


def dino(batch):
    c = dict(width=12, heads=3, layers=6, patch=4, grid=3, hidden=20, registers=0, scaled=False)
    w = Weights()
    x = numbers("images", batch, 3, 12, 12).requires_grad_()
    embedding, blocks, _ = vit(w, c, x)
    depths = (1, 2, 4, 5)
    seen = [embedding] + [blocks[i] for i in depths]
    heads = [Head(w, i, c["width"]).train() for i in range(len(seen))]
    logits = torch.stack([h((s[:, 1:] + s[:, :1]).transpose(1, 2)).flatten(1) for h, s in zip(heads, seen)], 1)
    (logits * numbers("cotangent", *logits.shape)).sum().backward()
    gradient, vectors = {}, {}
    for i, head in enumerate(heads):
        for part, conv in head.parts.items():
            gradient[f"heads.{i}.{part}.weight"] = summary(conv.weight_orig.grad)
            gradient[f"heads.{i}.{part}.bias"] = summary(conv.bias.grad)
            vectors[f"heads.{i}.{part}.weight"] = summary(conv.weight_u)
        for part, (gain, shift) in head.norms.items():
            gradient[f"heads.{i}.{part}.norm.weight"] = summary(gain.grad)
            gradient[f"heads.{i}.{part}.norm.bias"] = summary(shift.grad)
    with torch.no_grad():  # the weights stay: the vectors go on
        for _ in range(2):
            for head, s in zip(heads, seen):
                head((s[:, 1:] + s[:, :1]).transpose(1, 2))
    third = {f"heads.{i}.{part}.weight": summary(conv.weight_u) for i, h in enumerate(heads) for part, conv in h.parts.items()}
    return dict(batch=batch, logits=listed(logits), gradient=gradient, slope=summary(x.grad), vectors=vectors, third=third)


def spectral():
    """Far from the largest singular value, where it matters what the vectors are to the gradient."""
    conv = nn.Conv1d(4, 5, 3, bias=False)
    conv.weight.data = numbers("matrix", 5, 4, 3)
    conv = nn.utils.spectral_norm(conv, eps=1e-12).train()
    u = numbers("u", 5)
    conv.weight_u = u / u.norm()
    conv(torch.zeros(1, 4, 3))
    (conv.weight * numbers("cotangent", 5, 4, 3)).sum().backward()
    return dict(weight=listed(conv.weight), u=listed(conv.weight_u), gradient=listed(conv.weight_orig.grad))


def blurred(x, padding, stride=1):
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = (taps[:, None] * taps[None, :] / 64).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, (padding,) * 4), kernel, stride=stride, groups=x.shape[1])


def stylegan(size, width, batch):
    w = Weights(plain=True)
    x = numbers("images", batch, 3, size, size).requires_grad_()
    channels = lambda side: int(max(1, round(width * min(8, 256 / side))))
    scaled = lambda name, gain, *shape: w.get(f"{name}.weight", *shape) * math.sqrt(gain / math.prod(shape[1:]))

    def conv(name, x, to, kernel, **options):
        y = F.conv2d(x, scaled(name, 2, to, x.shape[1], kernel, kernel), w.get(f"{name}.bias", to), **options)
        return F.leaky_relu(y, 0.2)

    y = conv("input", x, channels(size), 1)
    side = size
    while side > 4:
        name, to = f"blocks.{side}", channels(side // 2)
        main = conv(f"{name}.second", blurred(conv(f"{name}.first", y, y.shape[1], 3, padding=1), 2), to, 3, stride=2)
        skip = F.conv2d(blurred(y, 1, 2), scaled(f"{name}.skip", 1, to, y.shape[1], 1, 1))
        y = (main + skip) / math.sqrt(2)
        side //= 2
    members = next(k for k in (4, 3, 2, 1) if batch % k == 0)
    deviations = [torch.sqrt(g.var(0, unbiased=False) + 1e-8).mean() for g in y.split(members)]
    extra = torch.stack([d for d in deviations for _ in range(members)]).view(batch, 1, 1, 1).expand(batch, 1, 4, 4)
    y = conv("last", torch.cat([y, extra], 1), channels(4), 3, padding=1).flatten(1)
    y = F.leaky_relu(F.linear(y, scaled("hidden", 2, channels(4), y.shape[1]), w.get("hidden.bias", channels(4))), 0.2)
    logits = F.linear(y, scaled("output", 1, 1, channels(4)), w.get("output.bias", 1))
    (logits * numbers("cotangent", batch, 1)).sum().backward()
    gradient = {k: summary(v.grad) for k, v in w.items()}
    return dict(size=size, width=width, batch=batch, logits=listed(logits), gradient=gradient, slope=summary(x.grad))


def maskbit(norm, side, width, layers):
    w = Weights()
    x = numbers("images", 2, 3, side, side).requires_grad_()
    conv = lambda name, x, to, k: F.conv2d(x, w.get(f"{name}.weight", to, x.shape[1], k, k), w.get(f"{name}.bias", to), padding=k // 2)
    y = F.leaky_relu(conv("input", x, width, 3), 0.2)
    for i in range(layers):
        name, to = f"stages.{i}", width * min(2 ** (i + 1), 8)
        y = blurred(conv(name, y, to, 3), 1, 2)
        if norm == "group":
            groups = next(g for g in range(min(32, to), 0, -1) if to % g == 0)
            y = F.group_norm(y, groups, w.get(f"{name}.norm.weight", to), w.get(f"{name}.norm.bias", to), 1e-5)
        y = F.leaky_relu(y, 0.2)
    logits = conv("output", F.leaky_relu(conv("hidden", y, y.shape[1], 1), 0.2), 1, 3)
    (logits * numbers("cotangent", *logits.shape)).sum().backward()
    gradient = {k: summary(v.grad) for k, v in w.items()}
    return dict(norm=norm, side=side, width=width, layers=layers, shape=list(logits.shape), logits=listed(logits), gradient=gradient, slope=summary(x.grad))


def distance(features, registers):
    c = dict(width=12, heads=3, layers=5, patch=4, grid=2, hidden=20, registers=registers, scaled=registers > 0)
    w = Weights()
    x, y = (numbers(name, 2, 3, 8, 8).requires_grad_() for name in ("x", "y"))

    def told(images):
        _, blocks, last = vit(w, c, images)
        plain = lambda s: torch.cat([s[:, :1], s[:, 1 + registers :]], 1)
        if features == "layers":
            return [plain(blocks[i]) for i in (1, 2, 3, 4)]
        if features == "last":
            return [plain(last)]
        first = last[:, :1]
        return [first if features == "class" else F.linear(first, w.get("vit.head.weight", 7, 12), w.get("vit.head.bias", 7))]

    pairs = list(zip(told(x), told(y)))
    if features == "logits":
        found = ((pairs[0][0] - pairs[0][1]) ** 2).mean((1, 2))
    else:
        unit = lambda s: F.normalize(s, dim=-1)
        found = sum(((unit(a) - unit(b)) ** 2).sum(-1).mean(1) for a, b in pairs) / len(pairs)
    (slope,) = torch.autograd.grad(found.sum(), x)
    return dict(features=features, registers=registers, distances=listed(found), slope=summary(slope))


print(
    json.dumps(
        dict(
            spectral=spectral(),
            dino=[dino(3), dino(10)],
            stylegan=[stylegan(16, 1, 6), stylegan(64, 2, 4), stylegan(8, 3, 1)],
            maskbit=[maskbit("group", 20, 3, 2), maskbit("none", 13, 4, 1), maskbit("group", 32, 40, 3)],
            distance=[distance(f, r) for f in ("layers", "last", "class", "logits") for r in (0, 2)],
        ),
        indent=1,
    )
)
