"""Training steps of tokenizers whose codebook is not normalised, in PyTorch (float64), from docs/method.md sections 3 and 5.

    python3 tools/reference/plain-codebook.py > tests/fixtures/plain-codebook.json

Weights, images and ranks are made by a formula of name and index, which the test repeats. One normalised configuration is among
them: what is checked elsewhere with the official code checks this script, too.
"""
import json

import torch
import torch.nn.functional as F
from numbers_by_formula import numbers as formula

torch.set_default_dtype(torch.float64)
B, GRID, NEAREST = 2, 3, 50
RATIOS = dict(vqRatio=0.7, commitBeta=0.4, entropyRatio=0.3)
CONFIGURATIONS = [
    dict(image=24, patches=(8, 4), tokens=12, group=3, causal=6, enc=(24, 3, 1, 36), dec=(20, 2, 1, 28), codebook=(45, 6),
         causalEncoder=True, causalDecoder=True, normalised=False, noise=(None, 2, 6)),
    dict(image=16, patches=(4, 8), tokens=8, group=2, causal=2, enc=(18, 2, 2, 30), dec=(24, 3, 1, 40), codebook=(70, 3),
         causalEncoder=False, causalDecoder=False, normalised=False, noise=(None, 4)),
    dict(image=16, patches=(4, 8), tokens=8, group=2, causal=2, enc=(18, 2, 2, 30), dec=(24, 3, 1, 40), codebook=(70, 3),
         causalEncoder=True, causalDecoder=False, normalised=True, noise=(1,)),
]  # fmt: skip


def numbers(name, *shape):
    return torch.from_numpy(formula(name, *shape).astype("float32")).double()


class Weights(dict):
    """Made when first asked for."""

    def of(self, name, *shape):
        if name not in self:
            x = numbers(name, *shape)
            if name.endswith(("norm1.weight", "norm2.weight", "layernorm.weight")):
                x = 1 + 0.2 * x
            elif name.endswith("bias"):
                x = 0.1 * x
            elif name == "quantize.embedding.weight":
                x = 1.5 * x
            elif len(shape) == 3 or "position_embedding" in name:
                x = 0.7 * x
            else:
                x = x * (6 / shape[1]) ** 0.5
            self[name] = x.float().double().requires_grad_()
        return self[name]


class Tokenizer:
    def __init__(self, c):
        self.c, self.w = c, Weights()

    def linear(self, x, name, out):
        return F.linear(x, self.w.of(name + ".weight", out, x.shape[-1]), self.w.of(name + ".bias", out))

    def norm(self, x, name):
        width = x.shape[-1:]
        return F.layer_norm(x, width, self.w.of(name + ".weight", *width), self.w.of(name + ".bias", *width), 1e-6)

    def tower(self, x, name, sizes, visible):
        width, heads, layers, mlp = sizes
        split = lambda y: y.unflatten(-1, (heads, width // heads)).transpose(1, 2)
        for i in range(layers):
            block = f"{name}.encoder.layers.{i}"
            y = self.norm(x, block + ".layer_norm1")
            q, k, v = (split(self.linear(y, f"{block}.self_attn.{a}_proj", width)) for a in "qkv")
            scores = q @ k.transpose(-1, -2) / (width // heads) ** 0.5
            if visible is not None:
                scores = scores.masked_fill(~visible, float("-inf"))
            mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
            x = x + self.linear(mixed, block + ".self_attn.out_proj", width)
            y = self.norm(x, block + ".layer_norm2")
            x = x + self.linear(F.gelu(self.linear(y, block + ".mlp.fc1", mlp), approximate="tanh"), block + ".mlp.fc2", width)
        return self.norm(x, name + ".post_layernorm")

    def positions(self, name, width, side):
        table = self.w.of(f"{name}.embeddings.position_embedding.weight", GRID**2, width)
        grid = table.reshape(1, GRID, GRID, width).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, (side, side), mode="bilinear", align_corners=False, antialias=True)
        return grid.permute(0, 2, 3, 1).reshape(1, side * side, width)

    def mask(self, patches, patches_see, latents_see):
        n, g, c = (self.c[k] for k in ("tokens", "group", "causal"))
        i, j = torch.arange(n)[:, None], torch.arange(n)[None]
        out = torch.ones(patches + n, patches + n, dtype=torch.bool)
        out[:patches, patches:], out[patches:, :patches] = patches_see, latents_see
        out[patches:, patches:] = torch.where(i < c, j <= i, j // g <= i // g)
        return out

    def encode(self, images, latents):
        c, name = self.c, "encoder.visual_model"
        p, n = c["patches"][0], c["tokens"]
        width, side = c["enc"][0], c["image"] // p
        x = images.reshape(B, 3, side, p, side, p).permute(0, 2, 4, 3, 5, 1).reshape(B, side * side, 3 * p * p)
        x = self.linear(x, name + ".embeddings.patch_embedding", width) + self.positions(name, width, side)
        latents = latents + self.w.of("encoder.latent_pos_embed", 1, n, width)
        x = torch.cat([x, latents.expand(B, n, width)], 1)
        visible = self.mask(side * side, False, True) if c["causalEncoder"] else None
        return self.linear(self.tower(x, name, c["enc"], visible)[:, side * side :], "quant_conv", c["codebook"][1])

    def decode(self, quantised):
        c, name = self.c, "decoder.visual_model"
        p, n, rows = c["patches"][1], c["tokens"], len(quantised)
        width, side = c["dec"][0], c["image"] // p
        z = self.linear(quantised, "post_quant_conv", width) + self.w.of("decoder.latent_pos_embed", 1, n, width)
        x = self.w.of("decoder.mask_token", 1, 1, width) + self.positions(name, width, side)
        x = torch.cat([x.expand(rows, side * side, width), z], 1)
        visible = self.mask(side * side, True, False) if c["causalDecoder"] else None
        x = self.linear(self.tower(x, name, c["dec"], visible)[:, : side * side], "decoder.to_pixel.model", 3 * p * p)
        return x.reshape(rows, side, side, p, p, 3).permute(0, 5, 1, 3, 2, 4).reshape(rows, 3, side * p, side * p)

    def as_compared(self, x):
        return F.normalize(x, dim=-1, eps=1e-12) if self.c["normalised"] else x

    def quantise(self, h, counted):
        """Codes by nearness, quantised vectors, and vq, commit and entropy; `counted` says which tokens the first two are of."""
        z, codebook = self.as_compared(h), self.as_compared(self.w.of("quantize.embedding.weight", *self.c["codebook"]))
        d = ((z[..., None, :] - codebook) ** 2).sum(-1)
        order = d.argsort(-1)
        e = codebook[order[..., 0]]
        p = (-d / 0.01).softmax(-1).flatten(0, 1)
        sure = -(p * (-d / 0.01).log_softmax(-1).flatten(0, 1)).sum(-1).mean()
        mean = p.mean(0)
        entropy = sure + (mean * (mean + 1e-5).log()).sum()
        vq = F.mse_loss(z.detach()[:, counted], e[:, counted])
        commit = F.mse_loss(z[:, counted], e.detach()[:, counted])
        losses = torch.stack([RATIOS["vqRatio"] * vq, RATIOS["commitBeta"] * commit, RATIOS["entropyRatio"] * entropy])
        return order, z + (e - z).detach(), losses, codebook


def gap(order, h, model):
    z, codebook = model.as_compared(h), model.as_compared(model.w["quantize.embedding.weight"])
    d = ((z[..., None, :] - codebook) ** 2).sum(-1).sort(-1).values
    return float((d[..., 1] - d[..., 0]).min())


def run(c, noise):
    model, n = Tokenizer(c), c["tokens"]
    images = numbers("plain/images", B, 3, c["image"], c["image"])
    width = c["enc"][0]
    h = model.encode(images, model.w.of("encoder.latent_tokens", 1, n, width))
    everything = slice(0, n)
    order, first, losses, codebook = model.quantise(h, everything)
    codes, fresh, least = order[..., 0], None, gap(order, h, model)
    if noise is None:
        pixels, target = model.decode(first), images
    else:
        end = noise + (1 if noise < c["causal"] else c["group"])
        ranks = ((numbers("plain/ranks", B, n) + 1) / 2 * min(NEAREST, c["codebook"][0])).long()
        noisy = order.gather(-1, ranks[..., None])[..., 0]
        prefix = torch.cat([codes[:, :noise], noisy[:, noise:end]], 1)
        given = codebook[prefix].detach()
        refined = model.w.of("encoder.refined_tokens", 1, n, width)[:, end:].expand(B, n - end, width)
        h2 = model.encode(images, torch.cat([model.linear(given, "refine_conv", width), refined], 1))
        order2, second, losses2, _ = model.quantise(h2, slice(end, n))
        fresh, least = order2[..., 0], min(least, gap(order2, h2, model))
        losses = (n * losses + (n - end) * losses2) / (2 * n - end)
        pixels = model.decode(torch.cat([first, torch.cat([given, second[:, end:]], 1)]))
        target = torch.cat([images, images])
    mse = F.mse_loss(pixels, target)
    total = mse + losses.sum()
    total.backward()
    gradient = {
        name: dict(norm=float(v.grad.norm()), first=v.grad.flatten()[:3].tolist(), last=v.grad.flatten()[-3:].tolist())
        for name, v in model.w.items()
        if v.grad is not None
    }
    vq, commit, entropy = losses.tolist()
    return dict(
        **dict(noise=noise, gap=least, loss=float(total), reconstruction=float(mse), vq=vq, commit=commit, entropy=entropy),
        **dict(codes=codes.flatten().tolist(), fresh=None if fresh is None else fresh.flatten().tolist()),
        gradient=gradient,
    )


print(json.dumps([dict(config=c, quantiser=RATIOS, runs=[run(c, k) for k in c["noise"]]) for c in CONFIGURATIONS]))
