"""Loads a folder that `detailflow train` wrote in the official layout with torch, and lists what it holds.

    python3 tools/reference/load-official.py RUN/official
"""
import json
import sys
from pathlib import Path
import torch

for part, key in (("tokenizer", "model"), ("ar", "ema")):
    folder = Path(sys.argv[1]) / part
    if not folder.exists():
        continue
    config = json.loads((folder / "config.json").read_text())
    file = max((folder / "checkpoints").glob("*.pt"))
    checkpoint = torch.load(file, map_location="cpu")
    state = checkpoint[key]
    assert all(tensor.is_contiguous() and torch.isfinite(tensor.float()).all() for tensor in state.values())
    count = sum(tensor.numel() for tensor in state.values())
    print(f"{part}: {file.name}, step {checkpoint['steps']}, {len(state)} tensors, {count} values, {len(config)} settings")
