"""Checks detailflow.py against the golden values (tests/fixtures/golden). Exit status 1 on any difference."""

import json
import pathlib
import re
import sys

import numpy as np

import detailflow as df
from official_folder import settings_from_folder
from safetensors_io import read_safetensors

GOLDEN = pathlib.Path(__file__).parents[2] / "tests/fixtures/golden"
TOLERANCE = 1e-5
failed = 0
worst = {}


def report(section, name, got, want):
    """Integers must be equal; floats within TOLERANCE * max(1, max|want|)."""
    global failed
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        error, bad = f"shape {got.shape} instead of {want.shape}", True
    elif want.dtype.kind == "f":
        relative = float(np.abs(got - want).max() / max(1.0, np.abs(want).max()))
        worst[section] = max(worst.get(section, 0.0), relative)
        error, bad = f"{relative:.2e}", relative > TOLERANCE
    else:
        error, bad = f"{int((got != want).sum())} different", bool((got != want).any())
    failed += bad
    if bad or "-v" in sys.argv:
        print("WRONG" if bad else "ok   ", section, name, error)


def check_tokenizer(section, folder):
    golden = read_safetensors(folder / "golden_tokenizer.safetensors")
    tokenizer_settings, _, _ = settings_from_folder(folder)
    tokenizer = df.Tokenizer(read_safetensors(folder / "tokenizer/model.safetensors"), tokenizer_settings)
    images, n = golden["images"], tokenizer_settings["tokens"]

    def check(name, value):
        report(section, name, value, golden[name])

    check("enc.patch_plus_pos", tokenizer.embed_patches(images[:1]))
    hidden = tokenizer.encoder(images, tokenizer.w["encoder.latent_tokens"][:, :n])
    check("enc.hidden_patches", hidden[:1, :-n])
    check("enc.latent", hidden[:, -n:])
    h = tokenizer.encode_continuous(images, n)
    check("enc.h", h)
    ordered = np.sort(tokenizer.distances(h), -1)
    check("enc.gap", ordered[..., 1] - ordered[..., 0])
    codes = tokenizer.encode(images, n)
    check("enc.indices", codes)
    check("enc.quant", tokenizer.codebook[codes])
    check("enc.lowres.h", tokenizer.encode_continuous(golden["lowres_images"], n))
    check("enc.lowres.indices", tokenizer.encode(golden["lowres_images"], n))
    check("dec.codebook_entries", tokenizer.codebook[codes])
    check("dec.post_quant", df.linear(tokenizer.codebook[codes], tokenizer.w, "post_quant_conv"))
    for name, want in golden.items():
        if match := re.fullmatch(r"enc\.n(\d+)\.h", name):
            k = int(match[1])
            check(name, tokenizer.encode_continuous(images, k))
            check(f"enc.n{k}.indices", tokenizer.encode(images, k))
        elif match := re.fullmatch(r"enc\.noise(\d+)\.index", name):
            base = f"enc.noise{match[1]}"
            index, quant, second_h, _, _ = tokenizer.correct(images, n, int(match[1]), golden[base + ".ranks"])
            check(name, index)
            check(base + ".quant", quant)
            check(base + ".h_second", second_h)
        elif match := re.fullmatch(r"(?:dec|forward)\.t(\d+)\.r(\d+)", name):
            check(name, tokenizer.decode_codes(codes[: len(want)], int(match[1]), int(match[2])))
        elif match := re.fullmatch(r"dec\.short(\d+)\.r(\d+)", name):
            check(name, tokenizer.decode_codes(codes[:1, : int(match[1])], int(match[1]), int(match[2])))


def check_ar(section, folder):
    golden = read_safetensors(folder / "golden_ar.safetensors")
    recipe = json.loads((folder / "golden.json").read_text())["ar"]
    _, settings, _ = settings_from_folder(folder)
    model = df.ArModel(read_safetensors(folder / "ar/ema.safetensors"), settings)
    for name, want in golden.items():
        if match := re.fullmatch(r"logits\.prefix(\d+)\.(all|all\.row0|last)", name):
            codes = golden["codes"][:, : int(match[1])]
            logits = (model.last_block if match[2] == "last" else model.forward)(codes, golden["labels"])
            report(section, name, logits[: len(want)], want)
        elif match := re.fullmatch(r"logits\.prefix(\d+)\.argmax_last", name):
            report(section, name, model.last_block(golden["codes"][:, : int(match[1])], golden["labels"]).argmax(-1), want)
    for name, gradual in (("greedy", False), ("greedy_gradual", True)):
        tokens, logits, _ = df.generate(model, golden["gen.labels"], recipe["greedy"]["cfg_scale"], gradual, greedy=True)
        for key, value in ((f"gen.{name}.tokens", tokens), (f"gen.{name}.guided_logits.row0", logits[:1])):
            if key in golden:
                report(section, key, value, golden[key])
    with_noise = recipe["sampled"]
    tokens, _, probabilities = df.generate(
        model,
        golden["gen.labels"],
        with_noise["cfg_scale"],
        with_noise["gradual_cfg"],
        temperature=with_noise["temperature"],
        top_k=with_noise["top_k"],
        top_p=with_noise["top_p"],
        noise=golden["gen.sampled.noise"],
    )
    report(section, "gen.sampled.tokens", tokens, golden["gen.sampled.tokens"])
    report(section, "gen.sampled.probs.row0", probabilities[:1], golden["gen.sampled.probs.row0"])


def check_tables():
    tables = json.loads((GOLDEN / "tables.json").read_text())
    for name, table in tables["resolution"].items():
        args = table["args"]
        causal = args["causal_num"] or args["group_size"]
        got = df.resolution_map(
            args["max_token_num"],
            args["group_size"],
            causal,
            args["max_img_size"],
            args["enc_patch_size"],
            args["dec_patch_size"],
            args["p"],
        )
        for key, value in got.items():
            same = value == table[key] if isinstance(value, list) else {str(k): v for k, v in value.items()} == table[key]
            report("tables", f"{name} {key}", int(same), 1)
        for size, want in (
            table["find_closest_resolution"].items()
            if isinstance(table["find_closest_resolution"], dict)
            else table["find_closest_resolution"]
        ):
            report("tables", f"{name} closest {size}", df.find_closest_resolution(got, float(size)), want)
    for mask in tables["create_attn_mask_for_x_z__1_means_blocked"]:
        group = mask["group_size"]
        causal = mask["causal_num"] or group
        got = df.tower_visible(mask["n"], mask["m"], group, causal, mask["x_see_z"], mask["z_see_x"])
        report("tables", "tower mask", 1 - got.astype(int), np.array([[int(c) for c in row] for row in mask["mask"]]))
    for mask in tables["create_group_causal_mask__1_means_visible"]:
        got = df.latent_visible(mask["seq_len"], mask["group_size"], mask["causal_num"])
        report("tables", "AR mask", got.astype(int), np.array([[int(c) for c in row] for row in mask["mask"]]))


def check_ops():
    ops = read_safetensors(GOLDEN / "ops.safetensors")
    for name, want in ops.items():
        if match := re.fullmatch(r"pos\.(\d+)x(\d+)", name):
            got = df.resized_positions(ops["pos.in"].reshape(256, -1), int(match[1]), int(match[2]))
            report("ops", name, got[None], want)
        elif match := re.fullmatch(r"freqs\.(\d+)x(\d+)\.d(\d+)\.base(\d+)", name):
            rows, columns, d, base = map(int, match.groups())
            angles = df.rope_angles(1 + rows * columns, columns, d, base)
            got = np.stack([np.cos(angles), np.sin(angles)], -1)
            got[0] = 0
            report("ops", name, got, want)
        elif match := re.fullmatch(r"filter\.k(\d+)\.p([\d.]+)\.rows(\d+)", name):
            logits = ops["filter.in"][[int(c) for c in match[3]]]
            got = df.filter_logits(logits, int(match[1]), float(match[2]))
            report("ops", name, np.isinf(got).astype(int), np.isinf(want).astype(int))
    report("ops", "gelu_tanh", df.gelu_tanh(ops["gelu_tanh.in"]), ops["gelu_tanh.out"])
    report("ops", "patchify", df.patchify(ops["patchify.in"], 4), ops["patchify.p4.out"])
    report("ops", "unpatchify", df.unpatchify(ops["unpatchify.in"], 4, 3, 3), ops["unpatchify.p4.out"])


check_tables()
check_ops()
for letter in "AB":
    check_tokenizer(f"{letter} tokenizer", GOLDEN / letter)
    check_ar(f"{letter} ar", GOLDEN / letter)
for section, value in worst.items():
    print(f"{section:14} largest relative difference {value:.1e}")
print("failures:", failed)
sys.exit(1 if failed else 0)
