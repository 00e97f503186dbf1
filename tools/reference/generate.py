"""Writes tests/fixtures/odd: checkpoints with random weights in the official on-disk form, and what they compute.

Needs PyTorch only to write the .pt files. Weights are read back from those files before anything is computed.
`generate.py NAME...` writes only these. Deterministic: seeds are tried in order until every arg-min and arg-max is well apart.
"""

import argparse
import json
import pathlib
import shutil
import sys
import zlib
from collections import OrderedDict

import numpy as np
import torch

import detailflow as df
from configurations import CONFIGURATIONS, DEFAULTS, RESOLUTION_SETUPS
from official_folder import settings_from_folder
from safetensors_io import write_safetensors

FIXTURES = pathlib.Path(__file__).parents[2] / "tests/fixtures"
STEPS = 120
CODE_GAP = 1e-3  # squared distance to the second nearest code minus that to the nearest
LOGIT_GAP = 5e-3
MASS_GAP = 5e-4  # top-p mass from the threshold
RECIPES = {
    "greedy": dict(cfg=1.5, gradual=False, greedy=True),
    "greedy_gradual": dict(cfg=1.5, gradual=True, greedy=True),
    "greedy_free": dict(cfg=1, gradual=False, greedy=True),
    "sampled": dict(cfg=2.0, gradual=True, greedy=False, temperature=0.9, top_k=12, top_p=0.92),
    "sampled_free": dict(cfg=1, gradual=False, greedy=False, temperature=1.2, top_k=0, top_p=0.85),
    "sampled_top_k": dict(cfg=1.3, gradual=False, greedy=False, temperature=0.7, top_k=5, top_p=1.0),
}


# ---------------------------------------------------------------- weights


def dense(rng, out, wide, gain=1.0):
    return gain / np.sqrt(wide) * rng.standard_normal((out, wide))


def with_bias(rng, weights, name, out, wide, gain=1.0):
    weights[name + ".weight"] = dense(rng, out, wide, gain)
    weights[name + ".bias"] = 0.2 * rng.standard_normal(out)


def norm(rng, weights, name, width):
    weights[name + ".weight"] = 1 + 0.2 * rng.standard_normal(width)
    weights[name + ".bias"] = 0.1 * rng.standard_normal(width)


def tower(rng, weights, name, width, layers, mlp):
    weights[name + ".embeddings.position_embedding.weight"] = 0.7 * rng.standard_normal((256, width))
    for layer in range(layers):
        block = f"{name}.encoder.layers.{layer}"
        norm(rng, weights, block + ".layer_norm1", width)
        for part, gain in (("k", 1.5), ("v", 1.5), ("q", 1.5), ("out", 1.0)):
            with_bias(rng, weights, f"{block}.self_attn.{part}_proj", width, width, gain)
        norm(rng, weights, block + ".layer_norm2", width)
        with_bias(rng, weights, block + ".mlp.fc1", mlp, width, 1.2)
        with_bias(rng, weights, block + ".mlp.fc2", width, mlp)
    norm(rng, weights, name + ".post_layernorm", width)


def tokenizer_weights(rng, c):
    w = OrderedDict()
    (e_width, _, e_layers, e_mlp), (d_width, _, d_layers, d_mlp) = c["enc"], c["dec"]
    (codes, d), (e_patch, d_patch), n = c["codebook"], c["patches"], c["tokens"]
    w["encoder.latent_pos_embed"] = 0.7 * rng.standard_normal((1, n, e_width))
    w["encoder.latent_tokens"] = 0.7 * rng.standard_normal((1, n, e_width))
    if c["correction"]:
        w["encoder.refined_tokens"] = 0.7 * rng.standard_normal((1, n, e_width))
    with_bias(rng, w, "encoder.visual_model.embeddings.patch_embedding", e_width, 3 * e_patch**2, 2.0)
    tower(rng, w, "encoder.visual_model", e_width, e_layers, e_mlp)
    w["decoder.latent_pos_embed"] = 0.7 * rng.standard_normal((1, n, d_width))
    w["decoder.mask_token"] = 0.5 * rng.standard_normal((1, 1, d_width))
    tower(rng, w, "decoder.visual_model", d_width, d_layers, d_mlp)
    with_bias(rng, w, "decoder.to_pixel.model", 3 * d_patch**2, d_width, 0.7)
    with_bias(rng, w, "quant_conv", d, e_width, 1.5)
    with_bias(rng, w, "post_quant_conv", d_width, d, 1.5)
    if c["correction"]:
        with_bias(rng, w, "refine_conv", e_width, d, 1.5)
    w["quantize.embedding.weight"] = rng.standard_normal((codes, d)) * rng.uniform(0.5, 2, (codes, 1))
    return w


def feed_forward_width(c):
    hidden = int(2 * (4 * c["ar"][0]) / 3)
    if c["ffn_multiplier"] is not None:
        hidden = int(c["ffn_multiplier"] * hidden)
    return -(-hidden // c["multiple_of"]) * c["multiple_of"]


def ar_weights(rng, c):
    w = OrderedDict()
    dim, heads, kv_heads, layers = c["ar"]
    kv, hidden, codes = dim // heads * (kv_heads or heads), feed_forward_width(c), c["codebook"][0]
    w["cls_embedding.embedding_table.weight"] = rng.standard_normal((c["classes"] + 1, dim))
    w["tok_embeddings.weight"] = rng.standard_normal((codes, dim))
    for layer in range(layers):
        block = f"layers.{layer}"
        w[block + ".attention.wqkv.weight"] = dense(rng, dim + 2 * kv, dim, 1.4)
        w[block + ".attention.wo.weight"] = dense(rng, dim, dim, 1.2)
        w[block + ".feed_forward.w1.weight"] = dense(rng, hidden, dim, 1.2)
        w[block + ".feed_forward.w3.weight"] = dense(rng, hidden, dim, 1.2)
        w[block + ".feed_forward.w2.weight"] = dense(rng, dim, hidden, 1.2)
        w[block + ".attention_norm.weight"] = 1 + 0.2 * rng.standard_normal(dim)
        w[block + ".ffn_norm.weight"] = 1 + 0.2 * rng.standard_normal(dim)
    w["norm.weight"] = 1 + 0.2 * rng.standard_normal(dim)
    w["output.weight"] = dense(rng, codes, dim, 2.5)
    if c["group"] > 1:
        w["spe_tok_embeddings.special_embeddings.weight"] = rng.standard_normal((c["group"] - 1, dim))
    elif c["causal"]:  # groups of one: an empty table in one checkpoint, none in the other
        w["spe_tok_embeddings.special_embeddings.weight"] = np.zeros((0, dim))
    return w


# ---------------------------------------------------------------- files


def to_torch(weights, dtype, layout):
    """The state dict, its tensors lying in storages as `layout` says."""
    tensors = OrderedDict((k, torch.tensor(v, dtype=getattr(torch, dtype))) for k, v in weights.items())
    if layout == "transposed":
        matrices = [k for k, v in tensors.items() if v.dim() == 2 and v.shape[0] != v.shape[1]]
        for name in matrices[::3]:
            tensors[name] = tensors[name].t().contiguous().t()
    if layout == "shared":  # one storage for everything, in reverse order, with a gap at its start
        flat = torch.cat([torch.full((5,), float("nan"), dtype=getattr(torch, dtype))] + [v.flatten() for v in reversed(tensors.values())])
        offset = 5
        for name in reversed(tensors):
            shape = tensors[name].shape
            tensors[name] = flat[offset : offset + shape.numel()].view(shape)
            offset += shape.numel()
    return tensors


def spread(shape, value, dtype=torch.float32):
    """A tensor of one stored number: stride 0 everywhere."""
    return torch.full((1,), value, dtype=dtype).expand(shape)


def yaml_text(values):
    def scalar(value):
        if value is None:
            return ""
        return " " + (str(value).lower() if isinstance(value, bool) else str(value))

    return "".join(f"{key}:{scalar(value)}\n" for key, value in values.items())


def golden_yaml(part):
    """The command line of golden configuration A, as text values; comes out again as it went in."""
    lines = (FIXTURES / f"golden/A/{part}/config.yaml").read_text().splitlines()
    return {key: value.strip() or None for key, value in (line.split(":", 1) for line in lines)}


def plain(value):
    """The number or truth value that a text of the command line stands for."""
    if value in ("true", "false"):
        return value == "true"
    for kind in (int, float):
        try:
            return kind(value)
        except (TypeError, ValueError):
            pass
    return value


def namespace(command):
    return argparse.Namespace(**{k: plain(v) if isinstance(v, str) else v for k, v in command.items()})


def save(path, contents):
    path.parent.mkdir(parents=True)
    torch.save(contents, path)


def write_tokenizer(folder, name, c, weights):
    config = json.loads((FIXTURES / "golden/A/tokenizer/config.json").read_text())
    shared = {
        "image_size": c["image"],
        "max_image_size": c["image"],
        "codebook_size": c["codebook"][0],
        "codebook_embed_dim": c["codebook"][1],
        "num_latent_tokens": c["tokens"],
        "causal_encoder": c["causal_encoder"],
        "causal_decoder": c["causal_decoder"],
        "group_size": c["group"],
        "causal_num": c["causal"],
        "correction_training": c["correction"],
        "codebook_l2_norm": c.get("normalised", True),
        "global_token_loss_weight": 1.0 if c["extras"] else 0.0,
    }
    config.update(shared, enc_patch_size=c["patches"][0], dec_patch_size=c["patches"][1])
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=4))
    command = golden_yaml("tokenizer")
    command.update(
        shared,
        config=f"configs/{name}.yaml",
        results_dir=f"./logs/{name}",
        encoder_patch_size=c["patches"][0],
        decoder_patch_size=c["patches"][1],
        degradation_power=c["power"],
        min_image_size=c["image"],
    )
    (folder / "config.yaml").write_text(yaml_text(command))
    towers = json.loads((FIXTURES / "golden/A/tokenizer/siglip2_vision.json").read_text())
    for key, part in (("encoder", "enc"), ("decoder", "dec")):
        width, heads, layers, mlp = c[part]
        towers[key].update(hidden_size=width, num_attention_heads=heads, num_hidden_layers=layers, intermediate_size=mlp)
    (folder / "siglip2_vision.json").write_text(json.dumps(towers, indent=1) + "\n")

    state = to_torch(weights, c["dtype"], c["layout"])
    state["quantize.codebook_used"] = spread((65536,), 0.0)
    if c["extras"]:
        nan = float("nan")
        for key, shape in {
            "repa_model.visual_model.embeddings.patch_embedding.weight": (1152, 768),
            "repa_model.visual_model.encoder.layers.0.mlp.fc1.bias": (4304,),
            "global_token_proj.0.weight": (1024, c["codebook"][1]),
            "global_token_proj.0.bias": (1024,),
            "global_token_proj.2.weight": (1024, 1024),
            "global_token_proj.4.bias": (1152,),
        }.items():
            state[key] = spread(shape, nan)
    state = OrderedDict((c["prefix"] + key, value) for key, value in state.items())
    contents = {
        "model": state,
        "optimizer": {"state": {0: {"step": torch.tensor(float(STEPS))}}, "param_groups": [{"lr": 1e-4, "params": [0]}]},
        "discriminator": OrderedDict(steps=torch.tensor([STEPS])),
        "optimizer_disc": {"state": {}, "param_groups": []},
        "steps": STEPS,
        "args": namespace(command),
    }
    save(folder / f"checkpoints/{STEPS:07}.pt", contents)


def write_ar(folder, name, c, weights):
    config = json.loads((FIXTURES / "golden/A/ar/config.json").read_text())
    dim, heads, kv_heads, layers = c["ar"]
    config.update(
        dim=dim,
        n_layer=layers,
        n_head=heads,
        n_kv_head=kv_heads,
        multiple_of=c["multiple_of"],
        ffn_dim_multiplier=c["ffn_multiplier"],
        rope_base=c["rope_base"],
        num_classes=c["classes"],
        vocab_size=c["codebook"][0],
        block_size=c["tokens"],
        group_size=c["group"],
        causal_num=c["causal"],
    )
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=4))
    command = golden_yaml("ar")
    command.update(config=f"configs/{name}.yaml", results_dir=f"./logs/{name}", num_classes=c["classes"])
    (folder / "config.yaml").write_text(yaml_text(command))
    ema = OrderedDict((c["prefix"] + key, value) for key, value in to_torch(weights, c["dtype"], c["layout"]).items())
    contents = {
        "model": OrderedDict((key, spread(value.shape, float("nan")) if value.numel() else value) for key, value in ema.items()),
        "optimizer": {"state": {}, "param_groups": []},
        "steps": STEPS,
        "args": namespace(command),
        "scheduler": {"last_epoch": STEPS},
        "ema": ema,
    }
    save(folder / f"checkpoints/{STEPS:07}.pt", contents)


def stored_weights(folder, key, prefix):
    """The weights as they lie on disk, in float64 and without the prefix."""
    state = torch.load(folder / f"checkpoints/{STEPS:07}.pt")[key]
    wanted = {k.removeprefix(prefix): v for k, v in state.items() if "repa_model" not in k and "global_token" not in k}
    return {k: v.double().numpy() for k, v in wanted.items() if k != "quantize.codebook_used"}


# ---------------------------------------------------------------- expected values


def code_gap(distances):
    two = np.sort(distances, -1)[..., :2]
    return float((two[..., 1] - two[..., 0]).min()) if two.size else np.inf


def draw_image(rng, side):
    """Smooth colours plus a little noise, inside [-1, 1]; float32 as stored."""
    coarse = rng.uniform(-1, 1, (3, 5, 5))
    rows = df.antialias_matrix(5, side)
    image = np.einsum("hi,wj,cij->chw", rows, rows, coarse) + 0.3 * rng.standard_normal((3, side, side))
    return np.clip(image, -1, 1).astype(np.float32).astype(np.float64)[None]


def wrong_ranks(rng, first, start, end):
    """Ranks (1, N) of the wrong codes; in [start, end) the chosen code is well apart from its neighbours in rank."""
    ordered = np.sort(first, -1)
    count = min(50, ordered.shape[-1])
    ranks = rng.integers(0, count, ordered.shape[:2])
    for place in range(start, end):
        row = ordered[0, place]
        padded = np.concatenate([[-np.inf], row, [np.inf]])
        clear = [r for r in range(count) if min(np.diff(padded[r : r + 3])) > CODE_GAP]
        ranks[0, place] = rng.choice(clear)
    return ranks


def image_values(tokenizer, c, short, seed):
    """Everything the encoder says about one image, or None when two codes come too close."""
    rng = np.random.default_rng(seed)
    n, causal = c["tokens"], tokenizer.s["causal"]
    image = draw_image(rng, c["image"])
    h = tokenizer.encode_continuous(image, n)
    first = tokenizer.distances(h)
    fewer = tokenizer.distances(tokenizer.encode_continuous(image, short))
    values = {"images": image, "enc.h": h, "enc.codes": first.argmin(-1), "enc.short.codes": fewer.argmin(-1)}
    gap = min(code_gap(first), code_gap(fewer))
    if c["smaller_image"]:
        small = draw_image(rng, c["smaller_image"])
        distances = tokenizer.distances(tokenizer.encode_continuous(small, n))
        values |= {"small_images": small, "enc.small.codes": distances.argmin(-1)}
        gap = min(gap, code_gap(distances))
    for k in c.get("noise", ()) if c["correction"] else ():
        end = k + (1 if k < causal else c["group"])
        ranks = wrong_ranks(rng, first, k, end)
        index, _, _, _, second = tokenizer.correct(image, n, k, ranks)
        values |= {f"enc.noise{k}.ranks": ranks, f"enc.noise{k}.index": index}
        gap = min(gap, code_gap(second[:, end:]))
    return values if gap > CODE_GAP else None


def tokenizer_values(tokenizer, c, seed, resolution):
    counts = list(resolution["token2res"])
    causal, n = tokenizer.s["causal"], c["tokens"]
    short = counts[min(len(counts) - 1, causal)] if causal < n else n
    if short == n and len(counts) > 1 and causal > c["group"]:
        short = causal
    images, tried = [], 0
    while len(images) < 2:
        found = image_values(tokenizer, c, short, [seed, tried])
        tried += 1
        if tried > 400:
            return None
        if found:
            images.append(found)
    values = {key: np.concatenate([image[key] for image in images]) for key in images[0]}
    codes, out = values["enc.codes"], resolution["token2dec_out_res"]
    if len(np.unique(codes)) < 6 or (codes[0] == codes[1]).mean() > 0.7:
        return None
    full = max(out.values())
    middle = counts[len(counts) // 2]
    least, first = counts[0], max(counts[0], causal)
    pairs = {(least, out[least]), (first, out[first]), (middle, out[middle]), (middle, full), (n, out[n]), (n, c["patches"][1])}
    if c["larger_decode"]:
        pairs.add((n, c["larger_decode"]))
    for t, size in sorted(pairs):
        rows = 2 if (t, size) == (first, out[first]) and size <= 16 else 1
        values[f"dec.t{t}.r{size}"] = tokenizer.decode_codes(codes[:rows], t, size)
    return values, short, tried


def clear_draws(logits, probabilities, noise, recipe):
    """Are all draws of one sequence well apart?"""
    top = -np.sort(-logits, -1)
    if recipe["greedy"]:
        return (top[..., 0] - top[..., 1]).min() > LOGIT_GAP
    ratio = np.sort(np.log(np.maximum(probabilities, 1e-300)) - np.log(noise), -1)
    if (ratio[..., -1] - ratio[..., -2]).min() < LOGIT_GAP:
        return False
    top = top / recipe["temperature"]
    if 0 < recipe["top_k"] < top.shape[-1]:
        if (top[..., recipe["top_k"] - 1] - top[..., recipe["top_k"]]).min() < LOGIT_GAP:
            return False
        top = top[..., : recipe["top_k"]]
    if recipe["top_p"] < 1:
        mass = np.cumsum(df.softmax(top), -1)
        last = (mass <= recipe["top_p"]).sum(-1)  # the last place that stays
        edge = np.take_along_axis(top, last[..., None], -1) - np.take_along_axis(
            np.concatenate([top, top[..., -1:] - 1], -1), last[..., None] + 1, -1
        )
        if np.abs(mass - recipe["top_p"]).min() < MASS_GAP or edge.min() < LOGIT_GAP:
            return False
    return True


def ar_values(model, c, seed):
    rng = np.random.default_rng([seed, 1])
    n, g, causal, codes = c["tokens"], c["group"], model.s["causal"], c["codebook"][0]
    values = {"ar.labels": np.array([0, c["classes"] - 1, c["classes"]]), "ar.codes": rng.integers(0, codes, (3, n))}
    prefixes = sorted({k for k in (0, 1, causal - 1, causal, causal + g, n - g, n - 1 if causal == n else 0) if 0 <= k < n and (k <= causal or k % g == 0)})
    for k in prefixes:
        values[f"ar.prefix{k}.logits"] = model.last_block(values["ar.codes"][:, :k], values["ar.labels"])
    labels = np.array([c["classes"] - 1, 0])
    values["gen.labels"] = labels
    for name, recipe in RECIPES.items():
        rows = []
        for label in labels:
            for _ in range(1 if recipe["greedy"] else 300):
                noise = None
                if not recipe["greedy"]:
                    noise = rng.exponential(size=(1, n, codes)).astype(np.float32).astype(np.float64)
                tokens, logits, probabilities = df.generate(model, [label], noise=noise, **recipe)
                if clear_draws(logits, probabilities, noise, recipe):
                    rows.append((tokens, logits, noise))
                    break
            else:
                return None
        values[f"gen.{name}.tokens"] = np.concatenate([row[0] for row in rows])
        if name == "greedy_gradual":
            values[f"gen.{name}.logits"] = np.concatenate([row[1] for row in rows])
        if not recipe["greedy"]:
            values[f"gen.{name}.noise"] = np.concatenate([row[2] for row in rows])
    greedy = values["gen.greedy.tokens"]
    if len(np.unique(greedy)) < min(6, n // 2) or (n > 8 and (greedy == values["gen.greedy_free.tokens"]).all()):
        return None
    if c["causal"] != n and n > g and (greedy == values["gen.greedy_gradual.tokens"]).all():
        return None  # gradual guidance must show
    return values, prefixes


def first_that_fits(attempt, what):
    for seed in range(200):
        if found := attempt(seed):
            return seed, found
    raise SystemExit(f"no seed fits {what}")


def write_configuration(root, name, c):
    base = zlib.crc32(name.encode())
    folder = root / name

    def try_tokenizer(seed):
        shutil.rmtree(folder / "tokenizer", ignore_errors=True)
        write_tokenizer(folder / "tokenizer", name, c, tokenizer_weights(np.random.default_rng([base, seed]), c))
        weights = stored_weights(folder / "tokenizer", "model", c["prefix"])
        return tokenizer_values(df.Tokenizer(weights, settings[0]), c, base + seed, resolution)

    def try_ar(seed):
        shutil.rmtree(folder / "ar", ignore_errors=True)
        write_ar(folder / "ar", name, c, ar_weights(np.random.default_rng([base, seed, 7]), c))
        weights = stored_weights(folder / "ar", "ema", c["prefix"])
        return ar_values(df.ArModel(weights, settings[1]), c, base + seed)

    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(0)
    write_tokenizer(folder / "tokenizer", name, c, tokenizer_weights(rng, c))
    write_ar(folder / "ar", name, c, ar_weights(rng, c))
    settings = settings_from_folder(folder)
    s = settings[0]
    args = (s["tokens"], s["group"], s["causal"], s["max_size"], s["enc_patch"], s["dec_patch"], settings[2])
    resolution = df.resolution_map(*args)
    tokenizer_seed, (values, short, tried) = first_that_fits(try_tokenizer, name)
    ar_seed, (more, prefixes) = first_that_fits(try_ar, name)
    write_safetensors(folder / "expected.safetensors", values | more)
    expected = {
        "settings": c,
        "feed_forward_width": feed_forward_width(c),
        "short_tokens": short,
        "noise": [k for k in c.get("noise", ()) if c["correction"]],
        "prefixes": prefixes,
        "recipes": RECIPES,
        "resolution": resolution_json(args, resolution),
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{name:18} {size // 1024:4} KiB, seeds {tokenizer_seed} ({tried} images tried) and {ar_seed}")


def resolution_json(args, resolution):
    names = ("tokens", "group", "causal", "max_size", "enc_patch", "dec_patch", "power")
    samples = sorted({1, args[5] + 0.5, *range(0, args[3] + args[5] + 5, max(1, args[3] // 23))})
    closest = [[x, df.find_closest_resolution(resolution, x)] for x in samples]
    return {"args": dict(zip(names, args)), **resolution, "find_closest_resolution": closest}


def main():
    root = FIXTURES / "odd"
    root.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CONFIGURATIONS:
        write_configuration(root, name, DEFAULTS | CONFIGURATIONS[name])
    tables = [resolution_json(args, df.resolution_map(*args)) for args in RESOLUTION_SETUPS]
    (root / "resolution.json").write_text(json.dumps(tables) + "\n")


main()
