"""Times the shapes of VAR-d16 and LlamaGen-L in plain PyTorch on the CPU, for comparison with `npm run bench -- family`.

With a KV cache, as the official samplers have it; conditional and unconditional rows in one batch; 256 pixels; the
convolutional decoder included. Random weights, float32. Debian: python3-torch and libopenblas0-openmp.

    python3 tools/pytorch-family-baseline.py [--batch 1 4] [--rounds 1] [--threads 2] [--small]
"""

import argparse
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

SCALES = [1, 2, 3, 4, 5, 6, 8, 10, 13, 16]


class Block(nn.Module):
    """Attention with a cache, then the feed-forward layer; `ada` is VAR's modulation by the condition."""

    def __init__(self, width, heads, hidden, ada):
        super().__init__()
        self.heads, self.ada = heads, nn.Linear(width, 6 * width) if ada else None
        self.wqkv, self.wo = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=ada)
        self.w1, self.w2 = nn.Linear(width, hidden, bias=ada), nn.Linear(hidden, width, bias=ada)
        self.w3 = None if ada else nn.Linear(width, hidden, bias=False)

    def forward(self, x, cache, start, condition):
        rows, length, width = x.shape
        gains = self.ada(F.silu(condition)).view(rows, 1, 6, width).unbind(2) if self.ada else [1, 1, 0, 0, 0, 0]
        normed = F.layer_norm(x, (width,)) * (1 + gains[2]) + gains[4]
        q, k, v = self.wqkv(normed).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.ada:
            q, k = F.normalize(q, dim=-1) * 4, F.normalize(k, dim=-1)
        cache[0][:, :, start : start + length], cache[1][:, :, start : start + length] = k, v
        keys, values = (part[:, :, : start + length] for part in cache)
        seen = (q @ keys.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1) @ values
        x = x + gains[0] * self.wo(seen.transpose(1, 2).reshape(x.shape))
        h = F.layer_norm(x, (width,)) * (1 + gains[3]) + gains[5]
        h = F.gelu(self.w1(h), approximate="tanh") if self.ada else F.silu(self.w1(h)) * self.w3(h)
        return x + gains[1] * self.w2(h)


class Residual(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, before, 1e-6), nn.Conv2d(before, after, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(32, after, 1e-6), nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x):
        return self.skip(x) + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


def decoder(base, latent, blocks):
    """Levels 4, 2, 2, 1, 1 times the base, coarsest first. Attention at 16 x 16 is left out: it is a small part."""
    channels = [base * n for n in (4, 2, 2, 1, 1)]
    layers = [nn.Conv2d(latent, channels[0], 3, padding=1), Residual(channels[0], channels[0])]
    layers += [Residual(channels[0], channels[0])]
    before = channels[0]
    for level, width in enumerate(channels):
        for _ in range(blocks + 1):
            layers.append(Residual(before, width))
            before = width
        if level < 4:
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1)]
    return nn.Sequential(*layers, nn.GroupNorm(32, before, 1e-6), nn.SiLU(), nn.Conv2d(before, 3, 3, padding=1))


def system(width, heads, layers, hidden, codes, steps, ada, base, latent, blocks):
    """Draws along `steps`, the number of tokens of each, and decodes; returns seconds of drawing and of decoding."""
    network = nn.ModuleList(Block(width, heads, hidden, ada) for _ in range(layers))
    head, classes, pixels = nn.Linear(width, codes), nn.Embedding(1001, width), decoder(base, latent, blocks)
    length = sum(steps)

    def run(batch):
        started = time.perf_counter()
        condition = classes(torch.cat([torch.randint(0, 1000, (batch,)), torch.full((batch,), 1000)]))
        caches = [torch.zeros(2, 2 * batch, heads, length, width // heads) for _ in network]
        at = 0
        for count in steps:
            x = torch.randn(2 * batch, count, width)
            for block, cache in zip(network, caches):
                x = block(x, cache, at, condition)
            conditional, other = head(x).chunk(2)
            guided = other + (conditional - other) * 2
            guided.softmax(-1).view(-1, codes).multinomial(1)
            at += count
        drawn = time.perf_counter()
        pixels(torch.randn(batch, latent, 16, 16))
        return drawn - started, time.perf_counter() - drawn

    return run


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="a few layers, to see that it works")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    layers, base = (1, 32) if options.small else (None, None)
    width, heads, hidden = (64, 2, 256) if options.small else (1024, 16, None)
    systems = {
        "VAR-d16": lambda: system(
            width, heads, layers or 16, hidden or 4096, 4096, [n * n for n in SCALES], True, base or 160, 32, 2
        ),
        "LlamaGen-L, 256 tokens": lambda: system(
            width, heads, layers or 24, hidden or 2816, 16384, [1] * 256, False, base or 128, 256, 2
        ),
    }
    a = torch.randn(1024, 1024)
    times = []
    for _ in range(12):
        started = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - started)
    peak = 2 * 1024**3 / min(times) / 1e9
    print(f"torch {torch.__version__}, {options.threads} threads; matrix product peak {peak:.0f} GFLOP/s")
    for name, make in systems.items():
        run = make()
        run(1)
        for batch in options.batch:
            rounds = [run(batch) for _ in range(options.rounds)]
            drawing, decoding = (statistics.median(part) for part in zip(*rounds))
            total = drawing + decoding
            print(f"  {name}, batch {batch}: {total / batch:.2f} s a picture; decoder {100 * decoding / total:.0f} %")
        del run


main()
