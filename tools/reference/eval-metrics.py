"""Reference values of the metrics of @detailflow/eval, each by the tool that defines it, run as its users run it.

    /usr/bin/python3 tools/reference/eval-metrics.py > tests/fixtures/eval-metrics.json

scikit-image for SSIM and PSNR, scikit-learn for precision, recall and KID, SciPy for the Frechet distance, the inception
score and perplexity, numpy for what they are made of. docs/metrics.md says how each is run. Inputs are made by a formula
(see `numbers`), which the tests repeat; only outputs are stored.
"""
import json
import warnings
from fractions import Fraction

import numpy as np
from numbers_by_formula import numbers
from scipy import linalg
from scipy.special import softmax
from scipy.stats import entropy
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.metrics import pairwise_distances
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors


def features(name, rows, width, mean=True):
    """Correlated, float32."""
    mix = numbers(name + "/mix", width, width) / np.sqrt(width)
    return (numbers(name, rows, width) @ mix + mean * numbers(name + "/mean", width)).astype(np.float32)


def double(x):
    return x.astype(np.float64)


# Frechet distance: the lines that pytorch-fid and the ADM evaluator share.
def frechet(a, b):
    return by_statistics(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))


def by_statistics(m1, s1, m2, s2):
    root = linalg.sqrtm(s1.dot(s2), disp=False)[0]
    if not np.isfinite(root).all():
        offset = np.eye(len(s1)) * 1e-6
        root = linalg.sqrtm((s1 + offset).dot(s2 + offset))
    return float((m1 - m2).dot(m1 - m2) + np.trace(s1) + np.trace(s2) - 2 * np.trace(root.real))


def by_singular_values(a, b):
    """For covariances without full rank, where sqrtm loses digits: tr (S1 S2)^(1/2) is the nuclear norm of X1 X2^T."""
    x1 = (a - a.mean(0)) / np.sqrt(len(a) - 1)
    x2 = (b - b.mean(0)) / np.sqrt(len(b) - 1)
    root = np.linalg.svd(x1 @ x2.T, compute_uv=False).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + (x1**2).sum() + (x2**2).sum() - 2 * root)


def kernel_distance(x, y):
    """The unbiased MMD by the kernel that the authors of KID call: scikit-learn's, degree 3, gamma 1 / width, coef0 1."""
    m = len(x)
    xx, yy, xy = (polynomial_kernel(p, q, degree=3) for p, q in ((x, x), (y, y), (x, y)))
    return float((xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (m * (m - 1)) - 2 * xy.mean())


def kernel_distance_exact(x, y):
    """The same in fractions, for features so far from 0 that floating point does not suffice."""
    rows = lambda z: [[Fraction(float(value)) for value in row] for row in z]
    x, y, m = rows(x), rows(y), len(x)
    k = lambda p, q: (sum(a * b for a, b in zip(p, q)) / len(p) + 1) ** 3
    within = sum(k(z[i], z[j]) for z in (x, y) for i in range(m) for j in range(m) if i != j)
    return float(within / (m * (m - 1)) - 2 * sum(k(p, q) for p in x for q in y) / (m * m))


def precision_recall(real, fake, k=3):
    """Neighbours and distances by scikit-learn; trees measure differences, so that a large mean costs no digits."""
    radius = lambda x: NearestNeighbors(n_neighbors=k + 1, algorithm="kd_tree").fit(x).kneighbors(x)[0][:, k]
    distances = pairwise_distances(real, fake, metric="minkowski", p=2)
    precise = (distances <= radius(real)[:, None]).any(0)
    recalled = (distances <= radius(fake)[None]).any(1)
    return [float(precise.mean()), float(recalled.mean())]


def inception_score(logits, split):
    scores = []
    for i in range(0, len(logits), split):
        p = softmax(logits[i : i + split], axis=1)
        scores.append(np.exp(np.mean([entropy(row, p.mean(0)) for row in p])))
    return [float(np.mean(scores)), float(np.std(scores))]


def photographs():
    """Bytes [3, 48, 40] of blocks under noise; with noise of standard deviation 15 on top; blurred."""
    blocks = numbers("photo/blocks", 3, 6, 5).repeat(8, 1).repeat(8, 2)
    cut = lambda x: np.clip(np.floor(x), 0, 255).astype(np.int64)
    original = cut(128 + 90 * blocks + 30 * numbers("photo/fine", 3, 48, 40))
    noisy = cut(original + 26 * numbers("photo/noise", 3, 48, 40))
    padded = np.pad(original, ((0, 0), (1, 1), (1, 1)), mode="edge")
    blurred = sum(padded[:, y : y + 48, x : x + 40] for y in range(3) for x in range(3)) // 9
    return original, {"noisy": noisy, "blurred": blurred, "black": np.zeros_like(original), "itself": original}


def image_metrics(restored, original):
    """The lines of the official script: both float32 in [0, 1], range 2 for SSIM and none given for PSNR."""
    x, y = (image.transpose(1, 2, 0).astype(np.float32) / 255 for image in (restored, original))
    ssim = lambda a, b, data_range: float(structural_similarity(a, b, data_range=data_range, channel_axis=-1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # equal images divide by zero
        psnr = peak_signal_noise_ratio(x, y)
    return {
        "official": ssim(x, y, 2.0),
        "officialIn64Bits": ssim(double(x), double(y), 2.0),
        "customary": ssim(restored.transpose(1, 2, 0).astype(np.uint8), original.transpose(1, 2, 0).astype(np.uint8), 255),
        "psnr": float(psnr) if np.isfinite(psnr) else None,
    }


out = {"frechet": {}, "precisionRecall": {}, "kernelDistance": {}, "inceptionScore": {}, "images": {}, "codes": {}}
for width, rows in ((3, 40), (24, 100), (64, 400), (128, 1000)):
    a, b = double(features("a", rows, width)), double(features("b", rows + 7, width))
    out["frechet"][f"{rows} {width}"] = frechet(a, b)
# Ill conditioned: columns scaled over six orders of magnitude; and fewer rows than columns.
a, b = double(features("a", 300, 32)), double(features("b", 300, 32))
scale = 10.0 ** (-6 * np.arange(32) / 31)
out["frechet"]["scaled"] = frechet(a * scale, b * scale)
a, b = double(features("a", 20, 48)), double(features("b", 30, 48))
out["frechet"]["deficient"] = by_singular_values(a, b)
out["frechet"]["deficient, sqrtm"] = frechet(a, b)
# Statistics that were kept in float32, of full rank and not.
single = lambda x: x.astype(np.float32).astype(np.float64)
for name, (rows, width) in {"float32": (400, 64), "float32, deficient": (20, 48)}.items():
    a, b = double(features("a", rows, width)), double(features("b", rows + 10, width))
    statistics = [single(f(x)) for x in (a, b) for f in (lambda x: x.mean(0), lambda x: np.cov(x, rowvar=False))]
    out["frechet"][name] = by_statistics(*statistics)

# Sets that overlap by a share that depends on the spread of one of them; then with a mean far from 0, and clusters apart.
real = features("a", 400, 16, False)
sets = {"equal spread": (real[:200], real[200:]), "wider": (real[:180], np.float32(1.25) * real[180:])}
far = np.float32(4096)
sets["equal spread, far from 0"] = (real[:200] + far, real[200:] + far)
sets["wider, far from 0"] = (real[:180] + far, np.float32(1.25) * real[180:] + far)
cluster = (np.arange(200) % 2 * 3000).astype(np.float32)[:, None]
sets["two clusters"] = (real[:200] + cluster, real[200:] + cluster)
sets["one side far"] = (real[:200], real[200:] + far)
sets["copies"] = (real[:120], np.concatenate([real[60:120], real[:60]]))
sets["repeated rows"] = (real[np.arange(150) // 5], real[np.arange(120) // 3 + 10])
for name, (x, y) in sets.items():
    out["precisionRecall"][name] = precision_recall(double(x), double(y))

out["kernelDistance"]["60 16"] = kernel_distance(double(features("a", 60, 16)), double(features("b", 60, 16)))
x, y = features("a", 60, 16, False), np.float32(1.1) * features("a", 120, 16, False)[60:]
out["kernelDistance"]["near"] = kernel_distance(double(x), double(y))
for offset in (16, 1024, 65536):
    pair = [double(rows + np.float32(offset)) for rows in (x, y)]
    out["kernelDistance"][f"near, {offset} from 0"] = kernel_distance_exact(*pair)
    out["kernelDistance"][f"near, {offset} from 0, in 64 bits"] = kernel_distance(*pair)
out["inceptionScore"]["90 12"] = inception_score(4 * numbers("logits", 90, 12), 40)
out["inceptionScore"]["sure"] = inception_score(200 * numbers("logits", 90, 12), 40)

original, restored = photographs()
for name, image in restored.items():
    out["images"][name] = image_metrics(image, original)
codes = np.floor(numbers("codes", 3000) ** 2 * 500).astype(np.int64)
used, counts = np.unique(codes, return_counts=True)
out["codes"] = {"usage": len(used) / 1024, "perplexity": float(np.exp(entropy(counts)))}
print(json.dumps(out, indent=1))
