"""Reference values of the losses of a tokenizer against a discriminator, by torch.

    python3 tools/reference/adversarial.py > tests/fixtures/adversarial.json

Weights, images and changes are made by a formula of name and index (`numbers`), which the tests repeat; only outputs
are stored. Images lie in the top left corner of a canvas; here they are cut out, which must give the same.
"""
import json
import numpy as np
from numbers_by_formula import numbers as formula
import torch
import torch.nn.functional as F

B, CANVAS = 2, 32
WIDTH, LAYERS = 4, 2
RECIPE = dict(weight=0.2, lecam=0.5, consistency=4.0)
EMA = (0.3, -0.2)


def numbers(name, *shape):
    return torch.from_numpy(formula(name, *shape).astype(np.float32))


def parameters():
    channels = lambda i: WIDTH * min(2**i, 8)
    plan = [(3, channels(0), 2)] + [(channels(i - 1), channels(i), 2) for i in range(1, LAYERS)]
    plan += [(channels(LAYERS - 1), channels(LAYERS), 1), (channels(LAYERS), 1, 1)]
    p = {}
    for i, (a, b, _) in enumerate(plan):
        p[f"main.{i}.weight"] = 0.4 * numbers(f"main.{i}.weight", b, a, 4, 4)
        p[f"main.{i}.bias"] = 0.4 * numbers(f"main.{i}.bias", b)
        if 0 < i < len(plan) - 1:
            p[f"main.{i}.norm.weight"] = 1 + 0.4 * numbers(f"main.{i}.norm.weight", b)
            p[f"main.{i}.norm.bias"] = 0.4 * numbers(f"main.{i}.norm.bias", b)
    return plan, {k: v.requires_grad_() for k, v in p.items()}


def judge(plan, p, x):
    for i, (_, _, stride) in enumerate(plan):
        x = F.conv2d(x, p[f"main.{i}.weight"], p[f"main.{i}.bias"], stride=stride, padding=1)
        if i == len(plan) - 1:
            return x
        if i > 0:
            x = F.group_norm(x, 1, p[f"main.{i}.norm.weight"], p[f"main.{i}.norm.bias"])
        x = F.leaky_relu(x, 0.2)


def changed(x, c):
    """x [n, 3, R, R]; c: what is changed of each image."""
    n, _, side, _ = x.shape
    x = x + c["brightness"].view(n, 1, 1, 1)
    mean = x.mean(1, keepdim=True)
    x = (x - mean) * c["saturation"].view(n, 1, 1, 1) + mean
    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * c["contrast"].view(n, 1, 1, 1) + mean
    out = torch.zeros_like(x)
    rows = []
    for i in range(n):
        padded = F.pad(x[i], (side, side, side, side))
        dy, dx = c["shift"][i]
        y = padded[:, side - dy : 2 * side - dy, side - dx : 2 * side - dx]
        top, left, hole = c["hole"][i]
        mask = torch.ones(side, side)
        mask[max(0, top) : max(0, top + hole), max(0, left) : max(0, left + hole)] = 0
        rows.append(y * mask)
    return torch.stack(rows)


def changes(name, n):
    # Numbers of the formula, and whole ones made of them.
    whole = lambda key, low, high: [
        int(low + (float(v) + 1) / 2 * (high - low)) for v in numbers(f"{name}.{key}", n)
    ]
    return dict(
        brightness=0.5 * numbers(f"{name}.brightness", n),
        saturation=1 + numbers(f"{name}.saturation", n),
        contrast=1 + 0.5 * numbers(f"{name}.contrast", n),
        shift=list(zip(whole("down", -3, 4), whole("across", -3, 4))),
        hole=[(t, l, 5) for t, l in zip(whole("top", -2, 14), whole("left", -2, 14))],
    )


def case(side):
    plan, p = parameters()
    real = numbers("real", B, 3, CANVAS, CANVAS)[:, :, :side, :side]
    fake = numbers("fake", B, 3, CANVAS, CANVAS)[:, :, :side, :side].clone().requires_grad_()
    both = torch.cat([real, fake.detach()])
    canvas = lambda x: F.pad(x, (0, CANVAS - side, 0, CANVAS - side))
    weak_both = judge(plan, p, canvas(changed(both, changes("weak", 2 * B))))
    strong_both = judge(plan, p, canvas(changed(both, changes("strong", 2 * B))))
    cells = weak_both.shape[-1]
    inside = [i == 0 or (i + 0.5) / cells * CANVAS < side for i in range(cells)]
    weights = torch.tensor([[float(a and b) for b in inside] for a in inside])
    weights = weights / weights.sum()
    mean = lambda x: (x * weights).sum((1, 2, 3)).mean()
    r, f = weak_both[:B], weak_both[B:]
    ema_r = 0.999 * EMA[0] + 0.001 * mean(r).detach()
    ema_f = 0.999 * EMA[1] + 0.001 * mean(f).detach()
    hinge = 0.5 * (mean(F.relu(1 - r)) + mean(F.relu(1 + f)))
    lecam = mean(F.relu(r - ema_f) ** 2) + mean(F.relu(ema_r - f) ** 2)
    loss = RECIPE["weight"] * (hinge + RECIPE["lecam"] * lecam)
    loss = loss + RECIPE["consistency"] * mean((weak_both - strong_both) ** 2)
    loss.backward()
    gradient = {k: float(v.grad.double().norm()) for k, v in p.items()}
    weak_fake = {k: v[B:] for k, v in changes("weak", 2 * B).items()}
    generator = -mean(judge(plan, p, canvas(changed(fake, weak_fake))))
    (slope,) = torch.autograd.grad(generator, fake)
    return dict(
        side=side,
        loss=float(loss),
        real=float(mean(r)),
        fake=float(mean(f)),
        gradient=gradient,
        generator=float(generator),
        slope=float(slope.double().norm()),
        slopeCorner=[float(v) for v in slope[0, 0, 0, :6]],
    )


if __name__ == "__main__":
    print(json.dumps(dict(recipe=RECIPE, ema=EMA, cases=[case(32), case(20)]), indent=1))
