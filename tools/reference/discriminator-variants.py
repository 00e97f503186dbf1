"""Reference values of the less usual discriminators and losses, by torch's own layers and losses.

    python3 tools/reference/discriminator-variants.py > tests/fixtures/discriminator-variants.json

BatchNorm is torch's, in training; real and restored images, weakly and strongly changed, are judged apart, as batches of their own.
Weights, images and changes are made by a formula of name and index, which the test repeats.
"""
import json

import torch
import torch.nn.functional as F
from adversarial import B, changed, changes, numbers
from torch import nn

LECAM_DECAY = 0.999
VARIANTS = [
    dict(norm="batch", loss="hinge", generatorLoss="hinge", canvas=32, side=32, width=4, layers=2),
    dict(norm="batch", loss="vanilla", generatorLoss="non-saturating", canvas=24, side=24, width=3, layers=3),
    dict(norm="batch", loss="vanilla", generatorLoss="hinge", canvas=32, side=20, width=4, layers=2),
    dict(norm="image", loss="vanilla", generatorLoss="non-saturating", canvas=24, side=16, width=5, layers=2),
    dict(norm="image", loss="hinge", generatorLoss="non-saturating", canvas=40, side=40, width=3, layers=3),
    dict(norm="batch", loss="hinge", generatorLoss="non-saturating", canvas=40, side=40, width=4, layers=2, augment=False),
    dict(norm="image", loss="vanilla", generatorLoss="hinge", canvas=24, side=24, width=4, layers=2, augment=False),
]


def network(norm, width, layers):
    channels = [3] + [width * min(2**i, 8) for i in range(layers + 1)]
    modules = []
    for i, (a, b) in enumerate(zip(channels, channels[1:])):
        stride = 2 if i < layers else 1
        inner = i > 0
        modules.append(nn.Conv2d(a, b, 4, stride, 1, bias=not (inner and norm == "batch")))
        if inner:
            modules.append(nn.BatchNorm2d(b) if norm == "batch" else nn.GroupNorm(1, b))
        modules.append(nn.LeakyReLU(0.2))
    modules.append(nn.Conv2d(channels[-1], 1, 4, 1, 1))
    net, names, at = nn.Sequential(*modules), {}, -1
    for module in net:
        if isinstance(module, nn.LeakyReLU):
            continue
        is_norm = not isinstance(module, nn.Conv2d)
        at += 0 if is_norm else 1
        for key, parameter in module.named_parameters():
            name = f"main.{at}.{'norm.' if is_norm else ''}{key}"
            names[name] = parameter
            value = 0.4 * numbers(name, *parameter.shape)
            parameter.data.copy_(1 + value if name.endswith("norm.weight") else value)
    return net.train(), names


def case(norm, loss, generatorLoss, canvas, side, width, layers, augment=True):
    net, names = network(norm, width, layers)
    recipe = dict(weight=0.2, lecam=0.5, consistency=4.0 if augment else 0.0)
    ema = (0.3, -0.2) if augment else (0.0, 0.0)
    images = lambda name: numbers(name, B, 3, canvas, canvas)[:, :, :side, :side].clone()
    real, fake = images("real"), images("fake").requires_grad_()
    pad = lambda x: F.pad(x, (0, canvas - side, 0, canvas - side))
    half = lambda c, i: {k: v[i * B : (i + 1) * B] for k, v in c.items()}
    weak, strong = changes("weak", 2 * B), changes("strong", 2 * B)
    view = lambda x, c, i: pad(changed(x, half(c, i)) if augment else x)
    r, f = net(view(real, weak, 0)), net(view(fake.detach(), weak, 1))
    cells = r.shape[-1]
    inside = [i == 0 or (i + 0.5) / cells * canvas < side for i in range(cells)]
    weights = torch.tensor([[float(a and b) for b in inside] for a in inside])
    weights = weights / weights.sum()
    mean = lambda x: (x * weights).sum((1, 2, 3)).mean()
    ema_r, ema_f = (LECAM_DECAY * e + (1 - LECAM_DECAY) * mean(x).detach() for e, x in zip(ema, (r, f)))
    if loss == "hinge":
        taught = 0.5 * (mean(F.relu(1 - r)) + mean(F.relu(1 + f)))
    else:
        logits = lambda x, y: F.binary_cross_entropy_with_logits(x, torch.full_like(x, y), reduction="none")
        taught = 0.5 * (mean(logits(r, 1.0)) + mean(logits(f, 0.0)))
    lecam = mean(F.relu(r - ema_f) ** 2) + mean(F.relu(ema_r - f) ** 2)
    total = recipe["weight"] * (taught + recipe["lecam"] * lecam)
    if augment:
        rs, fs = net(view(real, strong, 0)), net(view(fake.detach(), strong, 1))
        total = total + recipe["consistency"] * mean((torch.cat([r, f]) - torch.cat([rs, fs])) ** 2)
    total.backward()
    gradient = {k: dict(norm=float(v.grad.double().norm()), first=v.grad.flatten()[:4].tolist()) for k, v in names.items()}
    judged = net(view(fake, weak, 1))
    if generatorLoss == "hinge":
        generator = -mean(judged)
    else:
        generator = mean(F.binary_cross_entropy_with_logits(judged, torch.ones_like(judged), reduction="none"))
    (slope,) = torch.autograd.grad(generator, fake)
    if norm == "batch":  # what BatchNorm keeps running is not looked at in training
        for module in net:
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
        assert torch.equal(net(view(fake, weak, 1)), judged)
    return dict(
        **dict(norm=norm, loss=loss, generatorLoss=generatorLoss, canvas=canvas, side=side, width=width, layers=layers),
        **dict(augment=augment, recipe=recipe, ema=ema, total=float(total), real=float(mean(r)), fake=float(mean(f))),
        judgements=r.flatten().tolist(),
        gradient=gradient,
        generator=float(generator),
        slope=dict(norm=float(slope.double().norm()), first=slope[0, 0, 0, :6].tolist(), last=slope[-1, -1, -1, -6:].tolist()),
    )


print(json.dumps([case(**one) for one in VARIANTS], indent=1))
