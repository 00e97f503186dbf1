"""A checkpoint in the format of torch before 1.6, for the tests of @detailflow/checkpoint.

    python3 tools/reference/legacy-checkpoint.py tests/fixtures/legacy.pth
"""
import sys
from collections import OrderedDict

import torch

shared = torch.arange(12, dtype=torch.float32).reshape(3, 4) / 8
state = OrderedDict(
    [
        ("features.0.weight", shared),
        ("features.0.bias", shared[1]),
        ("turned", shared.t()),
        ("half", torch.tensor([1.5, -2.0, 65504.0]).half()),
        ("count", torch.tensor(7)),
        ("parameter", torch.nn.Parameter(torch.tensor([[0.25]]))),
    ]
)
torch.save({"model": state, "steps": 12}, sys.argv[1], _use_new_zipfile_serialization=False)
