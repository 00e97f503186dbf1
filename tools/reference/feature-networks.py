"""Reference values of the networks of @detailflow/features, by torch and torchvision.

    python3 tools/reference/feature-networks.py > tests/fixtures/feature-networks.json

Weights and inputs are made by a formula of name and index (`numbers`), which the tests repeat; only outputs are stored.
"""
import json

import numpy as np
import torch
import torch.nn.functional as F
from fid_inception import features, fill, network, numbers, synthetic_images, value
from torchvision.models import vgg16

torch.set_num_threads(2)


def summary(x):
    x = x.double().flatten()
    step = max(1, x.numel() // 24)
    return {"shape": x.numel(), "mean": float(x.mean()), "norm": float(x.norm()), "some": x[::step][:24].tolist()}


def frechet(a, b):
    """Of fewer rows than columns: tr (S1 S2)^(1/2) is the nuclear norm of X1 X2^T."""
    x, y = ((f - f.mean(0)) / np.sqrt(len(f) - 1) for f in (a, b))
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + (x**2).sum() + (y**2).sum() - 2 * root)


def inception_score(logits):
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return float(np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean()))


out = {}
with torch.no_grad():
    net = network()
    images = torch.round(127.5 + 127.5 * numbers("inception/images", 2, 3, 40, 52))
    resized, spatial, pool, logits = features(net, images)
    out["resized"] = summary(resized)
    out["spatial"] = summary(spatial.permute(0, 2, 3, 1))
    out["pool"] = summary(pool)
    out["logits"] = summary(logits)

    # FID, sFID and IS of three sets of synthetic images.
    found = {}
    for name, coarse in (("a", 3), ("b", 3), ("c", 1)):
        x = torch.from_numpy(synthetic_images(f"fid/{name}", 24, 48, coarse)).float()
        _, spatial, pool, logits = features(net, x)
        found[name] = [f.double().numpy() for f in (pool, spatial.permute(0, 2, 3, 1).reshape(24, -1), logits)]
    out["fid"] = {
        f"{x} {y}": [frechet(found[x][i], found[y][i]) for i in (0, 1)] for x, y in (("a", "b"), ("a", "c"), ("b", "c"))
    }
    out["inceptionScore"] = {name: inception_score(logits) for name, (_, _, logits) in found.items()}

    vgg = fill(vgg16())
    a, b = numbers("lpips/a", 2, 3, 32, 48), numbers("lpips/b", 2, 3, 32, 48)
    shift, scale = torch.tensor([-0.03, -0.088, -0.188])[:, None, None], torch.tensor([0.458, 0.448, 0.45])[:, None, None]

    def vgg_features(x):
        found, y = [], (x - shift) / scale
        for i, layer in enumerate(vgg.features[:30]):
            y = layer(y)
            if i in (3, 8, 15, 22, 29):
                found.append(y)
        return found

    fa, fb = vgg_features(a), vgg_features(b)
    out["vgg"] = [summary(f) for f in fa]
    unit = lambda f: f / (f.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)
    total = 0
    for i, (f, g) in enumerate(zip(fa, fb)):
        head = value(f"lin{i}.model.1.weight", (1, f.shape[1], 1, 1)).abs()
        total = total + F.conv2d((unit(f) - unit(g)) ** 2, head).mean((2, 3))
    out["lpips"] = total.flatten().tolist()
print(json.dumps(out))
