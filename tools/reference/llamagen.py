"""Codes, pixels, logits, draws, losses and gradients of LlamaGen and PAR models that the golden values do not cover, from
docs/family/llamagen.md alone (llamagen_tokenizer.py and llamagen_gpt.py), in PyTorch and float64.

    /usr/bin/python3 -B tools/reference/llamagen.py     writes tests/fixtures/llamagen-odd.json

Weights, images, texts, codes and noise come from a formula (numbers_by_formula.py), so only what is expected is stored. Names of
images and noise get a number at the end: the first for which every arg-min and arg-max is well apart. Needs numpy and torch
(`apt-get install python3-torch`).
"""
import json
import math
import os

import llamagen_gpt
import llamagen_tokenizer
import numpy as np
import torch
import torch.nn.functional as F
from llamagen_gpt import Gpt
from llamagen_tokenizer import Tokenizer
from numbers_by_formula import numbers


def vq(ch, mults, blocks, z, dim, codes, l2, sides, **more):
    encoder, decoder = mults if isinstance(mults[0], list) else (mults, mults)
    return dict(ch=ch, encoder=encoder, decoder=decoder, blocks=blocks, z=z, dim=dim, codes=codes, l2=l2, sides=sides, **more)


# sides: height and width in codes.
TOKENIZERS = {
    "VQ-16": vq(32, [1, 1, 2, 2, 4], 2, 48, 8, 57, True, (2, 3), size=20),
    "VQ-8": vq(32, [1, 2, 2, 4], 2, 256, 8, 41, True, (3, 2)),
    "three blocks, plain codes": vq(32, ([2, 1, 3], [1, 3, 2]), 3, 20, 5, 37, False, (4, 3), size=33, train=True),
    "one level, four numbers a code": vq(96, [1], 1, 7, 4, 23, True, (5, 6), train=True),
    "two levels, sixteen numbers a code": vq(64, [3, 1], 1, 33, 16, 30, True, (3, 5)),
}
BETA, RATIO = 0.4, 0.3


def gpt(kind, grid, dim, heads, kv=None, layers=2, vocab=11, **more):
    case = dict(kind=kind, grid=grid, dim=dim, heads=heads, kv=kv or heads, layers=layers, vocab=vocab)
    return {**case, "multiple": 32, "eps": 1e-5, "base": 10000, "classes": 5, **more}


MODELS = {
    "odd widths": gpt("raster", 5, 36, 3, layers=3, vocab=23, multiple=24, multiplier=1.3, eps=0.02, base=500),
    "one key head": gpt("raster", 3, 48, 6, 1, multiple=256, vocab=17),
    "two angles a head": gpt("raster", 4, 32, 8, 4, layers=1, multiple=7, multiplier=0.31),
    "one head": gpt("raster", 2, 20, 1, classes=1),
    "one code": gpt("raster", 1, 16, 2),
    "four regions": gpt("regions", 6, 24, 3, group=4, vocab=37, eps=0.01),
    "nine regions": gpt("regions", 6, 32, 2, group=9, multiple=40, base=300),
    "nine regions of nine": gpt("regions", 9, 16, 4, 2, group=9, layers=1, vocab=7),
    "sixteen regions": gpt("regions", 8, 48, 4, 2, group=16, vocab=7),
    "regions of one cell": gpt("regions", 2, 24, 2, group=4),
    "sixteen regions of one cell": gpt("regions", 4, 24, 2, group=16),
    "120 text places": gpt("text", 3, 24, 3, places=120, features=12, lengths=[120, 7, 1]),
    "seven text places": gpt("text", 4, 32, 4, 2, places=7, features=10, lengths=[3, 1, 7], vocab=23, eps=0.03, base=200),
    "one text place": gpt("text", 2, 24, 2, layers=1, places=1, features=5, lengths=[1, 1, 1], multiplier=0.5),
}

# Models that are drawn with to the pixels, and the tokenizer of each.
PICTURES = {
    "odd widths": "one level, four numbers a code",
    "four regions": "three blocks, plain codes",
    "seven text places": "one level, four numbers a code",
}

# Only from 1 on: below it the official samplers do not guide at all, and the project does.
RUNS = [
    {"cfg": 1, "greedy": True},
    {"cfg": 2.5, "greedy": True},
    {"cfg": 2.5, "greedy": True, "interval": 0},
    {"cfg": 1.75, "interval": 3, "temperature": 0.7, "topK": 5, "topP": 0.8},
    {"cfg": 3, "interval": 1000, "temperature": 1.3, "topP": 0.6},
    {"cfg": 1.5, "interval": -1, "topK": 3},
    {"cfg": 2, "interval": 0, "topK": 500, "topP": 0.05},
    {"cfg": 1, "temperature": 0.4},
    {"cfg": 1.6, "temperature": 0.8},
    {"cfg": 2, "interval": 5, "temperature": 0.00001},
]


def weight(name, shape):
    x = numbers(name, *shape)
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.3 * x
    if len(shape) == 1:
        return 0.1 * x
    if "embedding" in name:
        return x
    return x * math.sqrt(3 / np.prod(shape[1:]))


def floats(name, *shape):
    return torch.tensor(numbers(name, *shape)).float().double()


def whole(name, most, *shape):
    """Integers from 0 up to, not including, most."""
    return torch.tensor(np.floor((numbers(name, *shape) + 1) / 2 * most)).long()


def exponential(name, *shape):
    return torch.tensor(-np.log((numbers(name, *shape) + 1.0001) / 2.0002)).float().double()


def flat(x):
    return [float(f"{v:.6g}") for v in x.detach().flatten().tolist()]


def sample_of(x):
    """About 150 numbers spread over an array."""
    every = max(1, x.numel() // 150)
    return {"every": every, "values": flat(x.flatten()[::every])}


def byte_of(x):
    """As files of evaluations have it; -1 where rounding of x may decide."""
    value = min(max(127.5 * x + 128, 0), 255)
    return math.trunc(value) if 0.02 < value % 1 < 0.98 or value in (0, 255) else -1


def nested(flat_names):
    """Names by their parts, which is shorter."""
    out = {}
    for name, value in flat_names.items():
        at = out
        *parts, last = name.split(".")
        for part in parts:
            at = at.setdefault(part, {})
        at[last] = value
    return out


def weights_of(shapes):
    return {k: torch.tensor(weight(k, s)).float().double() for k, s in shapes.items()}


def gradients(w, loss):
    """Of every weight the norm of the gradient, and its product with numbers of the formula."""
    found = torch.autograd.grad(loss, list(w.values()), allow_unused=True)
    out = {}
    for name, grad in zip(w, found):
        if grad is None:
            continue
        probe = floats("probe " + name, *grad.shape)
        out[name] = [float(f"{float(x):.5g}") for x in (grad.norm(), (grad * probe).sum())]
    return out


def first_that(what, name):
    """The first number for which `what` gives something, and that."""
    for number in range(500):
        found = what(f"{name} {number}")
        if found is not None:
            return {"name": f"{name} {number}", **found}
    raise SystemExit(f"{name}: no number will do")


def tokenizer_values(name, case):
    shapes = llamagen_tokenizer.shapes_of(case)
    w = weights_of(shapes)
    model = Tokenizer(w, case)
    rows, columns = case["sides"]
    factor = 2 ** (len(case["encoder"]) - 1)

    def codes_of(image):
        distance = model.distances(model.latents(floats(image, 2, 3, rows * factor, columns * factor)))[1]
        two = distance.topk(2, -1, largest=False).values
        if (two[..., 1] - two[..., 0]).min() < 1e-3:
            return None
        return {"codes": distance.argmin(-1).flatten().tolist()}

    out = {"isNormalised": case["l2"], "rows": rows, "columns": columns, "factor": factor, "shapes": nested(shapes)}
    out["image"] = first_that(codes_of, name)
    out["pixels"] = sample_of(model.decode(whole(name, case["codes"], 2, rows * columns), rows, columns))
    out["bytes"] = [byte_of(x) for x in out["pixels"]["values"]]
    if "size" in case:
        square = model.decode(whole("square", case["codes"], 1, rows * rows), rows, rows)
        size = (case["size"], case["size"])
        resized = F.interpolate(square, size=size, mode="bicubic", align_corners=False)
        out["resized"] = {"size": case["size"], **sample_of(resized)}
    if case.get("train"):
        for tensor in w.values():
            tensor.requires_grad_()
        losses = model.losses(floats(out["image"]["name"], 2, 3, rows * factor, columns * factor), BETA, RATIO)
        grads = nested(gradients(w, losses["loss"]))
        out["train"] = {"beta": BETA, "ratio": RATIO, "losses": {k: flat(v)[0] for k, v in losses.items()}, "gradients": grads}
    return out


def arguments(case):
    """As the official constructor has them."""
    args = {
        "dim": case["dim"],
        "n_layer": case["layers"],
        "n_head": case["heads"],
        "n_kv_head": case["kv"] if case["kv"] != case["heads"] else None,
        "multiple_of": case["multiple"],
        "ffn_dim_multiplier": case.get("multiplier"),
        "rope_base": case["base"],
        "norm_eps": case["eps"],
        "num_classes": case["classes"],
        "caption_dim": case.get("features", 2048),
        "model_type": "t2i" if case["kind"] == "text" else "c2i",
        "vocab_size": case["vocab"],
        "cls_token_num": case.get("places", 1),
        "block_size": case["grid"] ** 2,
    }
    if case["kind"] == "regions":
        args.update(spe_token_num=case["group"] - 1, ar_token_num=case["group"])
    return args


def captions(name, case):
    """Texts that come last in their places, and which places they fill; zeros stand in the others."""
    mask = torch.zeros(len(case["lengths"]), case["places"])
    for row, length in zip(mask, case["lengths"]):
        row[case["places"] - length :] = 1
    return floats(name, *mask.shape, case["features"]) * mask[..., None], mask


def model_values(name, case):
    shapes = llamagen_gpt.shapes_of(case)
    w = weights_of(shapes)
    model = Gpt(w, case)
    caption = None
    if case["kind"] == "text":
        conditions, caption = captions(name, case)
    else:
        # The last of them is the row of "no class".
        conditions = torch.tensor([1 % case["classes"], case["classes"] - 1, case["classes"]])
    codes = whole(name, case["vocab"], len(conditions), model.codes)
    out = {"args": arguments(case), "kind": case["kind"], "shapes": nested(shapes)}
    if case["kind"] == "text":
        out["lengths"] = case["lengths"]
    else:
        out["labels"] = conditions.tolist()
    if case["kind"] == "regions":
        out["order"] = model.order
    logits = model.logits(conditions, codes, None, caption)
    out["logits"] = sample_of(logits)
    out["means"] = flat((logits * floats("probe", *logits.shape[1:])).mean(-1))
    rows = [0, 1] if caption is None else [0, 1, 2]
    out["runs"] = []
    for run in RUNS:

        def drawn(noise):
            asked = (conditions[rows], run, exponential(noise, len(rows), model.codes, case["vocab"]))
            found, margin = model.generate(*asked, None if caption is None else caption[rows])
            return {"tokens": found.flatten().tolist()} if margin > 1 else None

        out["runs"].append({**run, "noise": first_that(drawn, name)})
    if name in PICTURES:
        out["picture"] = {"tokenizer": PICTURES[name], **sample_of(picture(name, model, out["runs"][1]["noise"]["tokens"]))}
    for tensor in w.values():
        tensor.requires_grad_()
    if case["kind"] == "text":
        out["train"] = text_training(model, w, conditions, caption, codes)
    else:
        loss = model.loss(model.logits(conditions, codes), codes)
        out["train"] = {"loss": flat(loss)[0], "gradients": nested(gradients(w, loss))}
    return out


def picture(name, model, tokens):
    """Pixels of tokens that were drawn: every one is put at its raster cell."""
    case = TOKENIZERS[PICTURES[name]]
    drawn = torch.tensor(tokens).reshape(-1, model.codes)
    raster = torch.zeros_like(drawn)
    raster[:, model.order] = drawn
    grid = model.case["grid"]
    return Tokenizer(weights_of(llamagen_tokenizer.shapes_of(case)), case).decode(raster, grid, grid)


def text_training(model, w, conditions, caption, codes):
    """Row 1 counts, row 2 is learned without its text, row 0 has no picture: zeros and a mask that hides nothing."""
    valid = torch.tensor([0.0, 1.0, 1.0]).double()
    given, seen = conditions.clone(), caption.clone()
    given[0], seen[0] = 0, 1
    given[2] = w["cls_embedding.uncond_embedding"].detach()
    loss = model.loss(model.logits(given, codes, None, seen), codes, valid)
    found = {"loss": flat(loss)[0], "gradients": nested(gradients(w, loss))}
    return {**found, "lossOfNone": flat(model.loss(model.logits(given, codes, None, seen), codes, 0 * valid))[0]}


def main():
    torch.set_num_threads(1)
    found = {
        "tokenizers": {name: tokenizer_values(name, case) for name, case in TOKENIZERS.items()},
        "models": {name: model_values(name, case) for name, case in MODELS.items()},
    }
    target = os.path.join(os.path.dirname(__file__), "../../tests/fixtures/llamagen-odd.json")
    with open(target, "w") as file:
        json.dump(found, file, separators=(",", ":"), allow_nan=False)
        file.write("\n")


if __name__ == "__main__":
    main()
