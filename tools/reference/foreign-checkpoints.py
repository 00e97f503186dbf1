"""Checkpoints with all sorts of things beside "model", in every pickle protocol, as torch.save writes them.

    /usr/bin/python3 -B tools/reference/foreign-checkpoints.py tests/fixtures/foreign

Made with torch 1.13, numpy 1.24 and Python 3.11 (python3-torch of Debian 12).
"""
import argparse
import collections
import datetime
import decimal
import enum
import fractions
import functools
import io
import operator
import os
import pathlib
import pickle
import re
import sys
import uuid

import numpy as np
import torch

out = sys.argv[1]


class Color(enum.Enum):
    RED = "red"


class Flags(enum.IntFlag):
    A = 1
    B = 2


class Outer:
    class Inner(enum.Enum):
        ONE = 1


Point = collections.namedtuple("Point", "x y")


class DictConfig:
    """As OmegaConf's: its state is a dict with parents and nodes that refer to each other."""

    def __init__(self, content, parent=None):
        self.__dict__["_content"] = {k: DictConfig(v, self) if isinstance(v, dict) else v for k, v in content.items()}
        self.__dict__["_parent"] = parent
        self.__dict__["_metadata"] = {"flags": {}, "ref_type": dict, "object_type": None}

    def __getstate__(self):
        return dict(self.__dict__)

    def __setstate__(self, state):
        self.__dict__.update(state)


class AttributeDict(dict):
    def __getattr__(self, name):
        if name in self:
            return self[name]
        raise AttributeError(name)


class Stack(list):
    pass


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self):
        self.a, self.b = 1, [2]


class Picky:
    """Made by a call with named arguments."""

    def __new__(cls, *, size):
        self = object.__new__(cls)
        self.size = size
        return self

    def __getnewargs_ex__(self):
        return (), {"size": self.size}


def endless():
    a = []
    a.append(a)
    return a


def deep():
    value = 0
    for _ in range(300):
        value = [value]
    return value


def optimizer_states():
    layer = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-4)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=10)
    return optimizer.state_dict(), scheduler.state_dict()


def subclassed():
    class Plain(torch.Tensor):
        pass

    Plain.__qualname__, Plain.__module__ = "Plain", "__main__"
    globals()["Plain"] = Plain
    return torch.ones(2).as_subclass(Plain)


torch.manual_seed(0)
optimizer, scheduler = optimizer_states()
complex_data = torch.tensor([1 + 2j, 3 - 4j])
int8 = torch.tensor([-1, 2], dtype=torch.int8)
with_attribute = torch.arange(6.0).reshape(2, 3)
with_attribute._is_fsdp = True

MODEL = collections.OrderedDict(
    w=torch.arange(6.0).reshape(2, 3),
    h=torch.tensor([0.5, -2.0]).half(),
    b=torch.tensor([1.5, -3.0]).bfloat16(),
    count=torch.tensor(7),
    parameter=torch.nn.Parameter(torch.tensor([[0.25]])),
    turned=torch.arange(6.0).reshape(2, 3).t(),
    attribute=with_attribute,
)
MODEL._metadata = collections.OrderedDict({"": {"version": 1}})

# Names without blanks are kinds that a reader may ask for as a tensor, and must be told what they are.
FOREIGN = {
    "numpy_float": np.float64(1.5),
    "numpy_int": np.int64(3),
    "numpy_bool": np.bool_(True),
    "numpy_array": np.arange(4, dtype="f4"),
    "numpy_scalar_array": np.array(2.0),
    "numpy_objects": np.array([None, "x"], dtype=object),
    "numpy_records": np.zeros(1, dtype=[("a", "f4"), ("b", "i8")]),
    "numpy_dtype": np.dtype("f8"),
    "numpy_date": np.datetime64("2024-01-02"),
    "numpy_random": np.random.RandomState(0),
    "numpy_generator": np.random.default_rng(0),
    "torch_dtype": torch.float32,
    "torch_device": torch.device("cuda:1"),
    "torch_size": torch.Size([2, 3]),
    "torch_layout": torch.strided,
    "torch_memory_format": torch.channels_last,
    "tensor_int8": int8,
    "tensor_int16": torch.tensor([1, -2], dtype=torch.int16),
    "tensor_complex": complex_data,
    "tensor_imaginary_of_conjugate": complex_data.clone().conj().imag,
    "tensor_conjugate": complex_data.clone().conj(),
    "tensor_quantised": torch.quantize_per_tensor(torch.tensor([0.5, 1.0]), 0.1, 10, torch.quint8),
    "tensor_quantised_by_channel": torch.quantize_per_channel(
        torch.ones(2, 2), torch.tensor([0.1, 0.2]), torch.tensor([0, 1]), 0, torch.qint8
    ),
    "tensor_sparse": torch.eye(3).to_sparse(),
    "tensor_sparse_rows": torch.eye(3).to_sparse_csr(),
    "tensor_meta": torch.empty(2, device="meta"),
    "tensor_of_a_subclass": subclassed(),
    "parameter_int8": torch.nn.Parameter(int8, requires_grad=False),
    "storage": torch.ones(2).storage(),
    "storage_untyped": torch.ones(2).storage()._untyped() if hasattr(torch.ones(2).storage(), "_untyped") else None,
    "module": torch.nn.Linear(2, 1),
    "function": torch.nn.functional.relu,
    "class": torch.nn.Linear,
    "optimizer": optimizer,
    "scheduler": scheduler,
    "rng_state": torch.get_rng_state()[:8].clone(),
    "counter": collections.Counter("aab"),
    "defaultdict": collections.defaultdict(list, {"a": [1]}),
    "defaultdict_of_partial": collections.defaultdict(functools.partial(int, "7")),
    "ordered": collections.OrderedDict([("a", 1)]),
    "deque": collections.deque([1, 2], maxlen=3),
    "chain": collections.ChainMap({"a": 1}),
    "user_dict": collections.UserDict({"a": 1}),
    "named_tuple": Point(1, 2),
    "path": pathlib.PurePosixPath("/runs/1"),
    "path_posix": pathlib.Path("runs"),
    "date": datetime.date(2024, 1, 2),
    "datetime": datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
    "timedelta": datetime.timedelta(seconds=1.5),
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"\x00\xff"),
    "bytes_io": io.BytesIO(b"x"),
    "set": {1, 2},
    "set_empty": set(),
    "frozenset": frozenset([1]),
    "complex": 1 + 2j,
    "decimal": decimal.Decimal("1.5"),
    "fraction": fractions.Fraction(1, 3),
    "uuid": uuid.UUID(int=5),
    "regex": re.compile("a+"),
    "range": range(3),
    "slice": slice(1, 2),
    "ellipsis": ...,
    "exception": ValueError("x"),
    "partial": functools.partial(operator.add, 1),
    "getter": operator.attrgetter("a.b"),
    "enum": Color.RED,
    "enum_flags": Flags.A | Flags.B,
    "enum_nested": Outer.Inner.ONE,
    "namespace": argparse.Namespace(lr=1e-4, out=pathlib.PurePosixPath("/x"), dtype=torch.float32),
    "config": DictConfig({"model": {"dim": 4}, "lr": 0.1}),
    "attribute_dict": AttributeDict(a=AttributeDict(b=1)),
    "list_class": Stack([1, 2]),
    "slotted": Slotted(),
    "picky": Picky(size=3),
    "keys": {(1, 2): "a", None: "b", 1.5: "c", True: "d", b"x": "e", frozenset([1]): "f", torch.float16: "g", Color.RED: "h", 2**70: "i"},
    "endless": endless(),
    "deep": deep(),
    "text_of_an_odd_file_name": "a\udcffb",
    "text_of_protocol_0": "tab\tline\nback\\slash \u00e9 \u4e2d \U0001f600 'quotes'\"",
    "numbers": [0, -1, 255, 256, 65536, 2**31, -(2**31), 2**40, -(2**70), 1e-300, float("inf"), float("-inf"), -0.0],
    "none": None,
}


def fits(value, protocol):
    try:
        torch.save(value, io.BytesIO(), pickle_protocol=protocol)
        return True
    except Exception as error:
        return str(error)


def write(name, value, protocol, **options):
    torch.save(value, os.path.join(out, name), pickle_protocol=protocol, **options)


os.makedirs(out, exist_ok=True)
for protocol in range(1, 6):
    kept = {}
    for name, value in FOREIGN.items():
        reason = fits(value, protocol)
        if reason is True:
            kept[name] = value
        else:
            print(f"protocol {protocol}: without {name} ({reason})")
    everything = {**kept, "model": MODEL}
    write(f"everything-protocol{protocol}.pt", everything, protocol)
    if protocol in (1, 2, 5):
        write(f"everything-protocol{protocol}.pth", everything, protocol, _use_new_zipfile_serialization=False)

numbers = {k: FOREIGN[k] for k in ("numbers", "text_of_protocol_0", "keys", "set", "counter", "enum", "path", "bytes", "none")}
write("plain-protocol0.pt", numbers, 0)
write("bare.pt", MODEL, 2)
write("module.pt", torch.nn.Linear(2, 1), 2)
write("attribute-dict.pt", AttributeDict(model=AttributeDict(MODEL), steps=3), 2)
write("defaultdict.pt", collections.defaultdict(list, model=dict(MODEL)), 2)
write("mixed.pt", {"model": {**MODEL, "extra": int8, "steps": 3, "dtype": torch.float32}}, 2)
write("lightning.pt", {"state_dict": MODEL, "epoch": 3, "hyper_parameters": DictConfig({"lr": 0.1})}, 2)


class Python2(pickle._Pickler):
    """Writes texts as Python 2 did: as bytes without an encoding."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_text(self, value):
        raw = value.encode()
        self.write(b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + len(raw).to_bytes(4, "little") + raw)
        self.memoize(value)

    dispatch[str] = save_text


module = argparse.Namespace(Pickler=Python2, dump=pickle.dump, __name__="python2")
module.dump = lambda value, file, protocol: Python2(file, protocol).dump(value)
torch.save({"model": MODEL, "long": "x" * 300}, os.path.join(out, "python2.pth"), pickle_module=module, _use_new_zipfile_serialization=False)
