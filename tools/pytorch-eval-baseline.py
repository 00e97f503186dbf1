"""The work of tools/bench-eval.mjs by PyTorch and SciPy: python3 pytorch-eval-baseline.py FOLDER [--images N]."""
import argparse
import os
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--images", type=int, default=48)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(args.threads)

import numpy as np
import torch
from scipy import linalg

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "reference"))
from fid_inception import features
from safetensors_io import read_safetensors
from torchvision.models.inception import Inception3

torch.set_num_threads(args.threads)
net = Inception3(num_classes=1008, aux_logits=False, transform_input=False, init_weights=False)
weights = read_safetensors(os.path.join(args.folder, "inception.safetensors"))
net.load_state_dict({k: torch.from_numpy(v).float() for k, v in weights.items()}, strict=False)
net.eval()
images = np.fromfile(os.path.join(args.folder, "images.bin"), np.uint8).reshape(args.images, 256, 256, 3)
images = torch.from_numpy(images).permute(0, 3, 1, 2)


def run():
    return torch.cat([features(net, images[i : i + 16].float())[2] for i in range(0, args.images, 16)])


with torch.no_grad():
    pool = run().numpy()
    rates = []
    for _ in range(args.rounds):
        started = time.time()
        run()
        rates.append(args.images / (time.time() - started))
ours = np.fromfile(os.path.join(args.folder, "pool.bin"), np.float32).reshape(pool.shape)
print(f"PyTorch {torch.__version__}, Inception features: {sorted(rates)[len(rates) // 2]:.2f} images/s (rounds {', '.join(f'{r:.2f}' for r in rates)})")
print(f"largest difference of features: {np.abs(ours - pool).max() / np.abs(pool).max():.1e} of the largest")

a, b = (np.load(os.path.join(args.folder, f"statistics{i}.npz")) for i in (0, 1))
started = time.time()
root = linalg.sqrtm(a["sigma"] @ b["sigma"], disp=False)[0].real
distance = ((a["mu"] - b["mu"]) ** 2).sum() + np.trace(a["sigma"]) + np.trace(b["sigma"]) - 2 * np.trace(root)
print(f"SciPy, Frechet distance of {len(a['mu'])} features by sqrtm: {time.time() - started:.1f} s, {distance}")
