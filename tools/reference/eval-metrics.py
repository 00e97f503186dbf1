"""Reference values of the metrics of @detailflow/eval, by scipy, numpy and scikit-image.

    python3 tools/reference/eval-metrics.py > tests/fixtures/eval-metrics.json

Inputs are made by a formula (see `numbers`), which the tests repeat; only outputs are stored.
"""
import json
import numpy as np
from scipy import linalg
from numbers_by_formula import numbers
from skimage.metrics import structural_similarity, peak_signal_noise_ratio


def features(name, rows, width):
    """Correlated, float32."""
    mix = numbers(name + "/mix", width, width) / np.sqrt(width)
    return (numbers(name, rows, width) @ mix + numbers(name + "/mean", width)).astype(np.float32)


def frechet(a, b):
    m1, m2 = a.mean(0), b.mean(0)
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(s1 @ s2, disp=False)[0].real
    return float(((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * np.trace(root))


def by_eigenvalues(a, b):
    """For covariances without full rank, where sqrtm is no help: tr (S1 S2)^(1/2) is the nuclear norm of X1^T X2."""
    x1 = (a - a.mean(0)) / np.sqrt(len(a) - 1)
    x2 = (b - b.mean(0)) / np.sqrt(len(b) - 1)
    root = np.linalg.svd(x1 @ x2.T, compute_uv=False).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + (x1**2).sum() + (x2**2).sum() - 2 * root)


def kernel_distance(x, y):
    d = x.shape[1]
    k = lambda a, b: (a @ b.T / d + 1) ** 3
    m = len(x)
    xx, yy, xy = k(x, x), k(y, y), k(x, y)
    return float((xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (m * (m - 1)) - 2 * xy.mean())


def precision_recall(a, b, k=3):
    dist = lambda x, y: np.sqrt(np.maximum(0, (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T))
    ra, rb = np.sort(dist(a, a), 1)[:, k], np.sort(dist(b, b), 1)[:, k]
    ab = dist(a, b)
    return float((ab <= ra[:, None]).any(0).mean()), float((ab <= rb[None]).any(1).mean())


def inception_score(logits, split):
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    scores = []
    for i in range(0, len(p), split):
        part = p[i : i + split]
        scores.append(np.exp((part * (np.log(part) - np.log(part.mean(0, keepdims=True)))).sum(1).mean()))
    return [float(np.mean(scores)), float(np.std(scores))]


out = {"frechet": {}, "precisionRecall": {}, "kernelDistance": {}, "inceptionScore": {}, "images": {}}
for width, rows in ((3, 40), (24, 100), (64, 400), (128, 1000)):
    a, b = features("a", rows, width).astype(np.float64), features("b", rows + 7, width).astype(np.float64)
    out["frechet"][f"{rows} {width}"] = frechet(a, b)
# Ill conditioned: columns scaled over six orders of magnitude; and fewer rows than columns.
a, b = features("a", 300, 32).astype(np.float64), features("b", 300, 32).astype(np.float64)
scale = 10.0 ** (-6 * np.arange(32) / 31)
out["frechet"]["scaled"] = frechet(a * scale, b * scale)
out["frechet"]["deficient"] = by_eigenvalues(features("a", 20, 48).astype(np.float64), features("b", 30, 48).astype(np.float64))
a, b = features("a", 120, 16).astype(np.float64), features("b", 150, 16).astype(np.float64)
out["precisionRecall"]["120 150 16"] = precision_recall(a, b)
rows = features("a", 270, 16).astype(np.float64)
out["precisionRecall"]["near"] = precision_recall(rows[:120], (1.25 * rows[120:]).astype(np.float32).astype(np.float64))
out["kernelDistance"]["60 16"] = kernel_distance(features("a", 60, 16).astype(np.float64), features("b", 60, 16).astype(np.float64))
out["inceptionScore"]["90 12"] = inception_score(4 * numbers("logits", 90, 12), 40)
x = numbers("image", 3, 20, 17)
y = np.clip(x + 0.3 * numbers("noise", 3, 20, 17), -1, 1)
out["images"]["ssim"] = float(structural_similarity(x, y, win_size=7, data_range=2.0, channel_axis=0))
out["images"]["psnr"] = float(peak_signal_noise_ratio(x, y, data_range=2.0))
print(json.dumps(out, indent=1))
