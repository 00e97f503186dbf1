"""Times the shapes of DetailFlow-16 + GPT-L in plain PyTorch, for comparison with `npm run bench`.

The official sampler recomputes the whole prefix at every step, with the conditional and unconditional rows in one
batch; so does this. Random weights, float32. Debian: python3-torch and libopenblas0-openmp.

    python3 tools/pytorch-baseline.py [--batch 1 4] [--rounds 3] [--threads 2] [--device cpu|cuda] [--turns]

--turns: a round whenever a line comes in, answered in JSON, so that `npm run bench -- --python` can take turns with it.
"""

import argparse
import json
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

DIM, LAYERS, HEADS, HIDDEN, VOCABULARY = 1024, 24, 16, 2816, 8192
TOKENS, GROUP = 128, 8
WIDTH, DEPTH, DECODER_HEADS, MLP, PATCHES, PATCH = 768, 12, 12, 3072, 256, 16


def linear(inputs, outputs, bias=False):
    return nn.Linear(inputs, outputs, bias=bias)


def attend(q, k, v, heads, mask=None):
    batch, length, width = q.shape
    q, k, v = (x.view(batch, length, heads, width // heads).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-2, -1) / (width // heads) ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width)


class ArBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.wqkv, self.wo = linear(DIM, 3 * DIM), linear(DIM, DIM)
        self.w1, self.w3, self.w2 = linear(DIM, HIDDEN), linear(DIM, HIDDEN), linear(HIDDEN, DIM)
        self.norm1, self.norm2 = nn.Parameter(torch.ones(DIM)), nn.Parameter(torch.ones(DIM))

    def forward(self, x, rotation, mask):
        q, k, v = self.wqkv(rms(x, self.norm1)).chunk(3, -1)
        x = x + self.wo(attend(rotate(q, rotation), rotate(k, rotation), v, HEADS, mask))
        h = rms(x, self.norm2)
        return x + self.w2(F.silu(self.w1(h)) * self.w3(h))


def rms(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight


def rotate(x, rotation):
    batch, length, width = x.shape
    pairs = x.view(batch, length, HEADS, width // HEADS // 2, 2)
    cos, sin = (table[None, :length, None] for table in rotation)
    even, odd = pairs.unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).view(batch, length, width)


class DecoderBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (linear(WIDTH, WIDTH, True) for _ in range(4))
        self.fc1, self.fc2 = linear(WIDTH, MLP, True), linear(MLP, WIDTH, True)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)

    def forward(self, x):
        h = self.norm1(x)
        x = x + self.o(attend(self.q(h), self.k(h), self.v(h), DECODER_HEADS))
        h = self.fc1(self.norm2(x))
        # torch 1.13 has the tanh form of GELU as one operator.
        return x + self.fc2(F.gelu(h, approximate="tanh"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.device != "cpu":
        torch.set_default_device(options.device)
    torch.set_grad_enabled(False)

    layers = nn.ModuleList(ArBlock() for _ in range(LAYERS))
    embedding, output = nn.Embedding(VOCABULARY, DIM), linear(DIM, VOCABULARY)
    blocks = nn.ModuleList(DecoderBlock() for _ in range(DEPTH))
    to_pixel, norm = linear(WIDTH, 3 * PATCH * PATCH, True), nn.LayerNorm(WIDTH)
    angles = torch.rand(TOKENS, DIM // HEADS // 2)
    rotation = (angles.cos(), angles.sin())
    places = torch.arange(TOKENS)
    row, column = places[:, None], places[None]
    mask = (column <= row) | ((row >= GROUP) & (column // GROUP <= row // GROUP))

    def generate(batch):
        tokens = torch.randint(0, VOCABULARY, (2 * batch, TOKENS))
        known = 0
        while known < TOKENS:
            count = 1 if known < GROUP else GROUP
            length = known + count
            x = embedding(tokens[:, :length])
            for layer in layers:
                x = layer(x, rotation, mask[:length, :length])
            logits = output(rms(x[:, -count:], torch.ones(DIM)))
            conditional, unconditional = logits.chunk(2)
            guided = unconditional + (conditional - unconditional) * 1.45
            drawn = guided.softmax(-1).view(-1, VOCABULARY).multinomial(1).view(batch, count)
            tokens[:, known : known + count] = drawn.repeat(2, 1)
            known += count

    def decode(batch):
        x = torch.randn(batch, PATCHES + TOKENS, WIDTH)
        for block in blocks:
            x = block(x)
        return to_pixel(norm(x[:, :PATCHES]))

    def timed(work, batch):
        started = time.perf_counter()
        work(batch)
        if options.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    def turn(batch):
        ar, decoder = timed(generate, batch), timed(decode, batch)
        return {"seconds": ar + decoder, "decoder": 1000 * decoder}

    a = torch.randn(1024, 1024)
    peak = 2 * 1024**3 / min(timed(lambda _: a @ a, 0) for _ in range(12)) / 1e9
    if options.turns:
        for batch in options.batch:
            decode(batch)
        generate(1)
        ready = {"tokens": TOKENS, "threads": options.threads, "processor": f"torch {torch.__version__}", "peakGflops": peak}
        print(json.dumps(ready), flush=True)
        for line in sys.stdin:
            print(json.dumps([turn(batch) for batch in options.batch] if line.strip() == "round" else {}), flush=True)
        return
    print(f"torch {torch.__version__}, {options.device}, {options.threads} threads; matrix product peak {peak:.0f} GFLOP/s")
    for batch in options.batch:
        decode(batch)
        generate(batch)
        ar = [timed(generate, batch) for _ in range(options.rounds)]
        decoder = [timed(decode, batch) for _ in range(options.rounds)]
        total = (statistics.median(ar) + statistics.median(decoder)) / batch
        print(f"  batch {batch}: {total:.3f} s/image; decoder {1000 * statistics.median(decoder):.0f} ms")


main()
