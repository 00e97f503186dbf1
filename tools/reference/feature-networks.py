"""Reference values of the networks of @detailflow/features, by torch and torchvision.

    python3 tools/reference/feature-networks.py > tests/fixtures/feature-networks.json

Weights and inputs are made by a formula of name and index (`numbers`), which the tests repeat; only outputs are stored.
"""
import json
import numpy as np
from numbers_by_formula import numbers as formula
import torch
import torch.nn.functional as F
from torchvision.models import vgg16
from torchvision.models.inception import Inception3

torch.set_num_threads(2)


def numbers(name, *shape):
    return torch.from_numpy(formula(name, *shape).astype(np.float32))


def value(name, shape):
    x = numbers(name, *shape)
    if name.endswith("running_var") or name.endswith("bn.weight"):
        return 1 + 0.2 * x
    if len(shape) == 1:
        return 0.1 * x
    return x * float(np.sqrt(6 / np.prod(shape[1:])))


def fill(module):
    state = {k: value(k, tuple(v.shape)) for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    module.load_state_dict(state, strict=False)
    return module.eval()


def pool_as_fid(x, **_):
    return F.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)


def branches(block, x, largest=False):
    """The blocks of torchvision with the pooling of the FID network."""
    kind = type(block).__name__
    pooled = F.max_pool2d(x, 3, 1, 1) if largest else pool_as_fid(x)
    if kind == "InceptionA":
        b5 = block.branch5x5_2(block.branch5x5_1(x))
        b3 = block.branch3x3dbl_3(block.branch3x3dbl_2(block.branch3x3dbl_1(x)))
        return torch.cat([block.branch1x1(x), b5, b3, block.branch_pool(pooled)], 1)
    if kind == "InceptionC":
        b7 = block.branch7x7_3(block.branch7x7_2(block.branch7x7_1(x)))
        b77 = block.branch7x7dbl_1(x)
        for layer in (block.branch7x7dbl_2, block.branch7x7dbl_3, block.branch7x7dbl_4, block.branch7x7dbl_5):
            b77 = layer(b77)
        return torch.cat([block.branch1x1(x), b7, b77, block.branch_pool(pooled)], 1)
    if kind == "InceptionE":
        b3 = block.branch3x3_1(x)
        b3 = torch.cat([block.branch3x3_2a(b3), block.branch3x3_2b(b3)], 1)
        d = block.branch3x3dbl_2(block.branch3x3dbl_1(x))
        d = torch.cat([block.branch3x3dbl_3a(d), block.branch3x3dbl_3b(d)], 1)
        return torch.cat([block.branch1x1(x), b3, d, block.branch_pool(pooled)], 1)
    return block(x)


def tensorflow_resize(x, size):
    """tf.image.resize_bilinear of TensorFlow 1: corners not aligned, centres not shifted."""
    def axis(n):
        place = (np.arange(size, dtype=np.float32) * np.float32(n / size)).astype(np.float32)
        low = np.floor(place).astype(np.int64)
        return torch.from_numpy(low), torch.from_numpy(np.minimum(low + 1, n - 1)), torch.from_numpy((place - low).astype(np.float32))

    (y0, y1, dy), (x0, x1, dx) = axis(x.shape[2]), axis(x.shape[3])
    top = x[:, :, y0][:, :, :, x0] * (1 - dx) + x[:, :, y0][:, :, :, x1] * dx
    low = x[:, :, y1][:, :, :, x0] * (1 - dx) + x[:, :, y1][:, :, :, x1] * dx
    return top * (1 - dy)[:, None] + low * dy[:, None]


def summary(x):
    x = x.double().flatten()
    step = max(1, x.numel() // 24)
    return {"shape": x.numel(), "mean": float(x.mean()), "norm": float(x.norm()), "some": x[::step][:24].tolist()}


out = {}
with torch.no_grad():
    net = fill(Inception3(num_classes=1008, aux_logits=False, transform_input=False, init_weights=False))
    images = torch.round(127.5 + 127.5 * numbers("inception/images", 2, 3, 40, 52))
    y = ((tensorflow_resize(images, 299) - 128) / 128).float()
    out["resized"] = summary(y)
    for layer in (net.Conv2d_1a_3x3, net.Conv2d_2a_3x3, net.Conv2d_2b_3x3):
        y = layer(y)
    y = F.max_pool2d(y, 3, 2)
    y = F.max_pool2d(net.Conv2d_4a_3x3(net.Conv2d_3b_1x1(y)), 3, 2)
    for name in ("5b", "5c", "5d", "6a", "6b", "6c"):
        y = branches(getattr(net, f"Mixed_{name}"), y)
    out["spatial"] = summary(net.Mixed_6d.branch1x1(y)[:, :7].permute(0, 2, 3, 1))
    for name in ("6d", "6e", "7a", "7b"):
        y = branches(getattr(net, f"Mixed_{name}"), y)
    pool = branches(net.Mixed_7c, y, largest=True).mean((2, 3))
    out["pool"] = summary(pool)
    out["logits"] = summary(pool @ net.fc.weight.T)

    vgg = fill(vgg16())
    a, b = numbers("lpips/a", 2, 3, 32, 48), numbers("lpips/b", 2, 3, 32, 48)
    shift, scale = torch.tensor([-0.03, -0.088, -0.188])[:, None, None], torch.tensor([0.458, 0.448, 0.45])[:, None, None]

    def features(x):
        found, y = [], (x - shift) / scale
        for i, layer in enumerate(vgg.features[:30]):
            y = layer(y)
            if i in (3, 8, 15, 22, 29):
                found.append(y)
        return found

    fa, fb = features(a), features(b)
    out["vgg"] = [summary(f) for f in fa]
    unit = lambda f: f / (f.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)
    total = 0
    for i, (f, g) in enumerate(zip(fa, fb)):
        head = value(f"lin{i}.model.1.weight", (1, f.shape[1], 1, 1)).abs()
        total = total + F.conv2d((unit(f) - unit(g)) ** 2, head).mean((2, 3))
    out["lpips"] = total.flatten().tolist()
print(json.dumps(out))
