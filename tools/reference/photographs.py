"""SSIM and PSNR of scikit-image for its own photographs, with noise and blurred, as the official script calls them.

    /usr/bin/python3 tools/reference/photographs.py FOLDER

Writes NAME.original and NAME.restored, bytes [height, width, 3], into FOLDER and prints sizes and figures as JSON.
tests/photographs.test.ts runs it and measures the same bytes; the photographs themselves are not part of this repository.
"""
import json
import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

folder, out = Path(sys.argv[1]), {}
for name, seed in (("chelsea", 0), ("astronaut", 1)):
    original = getattr(data, name)()
    noise = 15 * np.random.RandomState(seed).randn(*original.shape)
    restored = {"noisy": original + noise, "blurred": gaussian_filter(original.astype(np.float64), (2, 2, 0))}
    for kind, image in restored.items():
        image = np.clip(np.round(image), 0, 255).astype(np.uint8)
        x, y = image.astype(np.float32) / 255, original.astype(np.float32) / 255
        out[f"{name}, {kind}"] = {
            "height": original.shape[0],
            "width": original.shape[1],
            "ssim": float(structural_similarity(x, y, data_range=2.0, channel_axis=-1)),
            "customary": float(structural_similarity(image, original, data_range=255, channel_axis=-1)),
            "psnr": float(peak_signal_noise_ratio(x, y)),
        }
        (folder / f"{name}, {kind}.original").write_bytes(original.tobytes())
        (folder / f"{name}, {kind}.restored").write_bytes(image.tobytes())
print(json.dumps(out))
