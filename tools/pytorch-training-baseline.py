"""Times training steps of plain PyTorch on the CPU, for comparison with tools/bench-training.mjs.

The tokenizer step is the official one without perceptual, adversarial and alignment losses: encode, quantise, decode,
l2 + vq + commit, backward, Adam with clipping; with self-correction a second encoder pass, and both results decoded in
one batch. The AR step is a forward and backward pass of the whole sequence, and AdamW. Random images and weights,
float32. Debian: python3-torch and libopenblas0-openmp.

    python3 tools/pytorch-training-baseline.py [--seconds 20] [--rounds 3] [--threads 2]
"""

import argparse
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

SIZE, PATCH, WIDTH, HEADS, LAYERS, MLP, CODES, DIM = 32, 4, 128, 4, 3, 512, 1024, 8
PATCHES = (SIZE // PATCH) ** 2


def attend(q, k, v, heads, mask=None):
    batch, length, width = q.shape
    q, k, v = (x.view(batch, length, heads, width // heads).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-2, -1) / (width // heads) ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(WIDTH, MLP), nn.Linear(MLP, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)

    def forward(self, x, mask):
        h = self.norm1(x)
        x = x + self.o(attend(self.q(h), self.k(h), self.v(h), HEADS, mask))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))


class Tokenizer(nn.Module):
    def __init__(self, tokens, group):
        super().__init__()
        self.tokens, self.group = tokens, group
        self.embed, self.place = nn.Linear(3 * PATCH * PATCH, WIDTH), nn.Parameter(0.02 * torch.randn(PATCHES, WIDTH))
        self.latent = nn.Parameter(0.02 * torch.randn(tokens, WIDTH))
        self.refined = nn.Parameter(0.02 * torch.randn(tokens, WIDTH))
        self.encoder = nn.ModuleList(Block() for _ in range(LAYERS))
        self.decoder = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm_e, self.norm_d = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.quant, self.post, self.refine = nn.Linear(WIDTH, DIM), nn.Linear(DIM, WIDTH), nn.Linear(DIM, WIDTH)
        self.codebook = nn.Parameter(F.normalize(torch.rand(CODES, DIM) - 0.5, dim=-1))
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, WIDTH))
        self.to_pixel = nn.Linear(WIDTH, 3 * PATCH * PATCH)
        length = PATCHES + tokens
        row, column = torch.arange(length)[:, None], torch.arange(length)[None]
        i, j = row - PATCHES, column - PATCHES
        latents = (j <= i) | ((i >= group) & (j // group <= i // group))
        self.mask = torch.where(row < PATCHES, column < PATCHES, (column < PATCHES) | latents)

    def encode(self, patches, latents):
        x = torch.cat([patches, latents], 1)
        for block in self.encoder:
            x = block(x, self.mask)
        return self.quant(self.norm_e(x[:, PATCHES:]))

    def quantise(self, z):
        z, book = F.normalize(z, dim=-1), F.normalize(self.codebook, dim=-1)
        distance = 2 - 2 * z.reshape(-1, DIM) @ book.t()
        codes = distance.argmin(-1).view(z.shape[:-1])
        q = book[codes]
        losses = (z.detach() - q).pow(2).mean() + 0.25 * (z - q.detach()).pow(2).mean()
        return z + (q - z).detach(), losses, distance

    def decode(self, q):
        x = torch.cat([(self.mask_token + self.place).expand(len(q), -1, -1), self.post(q)], 1)
        for block in self.decoder:
            x = block(x, None)
        return self.to_pixel(self.norm_d(x[:, :PATCHES]))

    def loss(self, images, correct):
        b, side = len(images), SIZE // PATCH
        target = images.view(b, 3, side, PATCH, side, PATCH).permute(0, 2, 4, 3, 5, 1).reshape(b, PATCHES, -1)
        patches = self.embed(target) + self.place
        q, losses, distance = self.quantise(self.encode(patches, self.latent.expand(b, -1, -1)))
        if not correct:
            return (self.decode(q) - target).pow(2).mean() + losses
        first = self.group * int(torch.randint(0, self.tokens // self.group - 1, ()))
        end = first + self.group
        near = distance.topk(50, largest=False).indices.gather(-1, torch.randint(0, 50, (len(distance), 1)))
        wrong = F.normalize(self.codebook, dim=-1)[near.view(b, self.tokens)]
        prefix = torch.cat([q[:, :first], wrong[:, first:end]], 1).detach()
        latents = torch.cat([self.refine(prefix), self.refined[end:].expand(b, -1, -1)], 1)
        q2, losses2, _ = self.quantise(self.encode(patches, latents))
        both = self.decode(torch.cat([q, torch.cat([prefix, q2[:, end:]], 1)]))
        return (both - target.repeat(2, 1, 1)).pow(2).mean() + losses + losses2


class ArBlock(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.wqkv, self.wo = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.w1, self.w3 = nn.Linear(dim, hidden, bias=False), nn.Linear(dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, dim, bias=False)
        self.norm1, self.norm2 = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.ones(dim))

    def forward(self, x, rotation, mask, heads):
        q, k, v = self.wqkv(rms(x, self.norm1)).chunk(3, -1)
        x = x + self.wo(attend(rotate(q, rotation, heads), rotate(k, rotation, heads), v, heads, mask))
        h = rms(x, self.norm2)
        return x + self.w2(F.silu(self.w1(h)) * self.w3(h))


def rms(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight


def rotate(x, rotation, heads):
    batch, length, width = x.shape
    pairs = x.view(batch, length, heads, width // heads // 2, 2)
    cos, sin = (table[None, :, None] for table in rotation)
    even, odd = pairs.unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).view(batch, length, width)


class TokenModel(nn.Module):
    def __init__(self, tokens=64, group=8, dim=192, layers=4, heads=6, hidden=512):
        super().__init__()
        self.heads, self.tokens, self.group = heads, tokens, group
        self.embedding, self.classes = nn.Embedding(CODES, dim), nn.Embedding(11, dim)
        self.special = nn.Parameter(torch.randn(group - 1, dim))
        self.layers = nn.ModuleList(ArBlock(dim, hidden) for _ in range(layers))
        self.output, self.norm = nn.Linear(dim, CODES, bias=False), nn.Parameter(torch.ones(dim))
        angles = torch.rand(tokens, dim // heads // 2)
        self.rotation = (angles.cos(), angles.sin())
        row, column = torch.arange(tokens)[:, None], torch.arange(tokens)[None]
        self.mask = (column <= row) | ((row >= group) & (column // group <= row // group))

    def loss(self, codes, labels):
        known = self.embedding(codes[:, : self.tokens - self.group])
        special = self.special.expand(len(codes), -1, -1)
        x = torch.cat([self.classes(labels)[:, None], known[:, : self.group], special, known[:, self.group :]], 1)
        for layer in self.layers:
            x = layer(x, self.rotation, self.mask, self.heads)
        return F.cross_entropy(self.output(rms(x, self.norm)).view(-1, CODES), codes.view(-1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    def measure(name, model, optimiser, batch, loss):
        def step():
            optimiser.zero_grad()
            loss().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()

        step(), step()
        rates = []
        for _ in range(options.rounds):
            started, steps = time.perf_counter(), 0
            while time.perf_counter() - started < options.seconds:
                step()
                steps += 1
            rates.append(steps * batch / (time.perf_counter() - started))
        shown = ", ".join(f"{rate:.0f}" for rate in rates)
        print(f"PyTorch {torch.__version__}, {name}: {statistics.median(rates):.0f} images/s (rounds {shown})")

    for name, tokens, group, batch, share in (
        ("tokenizer as PyTorch trained it", 32, 4, 64, 0.35),
        ("tokenizer tiny-32", 64, 8, 32, 0.3),
    ):
        model = Tokenizer(tokens, group)
        images = 2 * torch.rand(batch, 3, SIZE, SIZE) - 1
        adam = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.95))
        measure(name, model, adam, batch, lambda: model.loss(images, bool(torch.rand(()) < share)))

    model = TokenModel()
    codes, labels = torch.randint(0, CODES, (64, 64)), torch.randint(0, 10, (64,))
    adam = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05)
    measure("AR model tiny-32", model, adam, 64, lambda: model.loss(codes, labels))


main()
