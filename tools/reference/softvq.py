"""Latents and pixels of tokenizers that the golden values do not cover, from docs/family/softvq.md, in PyTorch and float64.

    /usr/bin/python3 -B tools/reference/softvq.py     writes tests/fixtures/softvq.json

Weights and images come from a formula (numbers_by_formula.py), so only what is expected is stored. Needs numpy and torch
(`apt-get install python3-torch`).
"""
import json
import math
import os

import numpy as np
import torch
import torch.nn.functional as F
from numbers_by_formula import numbers

BATCH = 2
NAMES = {0: "vit_base_patch14_dinov2.lvd142m", 4: "vit_base_patch14_reg4_dinov2.lvd142m"}
GIANTS = {0: "vit_giant_patch14_dinov2.lvd142m", 4: "vit_giant_patch14_reg4_dinov2.lvd142m"}


def tower(width, heads, depth, registers=0, giant=False, hidden=None):
    return dict(width=width, heads=heads, depth=depth, registers=registers, giant=giant, hidden=hidden or 4 * width)


CASES = {
    "registers": dict(kind="soft", image=16, patches=(8, 4), tokens=6, dim=5, nc=1, codes=11, tau=0.1, l2=True,
                      encoder=tower(24, 3, 2, 4), decoder=tower(16, 2, 3, 4)),
    "giant": dict(kind="soft", image=24, patches=(6, 8), tokens=8, dim=4, nc=2, codes=7, tau=0.7, l2=False,
                  encoder=tower(18, 3, 2, 0, True, 28), decoder=tower(20, 2, 1), bare_decoder=True, mean=0.25, std=0.5),
    "rotary-registers": dict(kind="ae", image=24, patches=(4, 6), tokens=5, dim=3, rope=True, cls=False,
                             encoder=tower(24, 3, 2, 4), decoder=tower(16, 2, 2, 4, True, 20)),
    "rotary-soft": dict(kind="soft", image=12, patches=(4, 4), tokens=9, dim=6, nc=3, codes=5, tau=0.3, l2=True, rope=True,
                        encoder=tower(16, 2, 2), decoder=tower(24, 2, 2)),
    "registers-without-class": dict(kind="vq", image=16, patches=(4, 8), tokens=7, dim=4, codes=13, l2=False, cls=False,
                                    encoder=tower(16, 4, 1), decoder=tower(12, 2, 2, 4)),
    "kl-giant": dict(kind="kl", image=20, patches=(10, 5), tokens=3, dim=4, wide=True,
                     encoder=tower(16, 2, 1), decoder=tower(18, 3, 2, 0, True, 24)),
    "four-codebooks": dict(kind="soft", image=18, patches=(9, 6), tokens=16, dim=4, nc=4, codes=6, tau=0.07, l2=True,
                           entropy=0.02, encoder=tower(12, 1, 1), decoder=tower(12, 3, 1)),
}


def shapes_of(case):
    """The state dict as the official program would write it: names and shapes."""
    out = {}
    tokens, dim = case["tokens"], case["dim"]
    for side, patch in zip(("encoder", "decoder"), case["patches"]):
        t = case[side]
        e, count = t["width"], (case["image"] // patch) ** 2
        if side == "encoder":
            out["encoder.latent_tokens"] = [1, tokens, e]
        else:
            out["decoder.mask_token"] = [1, 1, e]
        out[f"{side}.latent_pos_embed"] = [1, tokens, e]
        if case.get("rope"):
            out[f"{side}.freqs"] = [2, t["depth"], e // 2]
            out[f"{side}.freqs_t_x"] = out[f"{side}.freqs_t_y"] = [count]
        m = f"{side}.model."
        has_class = side == "encoder" or case.get("cls", True)
        if has_class:
            out[m + "cls_token"] = [1, 1, e]
        if t["registers"]:
            out[m + "reg_token"] = [1, t["registers"], e]
        out[m + "pos_embed"] = [1, count if t["registers"] else count + 1, e]
        if not (side == "decoder" and case.get("bare_decoder")):
            out[m + "patch_embed.proj.weight"] = [e, 3, patch, patch]
            out[m + "patch_embed.proj.bias"] = [e]
        for i in range(t["depth"]):
            b = f"{m}blocks.{i}."
            for norm in ("norm1", "norm2"):
                out[f"{b}{norm}.weight"] = out[f"{b}{norm}.bias"] = [e]
            linear(out, b + "attn.qkv", 3 * e, e)
            linear(out, b + "attn.proj", e, e)
            linear(out, b + "mlp.fc1", t["hidden"] * (2 if t["giant"] else 1), e)
            linear(out, b + "mlp.fc2", e, t["hidden"])
            out[b + "ls1.gamma"] = out[b + "ls2.gamma"] = [e]
        out[m + "norm.weight"] = out[m + "norm.bias"] = [e]
    linear(out, "quant_conv", 2 * dim if case["kind"] == "kl" else dim, case["encoder"]["width"])
    linear(out, "post_quant_conv", case["decoder"]["width"], dim)
    linear(out, "decoder.to_pixel.model", 3 * case["patches"][1] ** 2, case["decoder"]["width"])
    if case["kind"] == "soft":
        out["quantize.embedding"] = [case["nc"], case["codes"], dim]
        out["quantize.codebook_used"] = [case["nc"], 32]
    if case["kind"] == "vq":
        out["quantize.embedding.weight"] = [case["codes"], dim]
        out["quantize.codebook_used"] = [32]
    return out


def linear(out, name, rows, columns):
    out[name + ".weight"], out[name + ".bias"] = [rows, columns], [rows]


def weight(name, shape, wide=False):
    x = numbers(name, *shape)
    if name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
        return 1 + 0.3 * x
    if wide and name == "quant_conv.bias":
        return 40 * x
    if len(shape) == 1:
        return 0.1 * x
    if name.endswith(("_token", "_tokens", "_embed", "freqs")) or name.startswith("quantize"):
        return x
    return x * math.sqrt(6 / np.prod(shape[1:]))


def run_vit(w, m, t, x, rotation=None):
    def ln(name, y):
        return F.layer_norm(y, y.shape[-1:], w[name + ".weight"], w[name + ".bias"], 1e-6)

    def fc(name, y):
        return F.linear(y, w[name + ".weight"], w[name + ".bias"])

    b, length, e = x.shape
    heads = t["heads"]
    for i in range(t["depth"]):
        k = f"{m}blocks.{i}."
        q_k_v = fc(k + "attn.qkv", ln(k + "norm1", x)).reshape(b, length, 3, heads, e // heads).permute(2, 0, 3, 1, 4)
        q, key, v = q_k_v[0], q_k_v[1], q_k_v[2]
        if rotation is not None:
            q, key = rotation(i, q), rotation(i, key)
        scores = (q * (e // heads) ** -0.5) @ key.transpose(-1, -2)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, length, e)
        x = x + w[k + "ls1.gamma"] * fc(k + "attn.proj", mixed)
        y = fc(k + "mlp.fc1", ln(k + "norm2", x))
        if t["giant"]:
            gate, up = y.chunk(2, -1)
            y = F.silu(gate) * up
        else:
            y = F.gelu(y)
        x = x + w[k + "ls2.gamma"] * fc(k + "mlp.fc2", y)
    return ln(m + "norm", x)


def rotator(freqs, t, start, side):
    """Complex rotation of the patches only, head by head."""
    j = torch.arange(side * side, dtype=torch.float64)
    column, row = j % side, torch.div(j, side, rounding_mode="floor")

    def turn(layer, x):
        b, heads, _, width = x.shape
        f = freqs[:, layer].reshape(2, heads, width // 2)
        angle = column[None, :, None] * f[0][:, None] + row[None, :, None] * f[1][:, None]
        inner = x[:, :, start:start + side * side].contiguous()
        pairs = torch.view_as_complex(inner.reshape(*inner.shape[:-1], width // 2, 2))
        turned = torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).reshape(inner.shape)
        return torch.cat([x[:, :, :start], turned, x[:, :, start + side * side:]], 2)

    return turn


def embed(w, m, t, patches, table=True):
    b = patches.shape[0]
    prefix = [w[m + name].expand(b, -1, -1) for name in ("cls_token", "reg_token") if m + name in w]
    if table and t["registers"]:
        patches = patches + w[m + "pos_embed"]
    x = torch.cat(prefix + [patches], 1)
    return x + w[m + "pos_embed"] if table and not t["registers"] else x


def encode(w, case, images):
    t, patch = case["encoder"], case["patches"][0]
    m = "encoder.model."
    grid = F.conv2d(images, w[m + "patch_embed.proj.weight"], w[m + "patch_embed.proj.bias"], stride=patch)
    x = embed(w, m, t, grid.flatten(2).transpose(1, 2))
    prefix = x.shape[1] - grid.shape[2] * grid.shape[3]
    latents = (w["encoder.latent_tokens"] + w["encoder.latent_pos_embed"]).expand(images.shape[0], -1, -1)
    turn = rotator(w["encoder.freqs"], t, prefix, grid.shape[3]) if case.get("rope") else None
    x = run_vit(w, m, t, torch.cat([x, latents], 1), turn)[:, -case["tokens"]:]
    return F.linear(x, w["quant_conv.weight"], w["quant_conv.bias"])


def decode(w, case, z):
    t, patch = case["decoder"], case["patches"][1]
    side = case["image"] // patch
    z = F.linear(z, w["post_quant_conv.weight"], w["post_quant_conv.bias"]) + w["decoder.latent_pos_embed"]
    x = embed(w, "decoder.model.", t, w["decoder.mask_token"].expand(z.shape[0], side * side, -1), not case.get("rope"))
    prefix = x.shape[1] - side * side
    turn = rotator(w["decoder.freqs"], t, prefix, side) if case.get("rope") else None
    x = run_vit(w, "decoder.model.", t, torch.cat([x, z], 1), turn)[:, prefix:prefix + side * side]
    x = F.linear(x, w["decoder.to_pixel.model.weight"], w["decoder.to_pixel.model.bias"])
    x = x.reshape(-1, side, side, patch, patch, 3)
    return torch.einsum("bhwpqc->bchpwq", x).reshape(-1, 3, side * patch, side * patch)


def quantise(w, case, h, out):
    unit = (lambda x: F.normalize(x, dim=-1, eps=1e-12)) if case.get("l2") else (lambda x: x)
    if case["kind"] == "ae":
        return h
    if case["kind"] == "kl":
        mean, spread = h.chunk(2, -1)
        noise = torch.tensor(numbers("noise", *mean.shape))
        sample = mean + torch.exp(0.5 * spread.clamp(-30, 20)) * noise
        out["sample"] = flat(sample)
        return mean
    if case["kind"] == "vq":
        codes = unit(w["quantize.embedding.weight"])
        distance = ((unit(h)[:, :, None] - codes) ** 2).sum(-1)
        two = distance.topk(2, -1, largest=False).values
        assert (two[..., 1] - two[..., 0]).min() > 1e-3, "codes too close"
        out["codes"] = distance.argmin(-1).flatten().tolist()
        return codes[distance.argmin(-1)]
    runs, pooled = [], []
    length = case["tokens"] // case["nc"]
    for c in range(case["nc"]):
        codes = unit(w["quantize.embedding"][c])
        logits = unit(h[:, c * length:(c + 1) * length]) @ codes.T
        runs.append((logits / case["tau"]).softmax(-1) @ codes)
        pooled.append(logits.reshape(-1, case["codes"]))
    if "entropy" in case:
        p = (torch.cat(pooled) / 0.01).softmax(-1)
        mean = p.mean(0)
        sure = torch.special.entr(p).sum(-1).mean()
        out["entropy"] = float(case["entropy"] * (sure + (mean * torch.log(mean + 1e-6)).sum()))
    return torch.cat(runs, 1)


def flat(x):
    return [float(f"{v:.7g}") for v in x.flatten().tolist()]


def arguments(case):
    args = {
        "image_size": case["image"],
        "base_image_size": case["image"],
        "enc_patch_size": case["patches"][0],
        "dec_patch_size": case["patches"][1],
        "num_latent_tokens": case["tokens"],
        "codebook_embed_dim": case["dim"],
        "num_codebooks": case.get("nc", 4),
        "codebook_size": case.get("codes", 99),
        "codebook_l2_norm": case.get("l2", True),
        "tau": case.get("tau", 0.07),
        "vq_mean": case.get("mean", 0.0),
        "vq_std": case.get("std", 1.0),
        "repa_layer_indices": None,
    }
    for side in ("encoder", "decoder"):
        t = case[side]
        args[f"{side}_model"] = (GIANTS if t["giant"] else NAMES)[t["registers"]]
    if case.get("rope"):
        args.update(use_rope=True, rope_mixed=True)
    if not case.get("cls", True):
        args["dec_cls_token"] = False
    return args


def main():
    torch.set_num_threads(1)
    found = {}
    for name, case in CASES.items():
        shapes = shapes_of(case)
        w = {k: torch.tensor(weight(k, s, case.get("wide"))).float().double() for k, s in shapes.items()}
        images = torch.tensor(numbers(name, BATCH, 3, case["image"], case["image"])).float().double()
        out = {}
        latents = quantise(w, case, encode(w, case, images), out)
        drawn = torch.tensor(numbers("latents", BATCH, case["tokens"], case["dim"])).float().double()
        found[name] = {
            "kind": case["kind"],
            "wide": case.get("wide", False),
            "args": arguments(case),
            "sizes": {
                side: {"embed_dim": t["width"], "num_heads": t["heads"], "depth": t["depth"], "reg_tokens": t["registers"]}
                for side, t in (("encoder", case["encoder"]), ("decoder", case["decoder"]))
            },
            "shapes": shapes,
            "latents": flat(latents),
            "pixels": flat(decode(w, case, drawn * case.get("std", 1.0) + case.get("mean", 0.0))),
            **out,
        }
        if "entropy" in case:
            found[name]["entropyRatio"] = case["entropy"]
    target = os.path.join(os.path.dirname(__file__), "../../tests/fixtures/softvq.json")
    with open(target, "w") as file:
        json.dump(found, file, separators=(",", ":"))
        file.write("\n")


main()
