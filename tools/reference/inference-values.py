"""Cuts the reference values of DetailFlow's options down to those of inference.

    python3 -B tools/reference/inference-values.py FULL_SETS tests/fixtures/golden

FULL_SETS holds R/ and S/ in full: values of training runs and gradients too. Checkpoints and configurations are copied as they are.
"""
import json
import os
import shutil
import sys

from safetensors_io import read_safetensors, write_safetensors

source, out = sys.argv[1:]


def kept(name):
    if name in ("images", "ranks", "enc.indices", "dynamic.images", "gen.labels", "gen.greedy.tokens"):
        return True
    if name.startswith("dynamic.s") and ".train." not in name:
        return True
    return name.startswith("dec.") or name in ("train.noise16.index", "train.noise_degraded.index")


for one, values in (("R", "golden_repa"), ("S", "golden_dynamic")):
    full = os.path.join(source, one)
    to = os.path.join(out, one)
    for part in ("tokenizer", "ar"):
        shutil.copytree(os.path.join(full, part), os.path.join(to, part), dirs_exist_ok=True)
    arrays = {}
    for file in (values, "golden_ar"):
        arrays.update((k, v) for k, v in read_safetensors(os.path.join(full, file + ".safetensors")).items() if kept(k))
    write_safetensors(os.path.join(to, "golden_inference.safetensors"), arrays)
    golden = json.load(open(os.path.join(full, "golden.json")))
    few = {"config": golden["config"], "ar_tokens": golden["ar_tokens"], "greedy": golden["ar"]["greedy"]}
    if "dynamic" in golden:
        few["sizes"] = golden["dynamic"]["sizes"]
        few["tables"] = golden["tables"]
    json.dump(few, open(os.path.join(to, "golden.json"), "w"), indent=1)
shutil.copy(os.path.join(source, "tables.json"), os.path.join(out, "tables-512.json"))
