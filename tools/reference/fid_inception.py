"""Inception-v3 as FID is defined with it, from torchvision's blocks; weights and images by formula."""
import numpy as np
from numbers_by_formula import numbers as formula
import torch
import torch.nn.functional as F
from torchvision.models.inception import Inception3


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


def network():
    return fill(Inception3(num_classes=1008, aux_logits=False, transform_input=False, init_weights=False))


def features(net, images):
    """images [n, 3, H, W] of 0 .. 255; returns resized, spatial [n, 7, 17, 17], pool [n, 2048], logits [n, 1008]."""
    resized = ((tensorflow_resize(images, 299) - 128) / 128).float()
    y = resized
    for layer in (net.Conv2d_1a_3x3, net.Conv2d_2a_3x3, net.Conv2d_2b_3x3):
        y = layer(y)
    y = F.max_pool2d(y, 3, 2)
    y = F.max_pool2d(net.Conv2d_4a_3x3(net.Conv2d_3b_1x1(y)), 3, 2)
    for name in ("5b", "5c", "5d", "6a", "6b", "6c"):
        y = branches(getattr(net, f"Mixed_{name}"), y)
    spatial = net.Mixed_6d.branch1x1(y)[:, :7]
    for name in ("6d", "6e", "7a", "7b"):
        y = branches(getattr(net, f"Mixed_{name}"), y)
    pool = branches(net.Mixed_7c, y, largest=True).mean((2, 3))
    return resized, spatial, pool, pool @ net.fc.weight.T


def synthetic_images(name, count, side, coarse):
    """Bytes [count, 3, side, side]: blocks of 8 x 8 pixels under noise; `coarse` quarters of the former."""
    to_bytes = lambda x: np.minimum(255, np.floor((x.astype(np.float32).astype(np.float64) + 1) * 128)).astype(np.int64)
    blocks = to_bytes(formula(f"{name}/blocks", count, 3, side // 8, side // 8)).repeat(8, 2).repeat(8, 3)
    noise = to_bytes(formula(f"{name}/noise", count, 3, side, side))
    return ((coarse * blocks + (4 - coarse) * noise) // 4).astype(np.uint8)
