"""Reference values of the classifier of @detailflow/features, by torch.

    /usr/bin/python3 tools/reference/classifier.py > tests/fixtures/classifier.json

Weights and images are made by a formula (see `numbers`), which the test repeats; only outputs are stored.
"""
import json

import torch
import torch.nn.functional as F
from fid_inception import numbers, value

size, classes, widths, width = 16, 5, (4, 6, 8), 12
weights = lambda name, *shape: value(name, shape)
with torch.no_grad():
    y, last = torch.round(127.5 + 127.5 * numbers("classifier/images", 3, 3, size, size)) / 127.5 - 1, 3
    for i, to in enumerate(widths):
        conv = lambda x, name, taken: F.conv2d(
            x, weights(f"stages.{i}.{name}.weight", to, taken, 3, 3), weights(f"stages.{i}.{name}.bias", to), padding=1
        )
        first = F.relu(conv(y, "first", last))
        y, last = F.max_pool2d(F.relu(first + conv(first, "second", to)), 2), to
    flat = y.flatten(1)
    features = F.relu(F.linear(flat, weights("hidden.weight", width, flat.shape[1]), weights("hidden.bias", width)))
    logits = F.linear(features, weights("output.weight", classes, width), weights("output.bias", classes))
print(json.dumps({"features": features.flatten().tolist(), "logits": logits.flatten().tolist()}))
