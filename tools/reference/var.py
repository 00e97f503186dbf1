"""VAR and FlexVAR at configurations that the golden values do not cover, from docs/family/var.md, in PyTorch and float64.

    /usr/bin/python3 -B tools/reference/var.py     writes tests/fixtures/var-odd.json

Weights, images and noise come from a formula (numbers_by_formula.py), so only what is expected is stored: codes as they are, of floats
a few and two sums. A salt before the names of a case is tried in order until every code and every draw is well apart.
Needs numpy and torch (`apt-get install python3-torch`).
"""
import json
import math
import os

import numpy as np
import torch
import torch.nn.functional as F
from numbers_by_formula import numbers

FACTORS = {"head.weight": 3, "word_embed.weight": 6}


class Close(Exception):
    """A decision that float32 could take otherwise."""


def pair(p):
    return (p, p) if isinstance(p, int) else tuple(p)


def places(scales):
    return [h * w for h, w in map(pair, scales)]


# Resizing, as matrices.

def area_matrix(m, n):
    a = np.zeros((n, m))
    for i in range(n):
        start, stop = i * m // n, -(-(i + 1) * m // n)
        a[i, start:stop] = 1 / (stop - start)
    return a


def cubic(d, a=-0.75):
    d = abs(d)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def bicubic_matrix(m, n):
    a = np.zeros((n, m))
    for i in range(n):
        at = (i + 0.5) * m / n - 0.5
        low = math.floor(at)
        for j in range(low - 1, low + 3):
            a[i, min(max(j, 0), m - 1)] += cubic(at - j)
    return a


def bilinear_matrix(m, n):
    a = np.zeros((n, m))
    for i in range(n):
        at = max((i + 0.5) * m / n - 0.5, 0)
        low = min(math.floor(at), m - 1)
        a[i, low] += 1 - (at - low)
        a[i, min(low + 1, m - 1)] += at - low
    return a


def resize(x, size, matrix):
    (h, w), (rows, columns) = x.shape[-2:], pair(size)
    if (h, w) == (rows, columns):
        return x
    down, across = torch.tensor(matrix(h, rows)), torch.tensor(matrix(w, columns))
    return down @ x @ across.T


def area(x, size):
    return resize(x, size, area_matrix)


def bicubic(x, size):
    return resize(x, size, bicubic_matrix)


# The tokenizers.

def conv(w, name, x, stride=1, padding=None):
    kernel = w[name + ".weight"]
    return F.conv2d(x, kernel, w[name + ".bias"], stride, kernel.shape[-1] // 2 if padding is None else padding)


def norm(w, name, x):
    return F.group_norm(x, 32, w[name + ".weight"], w[name + ".bias"], 1e-6)


def res_block(w, name, x):
    y = conv(w, name + ".conv1", F.silu(norm(w, name + ".norm1", x)))
    y = conv(w, name + ".conv2", F.silu(norm(w, name + ".norm2", y)))
    return (conv(w, name + ".nin_shortcut", x) if name + ".nin_shortcut.weight" in w else x) + y


def attn_block(w, name, x):
    h = norm(w, name + ".norm", x)
    if name + ".qkv.weight" in w:
        q, k, v = conv(w, name + ".qkv", h).flatten(2).chunk(3, 1)
    else:
        q, k, v = (conv(w, f"{name}.{one}", h).flatten(2) for one in "qkv")
    scores = (q.transpose(1, 2) @ k) * x.shape[1] ** -0.5
    mixed = (v @ scores.softmax(-1).transpose(1, 2)).reshape(x.shape)
    return x + conv(w, name + ".proj_out", mixed)


def level_names(side, flex, i, levels):
    """Residual block j, attention j and the convolution that changes the size, of level i (0 is the finest)."""
    if flex:
        at = f"{side}.conv_blocks.{i if side == 'encoder' else levels - 1 - i}"
        block, attn = f"{at}.res", f"{at}.attn"
    else:
        at = f"{side}.{'down' if side == 'encoder' else 'up'}.{i}"
        block, attn = f"{at}.block", f"{at}.attn"
    return block, attn, f"{at}.{'downsample' if side == 'encoder' else 'upsample'}.conv"


def middle(side, flex):
    return [f"{side}.mid.{one}" for one in (("0", "1", "2") if flex else ("block_1", "attn_1", "block_2"))]


def run_middle(w, side, flex, x):
    first, attn, second = middle(side, flex)
    return res_block(w, second, attn_block(w, attn, res_block(w, first, x)))


def run_encoder(w, case, x):
    flex, mult = case["flex"], case["mult"][0]
    x = conv(w, "encoder.conv_in", x)
    for i in range(len(mult)):
        block, attn, down = level_names("encoder", flex, i, len(mult))
        for j in range(case["blocks"]):
            x = res_block(w, f"{block}.{j}", x)
            if i == len(mult) - 1:
                x = attn_block(w, f"{attn}.{j}", x)
        if i < len(mult) - 1:
            x = conv(w, down, F.pad(x, (0, 1, 0, 1)), 2, 0)
    x = run_middle(w, "encoder", flex, x)
    x = conv(w, "encoder.conv_out", F.silu(norm(w, "encoder.norm_out", x)))
    return conv(w, "quant_conv", x)


def run_decoder(w, case, x):
    flex, mult = case["flex"], case["mult"][1]
    x = run_middle(w, "decoder", flex, conv(w, "decoder.conv_in", conv(w, "post_quant_conv", x)))
    for i in reversed(range(len(mult))):
        block, attn, up = level_names("decoder", flex, i, len(mult))
        for j in range(case["blocks"] + 1):
            x = res_block(w, f"{block}.{j}", x)
            if i == len(mult) - 1:
                x = attn_block(w, f"{attn}.{j}", x)
        if i:
            x = conv(w, up, x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    return conv(w, "decoder.conv_out", F.silu(norm(w, "decoder.norm_out", x)))


def phi_index(count, k, scales):
    start = 1 / (3 * count) if count == 4 else 1 / (2 * count)
    stop = 1 - start
    step = (stop - start) / (count - 1) if count > 1 else 0
    ticks = [start + j * step for j in range(count)]
    if count > 1:
        ticks[-1] = stop
    far = [abs(tick - k / (scales - 1)) for tick in ticks]
    return far.index(min(far))


def phi_names(case):
    """Names of the convolutions of the file; none where phi is the identity."""
    if abs(case["resi"]) < 1e-6:
        return []
    if case["share"] == 0:
        return [f"quantize.quant_resi.{j}" for j in range(len(case["scales"]))]
    if case["share"] == 1:
        return ["quantize.quant_resi.qresi"]
    return [f"quantize.quant_resi.qresi_ls.{j}" for j in range(case["share"])]


def phi(w, case, k, scales, h):
    names, r = phi_names(case), abs(case["resi"])
    if not names:
        return h
    at = 0 if case["share"] == 1 else phi_index(case["share"] or len(names), k, scales)
    return (1 - r) * h + r * conv(w, names[at], h)


def map_of(w, codes, size, flex):
    rows = w["quantize.embedding.weight"]
    if flex:
        rows = F.normalize(rows, dim=-1, eps=1e-12)
    b = codes.shape[0]
    return rows[codes].transpose(1, 2).reshape(b, -1, *pair(size))


def nearest(w, case, z):
    """[B, n] of a map, with the distance of the second best."""
    z = z.flatten(2).transpose(1, 2)
    rows = w["quantize.embedding.weight"]
    if case.get("znorm"):
        far = -F.normalize(z, dim=-1) @ F.normalize(rows, dim=-1).T
    else:
        if case["flex"]:
            z, rows = F.normalize(z, dim=-1, eps=1e-12), F.normalize(rows, dim=-1, eps=1e-12)
        far = ((z[:, :, None] - rows) ** 2).sum(-1)
    two = far.topk(2, -1, largest=False).values
    if (two[..., 1] - two[..., 0]).min() < 1e-4:
        raise Close("codes")
    return far.argmin(-1)


def encode(w, case, scales, f):
    if case["flex"]:
        return torch.cat([nearest(w, case, area(f, p)) for p in scales], 1)
    rest, codes = f, []
    for k, p in enumerate(scales):
        codes.append(nearest(w, case, area(rest, p)))
        rest = rest - refined(w, case, scales, k, map_of(w, codes[-1], p, False))
    return torch.cat(codes, 1)


def refined(w, case, scales, k, h):
    return phi(w, case, k, len(scales), bicubic(h, scales[-1]))


def split(codes, scales):
    return codes.split(places(scales), 1)


def sums(w, case, scales, codes):
    """F after every scale."""
    total, out = 0, []
    for k, (p, part) in enumerate(zip(scales, split(codes, scales))):
        total = total + refined(w, case, scales, k, map_of(w, part, p, False))
        out.append(total)
    return out


def teacher_input(w, case, scales, codes):
    if case["flex"]:
        maps = [map_of(w, part, p, True) for p, part in zip(scales, split(codes, scales))]
        nexts = [bicubic(one, p) for one, p in zip(maps, scales[1:])]
    else:
        nexts = [area(one, p) for one, p in zip(sums(w, case, scales, codes), scales[1:])]
    return torch.cat([one.flatten(2).transpose(1, 2) for one in nexts], 1)


def pictures(w, case, x):
    x = run_decoder(w, case, x)
    return x if case["flex"] else x.clamp(-1, 1)


# The transformer.

def linear(w, name, x):
    return F.linear(x, w[name + ".weight"], w.get(name + ".bias"))


def plain_norm(x):
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def tokens_in(w, case, scales, labels, maps):
    """One [B, n, C] for every scale, of what is fed (maps are those of scales 1...)."""
    c, out = w["class_emb.weight"][labels], []
    starts = np.cumsum([0] + places(scales))
    for k, p in enumerate(scales):
        n = places(scales)[k]
        if k == 0:
            x = c[:, None].expand(-1, n, -1) + w["pos_start"]
        elif maps[k - 1] is None:
            break
        else:
            x = linear(w, "word_embed", maps[k - 1])
        if case["flex"]:
            x = x + area(w["pos_1LC"], p).flatten(2).transpose(1, 2)
        else:
            x = x + w["lvl_embed.weight"][k] + w["pos_1LC"][:, starts[k]:starts[k + 1]]
        out.append(x)
    return c, out


def attention(w, case, name, x, seen):
    b, n, width = x.shape
    heads = case["heads"]
    bias = torch.cat([w[name + ".q_bias"], torch.zeros(width, dtype=x.dtype), w[name + ".v_bias"]])
    q, k, v = F.linear(x, w[name + ".mat_qkv.weight"], bias).reshape(b, n, 3, heads, -1).permute(2, 0, 3, 1, 4)
    if case["l2"]:
        factor = w[name + ".scale_mul_1H11"].clamp(max=math.log(100)).exp()
        q, k = F.normalize(q, dim=-1, eps=1e-12) * factor, F.normalize(k, dim=-1, eps=1e-12)
    else:
        q = q * 0.25 / math.sqrt(width // heads)
    scores = (q @ k.transpose(-1, -2)).masked_fill(~seen, -math.inf)
    return linear(w, name + ".proj", (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, width))


def six_rows(w, case, i, c):
    if case["shared"]:
        return linear(w, "shared_ada_lin.1", F.silu(c)).reshape(-1, 1, 6, case["width"]) + w[f"blocks.{i}.ada_gss"]
    return linear(w, f"blocks.{i}.ada_lin.1", F.silu(c)).reshape(-1, 1, 6, case["width"])


def forward(w, case, scales, labels, maps):
    """Logits of all places of the scales whose input is known, by the mask: the cache of generation must give the same."""
    c, parts = tokens_in(w, case, scales, labels, maps)
    x = torch.cat(parts, 1)
    level = torch.cat([torch.full((one.shape[1],), k) for k, one in enumerate(parts)])
    seen = level[None, :] <= level[:, None]
    for i in range(case["depth"]):
        gamma1, gamma2, scale1, scale2, shift1, shift2 = six_rows(w, case, i, c).unbind(2)
        x = x + gamma1 * attention(w, case, f"blocks.{i}.attn", plain_norm(x) * (1 + scale1) + shift1, seen)
        y = linear(w, f"blocks.{i}.ffn.fc1", plain_norm(x) * (1 + scale2) + shift2)
        y = 0.5 * y * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
        x = x + gamma2 * linear(w, f"blocks.{i}.ffn.fc2", y)
    s, t = linear(w, "head_nm.ada_lin.1", F.silu(c))[:, None].chunk(2, -1)
    return linear(w, "head", plain_norm(x) * (1 + s) + t)


def loss(logits, codes, smoothing=0.0, scales=None, known=None, newest=1.0):
    """Mean over the batch; each place weighs 1 / (places of the whole list)."""
    logs = logits.log_softmax(-1)
    own = -logs.gather(-1, codes[:, :logs.shape[1], None])[..., 0]
    each = (1 - smoothing) * own + smoothing * -logs.mean(-1)
    weight = torch.full((each.shape[1],), 1 / codes.shape[1], dtype=each.dtype)
    if known is not None:
        weight[-places(scales)[known - 1]:] *= newest
    return (each * weight).sum(-1).mean()


# Generation.

def removed(logits, top_k, top_p):
    if top_k > 0:
        edge = logits.topk(min(top_k, logits.shape[-1]), -1).values[..., -1:]
        logits = logits.masked_fill(logits < edge, -math.inf)
    if 0 < top_p < 1:
        ordered, at = logits.sort(-1)
        gone = ordered.softmax(-1).cumsum(-1) <= 1 - top_p
        gone[..., -1] = False
        logits = logits.masked_fill(torch.zeros_like(gone).scatter(-1, at, gone), -math.inf)
    return logits


def check_filter(logits, top_k, top_p):
    ordered = logits.sort(-1).values
    if 0 < top_k < logits.shape[-1] and (ordered[..., -top_k] - ordered[..., -top_k - 1]).min() < 1e-4:
        raise Close("top-k")
    if 0 < top_p < 1:
        kept = removed(logits, top_k, 0).sort(-1).values.softmax(-1).cumsum(-1)
        if (kept - (1 - top_p)).abs().min() < 1e-6:
            raise Close("top-p")


def flex_rule(case, scales, k, cfg, run):
    """Guidance t and top-k of a FlexVAR scale. The text has squares alone; of others the longer side counts, and any is drawn."""
    p, is_square = max(pair(scales[k])), isinstance(scales[k], int)
    off = p > run.get("max_pn", 16)
    t = cfg if off else cfg * k / min(len(scales) - 1, 9)
    greedy = off or is_square and p not in (1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 23, 24, 32)
    return t, 1 if greedy else run["top_k"]


def generate(w, case, run, labels, noise=None, given=None):
    """Codes as they go on (editing mixes in given ones), and for VAR F after every scale."""
    scales = run.get("scales", case["scales"])
    b = len(labels)
    labels = torch.tensor(list(labels) + [case["classes"]] * b)
    maps, codes, totals, total = [None] * (len(scales) - 1), [], [], 0
    starts = np.cumsum([0] + places(scales))
    for k, p in enumerate(scales):
        found = forward(w, case, scales, labels, maps)[:, starts[k]:starts[k + 1]]
        for one in run.get("invalid", []):
            found[..., one] = -100
        cond, free = found[:b], found[b:]
        if case["flex"]:
            t, top_k = flex_rule(case, scales, k, run["cfg"], run)
        else:
            t, top_k = run["cfg"] * k / (len(scales) - 1), run["top_k"]
        logits = free + run["cfg"] * (cond - free) if run.get("llamagen") else (1 + t) * cond - t * free
        check_filter(logits, top_k, run.get("top_p", 0))
        logits = removed(logits, top_k, run.get("top_p", 0))
        if top_k == 1:
            drawn = logits.argmax(-1)
        else:
            e = noise[:, starts[k]:starts[k + 1]]
            score = logits.log_softmax(-1) - e.log()
            two = score.topk(2, -1).values
            if (two[..., 0] - two[..., 1]).min() < 1e-4:
                raise Close("draws")
            drawn = score.argmax(-1)
        if given is not None:
            keep = torch.tensor(mask_at(run["mask"], scales, p))
            drawn = torch.where(keep, given[:, starts[k]:starts[k + 1]], drawn)
        codes.append(drawn)
        if run.get("smooth"):
            ratio = k / (len(scales) - 1)
            tau = max(0.27 * (1 - 0.95 * ratio), 0.005)
            g = -noise[:, starts[k]:starts[k + 1]].log()
            soft = ((logits * (1 + ratio) + g) / tau).softmax(-1) @ w["quantize.embedding.weight"]
            h = soft.transpose(1, 2).reshape(b, -1, *pair(p))
        else:
            h = map_of(w, drawn, p, case["flex"])
        if case["flex"]:
            following = bicubic(h, scales[k + 1]) if k + 1 < len(scales) else None
        else:
            total = total + refined(w, case, scales, k, h)
            totals.append(total)
            following = area(total, scales[k + 1]) if k + 1 < len(scales) else None
        if following is not None:
            maps[k] = following.flatten(2).transpose(1, 2).repeat(2, 1, 1)
    return torch.cat(codes, 1), totals


def region_mask(mask, size):
    (y0, x0, y1, x1), inpaint = mask["region"], mask["inpaint"]
    h, w = pair(size)
    out = np.zeros((h, w))
    out[round(y0 * h):round(y1 * h), round(x0 * w):round(x1 * w)] = 1
    return 1 - out if inpaint else out


def mask_at(mask, scales, p):
    h, w = pair(p)
    if h * w <= 3:
        return [True] * (h * w)
    own = torch.tensor(region_mask(mask, scales[-1]))
    return (resize(own, p, bilinear_matrix) > 0.5).flatten().tolist()


# Weights.

def add_conv(out, name, rows, columns, kernel):
    out[name + ".weight"], out[name + ".bias"] = [rows, columns, kernel, kernel], [rows]


def add_res(out, name, a, b):
    out[name + ".norm1.weight"] = out[name + ".norm1.bias"] = [a]
    add_conv(out, name + ".conv1", b, a, 3)
    out[name + ".norm2.weight"] = out[name + ".norm2.bias"] = [b]
    add_conv(out, name + ".conv2", b, b, 3)
    if a != b:
        add_conv(out, name + ".nin_shortcut", b, a, 1)


def add_attn(out, name, c, flex):
    out[name + ".norm.weight"] = out[name + ".norm.bias"] = [c]
    if flex:
        for one in "qkv":
            add_conv(out, f"{name}.{one}", c, c, 1)
    else:
        add_conv(out, name + ".qkv", 3 * c, c, 1)
    add_conv(out, name + ".proj_out", c, c, 1)


def tokenizer_shapes(case):
    out, flex, blocks = {}, case["flex"], case["blocks"]
    width, z = case["z"], case.get("map", case["z"])
    mult = case["mult"][0]
    c = case["ch"]
    add_conv(out, "encoder.conv_in", c, 3, 3)
    for i, factor in enumerate(mult):
        block, attn, down = level_names("encoder", flex, i, len(mult))
        for j in range(blocks):
            add_res(out, f"{block}.{j}", c, case["ch"] * factor)
            c = case["ch"] * factor
            if i == len(mult) - 1:
                add_attn(out, f"{attn}.{j}", c, flex)
        if i < len(mult) - 1:
            add_conv(out, down, c, c, 3)
    add_middle(out, "encoder", c, flex)
    add_conv(out, "encoder.conv_out", z, c, 3)
    mult = case["mult"][1]
    c = case["ch"] * mult[-1]
    add_conv(out, "decoder.conv_in", c, z, 3)
    add_middle(out, "decoder", c, flex)
    for i in reversed(range(len(mult))):
        block, attn, up = level_names("decoder", flex, i, len(mult))
        for j in range(blocks + 1):
            add_res(out, f"{block}.{j}", c, case["ch"] * mult[i])
            c = case["ch"] * mult[i]
            if i == len(mult) - 1:
                add_attn(out, f"{attn}.{j}", c, flex)
        if i:
            add_conv(out, up, c, c, 3)
    out["decoder.norm_out.weight"] = out["decoder.norm_out.bias"] = [c]
    add_conv(out, "decoder.conv_out", 3, c, 3)
    if flex:
        out["quantize.codebook_used"] = [64]
    else:
        out["quantize.ema_vocab_hit_SV"] = [len(case["scales"]), case["codes"]]
        for name in phi_names(case):
            add_conv(out, name, width, width, 3)
    out["quantize.embedding.weight"] = [case["codes"], width]
    add_conv(out, "quant_conv", width, z, case.get("ks", 1 if flex else 3))
    add_conv(out, "post_quant_conv", z, width, case.get("ks", 1 if flex else 3))
    return out


def add_middle(out, side, c, flex):
    first, attn, second = middle(side, flex)
    add_res(out, first, c, c)
    add_attn(out, attn, c, flex)
    add_res(out, second, c, c)
    if side == "encoder":
        out["encoder.norm_out.weight"] = out["encoder.norm_out.bias"] = [c]


def transformer_shapes(case):
    out, c, counts = {}, case["width"], places(case["scales"])

    def fc(name, rows, columns):
        out[name + ".weight"], out[name + ".bias"] = [rows, columns], [rows]

    out["pos_start"] = [1, counts[0], c]
    out["pos_1LC"] = [1, c, 32, 32] if case["flex"] else [1, sum(counts), c]
    fc("word_embed", c, case["z"])
    if case["shared"]:
        fc("shared_ada_lin.1", 6 * c, c)
    out["class_emb.weight"] = [case["classes"] + 1, c]
    if not case["flex"]:
        out["lvl_embed.weight"] = [len(counts), c]
    for i in range(case["depth"]):
        b = f"blocks.{i}."
        if case["shared"]:
            out[b + "ada_gss"] = [1, 1, 6, c]
        if case["l2"]:
            out[b + "attn.scale_mul_1H11"] = [1, case["heads"], 1, 1]
        out[b + "attn.q_bias"] = out[b + "attn.v_bias"] = out[b + "attn.zero_k_bias"] = [c]
        out[b + "attn.mat_qkv.weight"] = [3 * c, c]
        fc(b + "attn.proj", c, c)
        fc(b + "ffn.fc1", case["hidden"], c)
        fc(b + "ffn.fc2", c, case["hidden"])
        if not case["shared"]:
            fc(b + "ada_lin.1", 6 * c, c)
    fc("head_nm.ada_lin.1", 2 * c, c)
    fc("head", case["codes"], c)
    return out


def weight(salt, name, shape):
    x = numbers(salt + name, *shape)
    if name.endswith("zero_k_bias"):
        return 0 * x
    if name.endswith("scale_mul_1H11"):
        return math.log(4) + 4 * x
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.3 * x
    if len(shape) == 1:
        return 0.1 * x
    if name.startswith(("quantize.embedding", "quantize.ema")) or name.endswith(("pos_start", "pos_1LC", "ada_gss", "_emb.weight",
                                                                                  "lvl_embed.weight")):
        return x
    factor = 0.5 if "ada_lin" in name else FACTORS.get(name, 1)
    return x * factor * math.sqrt(3 / np.prod(shape[1:]))


def tensor(x):
    return torch.tensor(x).float().double()


# What is stored.

def floats(x):
    """Some of the numbers, the largest magnitude, the norm, and the product with numbers of the formula."""
    flat = x.detach().flatten().numpy()
    n = len(flat)
    some = flat[np.arange(min(n, 24)) * n // min(n, 24)]
    sums = (np.abs(flat).max(), np.linalg.norm(flat), flat @ numbers("sum", n))
    return {"shape": list(x.shape), "some": [rounded(v) for v in some], "sums": [rounded(v) for v in sums]}


def rounded(v):
    return float(f"{v:.7g}")


VAR = dict(flex=False, share=4, resi=0.5, blocks=1, ch=32, cfg=2.0, ask=[1, 4], classes=6)
FLEX = dict(flex=True, blocks=1, ch=32, cfg=2.0, z=32, ask=[1, 4], classes=6)

CASES = {
    "shared": dict(VAR, scales=[1, 2, 3, 5, 6], mult=((1, 2),) * 2, z=5, codes=23, other=[[1, 3, 7]],
                   depth=3, width=18, heads=3, hidden=25, shared=True, l2=True, edit=True),
    "plain": dict(VAR, scales=[2, 3, 5], mult=((1, 2),) * 2, blocks=3, z=4, codes=17, ks=1, share=1, resi=-0.3, other=[[1, 2, 4]],
                  depth=1, width=15, heads=5, hidden=40, shared=False, l2=False, edit=True),
    "each": dict(VAR, scales=[1, 3, 4, 7], mult=((2,),) * 2, z=6, codes=19, share=0, resi=0.8, znorm=True,
                 other=[[1, 2, 3, 4, 5]], depth=2, width=14, heads=7, hidden=14, shared=True, l2=False),
    "identity": dict(VAR, scales=[1, 2], mult=((1, 1, 1, 1),) * 2, blocks=2, z=3, codes=13, share=4, resi=0.0,
                     other=[[1, 3]], depth=2, width=33, heads=1, hidden=50, shared=False, l2=True),
    "three": dict(VAR, scales=[1, 2, 3, 4], mult=((2, 1),) * 2, z=7, codes=29, share=3, resi=0.25, edit=True,
                  other=[[1, 2, 3, 4, 5, 6, 7], [1, [2, 3], [3, 5]]], depth=2, width=21, heads=3, hidden=63, shared=True, l2=True),
    "two": dict(VAR, scales=[1, 2, 3, 4, 5], mult=((1,),) * 2, ch=64, z=1, codes=11, share=2, resi=-1.0, other=[[3, 7]],
                depth=2, width=10, heads=2, hidden=10, shared=False, l2=True),
    "first-of-nine": dict(VAR, scales=[3, 4], mult=((1, 2),) * 2, z=4, codes=16, share=0, resi=0.5, other=[[1, 3]],
                          depth=2, width=12, heads=4, hidden=20, shared=True, l2=True),
    "flex": dict(FLEX, scales=[1, 2, 3, 5], mult=((1, 2), (2, 1)), blocks=2, map=24, codes=19, other=[[1, 3, 4], [2, [2, 3], [4, 6]]],
                 depth=2, width=24, heads=3, hidden=96, shared=False, l2=True,
                 lists=[[1, 2, [3, 34]], [1, [2, 3], [4, 6]]]),
    "flex-plain": dict(FLEX, scales=[1, 3, 4], mult=((1, 1, 1),) * 2, blocks=3, map=8, codes=15, other=[[2, 4]],
                       depth=2, width=20, heads=5, hidden=30, shared=True, l2=False, lists=[[1, [33, 2], [2, 3]]]),
}

FLEX_RUNS = {
    "eleven": dict(labels=[4], scales=[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], cfg=1.5, top_k=7, top_p=0.9, noise=True),
    "largest": dict(scales=[1, 2, 3, 4, 5], cfg=1.5, top_k=7, top_p=0.9, noise=True, max_pn=3),
    "constant": dict(scales=[1, 2, 3, 4], cfg=2.5, top_k=6, llamagen=True, noise=True),
    "invalid": dict(scales=[1, 2, 4, 7], cfg=2.0, top_k=5, invalid=[3, 7], noise=True),
    "one-after": dict(scales=[1, 3, 5], cfg=2.0, top_k=0, top_p=0.8, noise=True),
    "wide": dict(scales=[1, [2, 4], [3, 5]], cfg=2.0, top_k=6, top_p=0.9, noise=True, max_pn=3),
    "falling": dict(scales=[1, 3, 2, 4], cfg=2.0, top_k=6, noise=True),
    "not-square": dict(scales=[1, [2, 3], [3, 5]], cfg=2.0, top_k=6, top_p=0.9, noise=True),
}


def case_values(name, case, salt):
    shapes = {"vae": tokenizer_shapes(case), "var": transformer_shapes(case)}
    w = {key: tensor(weight(salt, key, shape)) for part in shapes.values() for key, shape in part.items()}
    if case["l2"] and case["depth"] > 1:
        assert max(float(v.max()) for k, v in w.items() if k.endswith("1H11")) > math.log(100), "no factor above 100"
    stride = 2 ** (len(case["mult"][0]) - 1)
    out = {"salt": salt, "shapes": shapes, "lists": []}

    for i, scales in enumerate([case["scales"]] + case["other"]):
        h, across = pair(scales[-1])
        images = tensor(numbers(f"{salt}images{i}", 2, 3, h * stride, across * stride))
        f = run_encoder(w, case, images)
        codes = encode(w, case, scales, f)
        one = {"scales": scales, "images": list(images.shape), "latents": floats(f), "codes": codes.tolist(),
               "inputs": floats(teacher_input(w, case, scales, codes))}
        if case["flex"]:
            maps = [map_of(w, part, p, True) for p, part in zip(scales, split(codes, scales))]
        else:
            maps = sums(w, case, scales, codes)
            one["sums"] = [floats(m) for m in maps]
        # A map of one place has one value per group at 32 channels: its picture is rounding only.
        one["pictures"] = [floats(pictures(w, case, m)) if m.shape[-1] > 1 else None for m in maps]
        out["lists"].append(one)

    out["forward"] = []
    labels = torch.tensor([case["ask"][0], case["classes"]])
    for i, scales in enumerate([case["scales"]] + case.get("lists", [])):
        codes = torch.tensor(drawn(f"{salt}codes{i}", 2, sum(places(scales)), case["codes"]))
        maps = list(teacher_input(w, case, scales, codes).split(places(scales)[1:], 1))
        logits = forward(w, case, scales, labels, maps)
        known = max(1, len(scales) - 1)
        part = forward(w, case, scales, labels, maps[:known - 1] + [None])
        out["forward"].append({
            "scales": scales, "logits": floats(logits), "loss": rounded(float(loss(logits, codes))),
            "smoothed": rounded(float(loss(logits, codes, 0.15))),
            "progressive": rounded(float(loss(part, codes, 0.0, scales, known, 0.3))), "known": known,
        })

    out["runs"] = {}
    for run_name, run in (FLEX_RUNS if case["flex"] else var_runs(case)).items():
        if run_name == "eleven" and case["shared"]:
            continue
        scales = run.get("scales", case["scales"])
        labels = run.get("labels", case["ask"])
        length = sum(places(scales))
        noise = 1.01 + tensor(numbers(salt + "noise", len(labels), length, case["codes"])) if run.get("noise") else None
        given = torch.tensor(drawn(salt + "given", len(labels), length, case["codes"])) if "mask" in run else None
        codes, totals = generate(w, case, run, labels, noise.float().double() if noise is not None else None, given)
        found = {"options": dict(run, scales=scales, labels=labels)}
        if not run.get("smooth"):
            found["codes"] = codes.tolist()
            if len(codes.unique()) < min(4, length // 3):
                raise Close(f"{run_name}: hardly any code but one")
        if "mask" in run:
            found["kept"] = [int(v) for p in scales for v in mask_at(run["mask"], scales, p)]
        if not case["flex"]:
            found["sums"] = [floats(m) for m in totals]
            found["picture"] = floats(pictures(w, case, totals[-1]))
        else:
            last = map_of(w, split(codes, scales)[-1], scales[-1], True)
            found["picture"] = floats(pictures(w, case, last))
        out["runs"][run_name] = found
    return out


def var_runs(case):
    runs = {
        "greedy": dict(cfg=case["cfg"], top_k=1),
        "sampled": dict(cfg=1.5, top_k=8, top_p=0.9, noise=True),
        "unconditional": dict(cfg=3.0, top_k=1, labels=[case["classes"]]),
        "smooth": dict(cfg=1.5, top_k=9, top_p=0.95, noise=True, smooth=True),
    }
    if case.get("edit"):
        runs["inpaint"] = dict(cfg=case["cfg"], top_k=1, mask={"region": [0.3, 0.25, 0.9, 0.7], "inpaint": True})
        runs["outpaint"] = dict(cfg=case["cfg"], top_k=1, mask={"region": [0.1, 0.5, 0.75, 1], "inpaint": False})
    return runs


def drawn(name, rows, columns, count):
    return np.minimum(((numbers(name, rows, columns) + 1) / 2 * count).astype(np.int64), count - 1).tolist()


def main():
    torch.set_num_threads(1)
    found = {"cases": {}, "areas": []}
    for name, case in CASES.items():
        for attempt in range(400):
            try:
                values = case_values(name, case, f"{name}{attempt}.")
                break
            except (Close, AssertionError) as error:
                reason = error
        else:
            raise SystemExit(f"{name}: {reason}")
        print(name, attempt)
        keep = ("flex", "heads", "resi", "share", "znorm", "l2", "classes")
        found["cases"][name] = {**{key: case[key] for key in keep if key in case}, "scales": case["scales"], **values}
    table = tensor(numbers("positions", 1, 3, 32, 32))
    for size in (3, 7, 31, 32, 33, 40, 50, [5, 48], [45, 9]):
        out = area(table, size).flatten(2).transpose(1, 2)[0]
        found["areas"].append({"scale": size, **floats(out)})
    target = os.path.join(os.path.dirname(__file__), "../../tests/fixtures/var-odd.json")
    with open(target, "w") as file:
        json.dump(found, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
