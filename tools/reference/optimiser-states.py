"""Adam's state in checkpoints, by torch itself.

    /usr/bin/python3 -B tools/reference/optimiser-states.py record tests/fixtures/optimiser-states
writes what torch.save makes of a small training (modules made in the order of the official tokenizer, a frozen tower among
them, a PatchGAN with BatchNorm), and the parameters two steps later, which tests compare with.

    /usr/bin/python3 -B tools/reference/optimiser-states.py go-on FILE NAMES.json
loads a checkpoint of ours into torch's optimisers and makes a step: NAMES lists the parameters in the order in which the official
model makes them. Prints the parameters after the step.

Gradients are made by a formula of name and step, which the tests repeat.
"""
import json
import os
import sys
import numpy as np
from numbers_by_formula import numbers
import torch
from torch import nn

BETAS, EPS, DECAY, RATE = (0.9, 0.95), 1e-8, 0.05, 0.01


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual_model = nn.ModuleDict(dict(post_layernorm=nn.LayerNorm(6)))
        self.latent_pos_embed = nn.Parameter(torch.zeros(1, 4, 6))
        self.latent_tokens = nn.Parameter(torch.zeros(1, 4, 6))


class Quantize(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 6)
        self.register_buffer("codebook_used", torch.arange(16.0) % 5)


class Tokenizer(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.quant_conv = nn.Linear(6, 6)  # as large as the layer after it: only the order tells them apart
        self.post_quant_conv = nn.Linear(6, 6)
        self.repa_model = nn.Linear(3, 3)
        self.repa_model.requires_grad_(False)
        self.projection = nn.Sequential(nn.Linear(6, 3))
        self.quantize = Quantize()


def patchgan(width=2, layers=1):
    channels = lambda i: width * min(2**i, 8)
    made = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for i in range(1, layers + 1):
        stride = 2 if i < layers else 1
        made += [nn.Conv2d(channels(i - 1), channels(i), 4, stride, 1, bias=False)]
        made += [nn.BatchNorm2d(channels(i)), nn.LeakyReLU(0.2)]
    made += [nn.Conv2d(channels(layers), 1, 4, 1, 1)]
    module = nn.Module()
    module.main = nn.Sequential(*made)
    return module


def fill(module):
    for name, p in module.named_parameters():
        p.data = torch.from_numpy(numbers(name, *p.shape).astype(np.float32))


def optimiser_of(module, kind):
    """Adam is given everything, AdamW what learns, that which does not decay first (timm's groups)."""
    if kind == "adam":
        return torch.optim.Adam(module.parameters(), lr=RATE, betas=BETAS, eps=EPS)
    learned = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    plain = [p for n, p in learned if p.ndim <= 1 or n.endswith(".bias")]
    decaying = [p for n, p in learned if not (p.ndim <= 1 or n.endswith(".bias"))]
    groups = [dict(params=plain, weight_decay=0.0), dict(params=decaying, weight_decay=DECAY)]
    if kind == "adamw-decaying-first":
        groups.reverse()
    return torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPS, weight_decay=DECAY)


def step(module, optimiser, number):
    for name, p in module.named_parameters():
        if p.requires_grad:
            p.grad = torch.from_numpy(numbers(f"{name} {number}", *p.shape).astype(np.float32))
    optimiser.step()


def values(module):
    return {n: [round(float(x), 8) for x in p.detach().flatten()] for n, p in module.named_parameters()}


def record(folder):
    os.makedirs(folder, exist_ok=True)
    expected = {}
    for kind in ("adam", "adamw", "adamw-decaying-first"):
        model, discriminator = Tokenizer(), patchgan()
        fill(model)
        fill(discriminator)
        optimiser, optimiser_disc = optimiser_of(model, kind), optimiser_of(discriminator, kind)
        for number in range(3):
            step(model, optimiser, number)
            step(discriminator, optimiser_disc, number)
        torch.save(
            dict(
                model=model.state_dict(), optimizer=optimiser.state_dict(),
                discriminator=discriminator.state_dict(), optimizer_disc=optimiser_disc.state_dict(), steps=3,
            ),
            f"{folder}/{kind}.pt",
        )
        for number in (3, 4):
            step(model, optimiser, number)
            step(discriminator, optimiser_disc, number)
        expected[kind] = dict(model=values(model), discriminator=values(discriminator))
    with open(f"{folder}/expected.json", "w") as f:
        json.dump(expected, f)


def module_of(state, names):
    """Modules with these parameters, made in the order of the names."""
    root = nn.Module()
    for name in names:
        *path, last = name.split(".")
        at = root
        for part in path:
            if part not in at._modules:
                at.add_module(part, nn.Module())
            at = at._modules[part]
        at.register_parameter(last, nn.Parameter(torch.zeros_like(state[name])))
    found = [name for name, _ in root.named_parameters()]
    assert found == list(names), "the names are no order in which modules can be made"
    return root


def go_on(file, names):
    saved = torch.load(file, map_location="cpu")
    names = json.load(open(names))
    result = {}
    pairs = [("model", "optimizer", names), ("discriminator", "optimizer_disc", None)]
    for key, of, order in pairs:
        if key not in saved:
            continue
        # Of a run with running means these are what learns; `model` has the means.
        state = saved.get("training_model", saved[key]) if key == "model" else saved[key]
        if order is None:
            module = patchgan(state["main.0.weight"].shape[0], sum(k.endswith("running_mean") for k in state))
            module.load_state_dict(state)  # strictly: every name and shape, statistics included
        else:
            module = module_of(state, order)
            module.load_state_dict({k: state[k] for k in order})
        groups = saved[of]["param_groups"]
        first = groups[0]["weight_decay"] > 0
        kind = "adam" if len(groups) == 1 else "adamw-decaying-first" if first else "adamw"
        optimiser = optimiser_of(module, kind)
        optimiser.load_state_dict(saved[of])
        for p, s in optimiser.state.items():
            assert s["exp_avg"].shape == p.shape and s["exp_avg_sq"].shape == p.shape
        step(module, optimiser, 0)
        result[key] = values(module)
    if "scheduler" in saved:
        parameter = nn.Parameter(torch.zeros(1))
        again = torch.optim.AdamW([dict(params=[parameter]), dict(params=[nn.Parameter(torch.zeros(1))])], lr=1.0)
        scheduler = torch.optim.lr_scheduler.LambdaLR(again, lambda n: 0.5 / (1 + n))
        scheduler.load_state_dict(saved["scheduler"])
        result["scheduler"] = dict(last_epoch=scheduler.last_epoch, base_lrs=scheduler.base_lrs)
    print(json.dumps(result))


if sys.argv[1] == "record":
    record(sys.argv[2])
else:
    go_on(*sys.argv[2:])
