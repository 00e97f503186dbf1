"""LlamaGen's and PAR's transformers in PyTorch, from sections 2 and 3 of docs/family/llamagen.md, without a cache."""
import math

import torch
import torch.nn.functional as F


def hidden_of(case):
    hidden = int(2 * (4 * case["dim"]) / 3)
    if case.get("multiplier") is not None:
        hidden = int(case["multiplier"] * hidden)
    return -(-hidden // case["multiple"]) * case["multiple"]


def shapes_of(case):
    """The state dict as the official program would write it: names and shapes."""
    dim, hidden = case["dim"], hidden_of(case)
    width = dim // case["heads"]
    out = {"tok_embeddings.weight": [case["vocab"], dim]}
    if case["kind"] == "text":
        out["cls_embedding.cap_proj.fc1.weight"] = [dim, case["features"]]
        out["cls_embedding.cap_proj.fc2.weight"] = [dim, dim]
        out["cls_embedding.uncond_embedding"] = [case["places"], case["features"]]
    else:
        out["cls_embedding.embedding_table.weight"] = [case["classes"] + 1, dim]
    if case["kind"] == "regions":
        out["spe_tok_embeddings.special_embeddings.weight"] = [case["group"] - 1, dim]
    for i in range(case["layers"]):
        name = f"layers.{i}."
        out[name + "attention.wqkv.weight"] = [dim + 2 * case["kv"] * width, dim]
        out[name + "attention.wo.weight"] = [dim, dim]
        for part in ("w1", "w3"):
            out[f"{name}feed_forward.{part}.weight"] = [hidden, dim]
        out[name + "feed_forward.w2.weight"] = [dim, hidden]
        out[name + "attention_norm.weight"] = out[name + "ffn_norm.weight"] = [dim]
    out["norm.weight"] = [dim]
    out["output.weight"] = [case["vocab"], dim]
    return out


def order_of(case):
    """The raster cell of every code of the sequence."""
    grid = case["grid"]
    if case["kind"] != "regions":
        return list(range(grid * grid))
    side = math.isqrt(case["group"])
    assert side * side == case["group"] and grid % side == 0
    k = grid // side
    return [
        (ry * k + iy) * grid + rx * k + ix for iy in range(k) for ix in range(k) for ry in range(side) for rx in range(side)
    ]


class Gpt:
    def __init__(self, w, case):
        self.w, self.case = w, case
        self.order = order_of(case)
        self.codes = len(self.order)
        self.condition_places = case["places"] if case["kind"] == "text" else 1

    def sequence(self):
        """What stands at the places from 0 on: "condition", "special" or a code's index; one more than is needed at most."""
        out = ["condition"] * self.condition_places
        first = self.case["group"] if self.case["kind"] == "regions" else 0
        out += list(range(first))
        if self.case["kind"] == "regions":
            out += ["special"] * (self.case["group"] - 1)
        return out + list(range(first, self.codes))

    def rotation(self, places):
        width = self.case["dim"] // self.case["heads"]
        assert width % 4 == 0
        cos, sin = torch.zeros(len(places), width // 2).double(), torch.zeros(len(places), width // 2).double()
        for i, what in enumerate(places):
            if isinstance(what, str):
                continue
            row, column = divmod(self.order[what], self.case["grid"])
            angles = [row * self.case["base"] ** (-4 * q / width) for q in range(width // 4)]
            angles += [column * self.case["base"] ** (-4 * q / width) for q in range(width // 4)]
            cos[i], sin[i] = torch.tensor(angles).double().cos(), torch.tensor(angles).double().sin()
        return cos, sin

    def mask(self, length, caption):
        i, j = torch.arange(length)[:, None], torch.arange(length)[None]
        if self.case["kind"] == "regions":
            g = self.case["group"]
            seen = torch.where(i < g, j <= i, torch.div(j, g, rounding_mode="floor") <= torch.div(i, g, rounding_mode="floor"))
            return seen[None]
        seen = (j <= i)[None]
        if caption is None:
            return seen
        seen = seen.repeat(len(caption), 1, 1)
        seen[:, :, : caption.shape[1]] &= caption[:, None].bool()
        return seen | torch.eye(length).bool()

    def norm(self, name, x):
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.case["eps"]) * self.w[name + ".weight"]

    def fc(self, name, x):
        return x @ self.w[name + ".weight"].T

    def condition(self, conditions):
        if self.case["kind"] != "text":
            return self.w["cls_embedding.embedding_table.weight"][conditions][:, None]
        name = "cls_embedding.cap_proj."
        h = self.fc(name + "fc1", conditions)
        h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        return self.fc(name + "fc2", h)

    def logits(self, conditions, codes, length=None, caption=None):
        """Logits of the first `length` places (all that predict a code, if not said); codes [B, n] in the order of the sequence."""
        case, w = self.case, self.w
        length = length or self.condition_places - 1 + self.codes
        places = self.sequence()[:length]
        start = self.condition(conditions)
        rows = [start[:, i] for i in range(min(length, self.condition_places))]
        special = 0
        for what in places[len(rows) :]:
            if what == "special":
                rows.append(w["spe_tok_embeddings.special_embeddings.weight"][special].expand(len(start), -1))
                special += 1
            else:
                rows.append(w["tok_embeddings.weight"][codes[:, what]])
        x = torch.stack(rows, 1)
        b, heads, kv = len(x), case["heads"], case["kv"]
        width = case["dim"] // heads
        cos, sin = self.rotation(places)
        seen = self.mask(length, caption)

        def turn(y):
            a, c = y[..., 0::2], y[..., 1::2]
            return torch.stack([a * cos - c * sin, c * cos + a * sin], -1).flatten(-2)

        for i in range(case["layers"]):
            name = f"layers.{i}."
            q, k, v = self.fc(name + "attention.wqkv", self.norm(name + "attention_norm", x)).split(
                [heads * width, kv * width, kv * width], -1
            )
            q = turn(q.reshape(b, length, heads, width).transpose(1, 2))
            k = turn(k.reshape(b, length, kv, width).transpose(1, 2)).repeat_interleave(heads // kv, 1)
            v = v.reshape(b, length, kv, width).transpose(1, 2).repeat_interleave(heads // kv, 1)
            scores = (q @ k.transpose(-1, -2) / math.sqrt(width)).masked_fill(~seen[:, None], -math.inf)
            mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, length, heads * width)
            x = x + self.fc(name + "attention.wo", mixed)
            y = self.norm(name + "ffn_norm", x)
            name += "feed_forward."
            x = x + self.fc(name + "w2", F.silu(self.fc(name + "w1", y)) * self.fc(name + "w3", y))
        return self.fc("output", self.norm("norm", x))[:, self.condition_places - 1 :]

    def loss(self, logits, codes, valid=None):
        losses = F.cross_entropy(logits.transpose(1, 2), codes, reduction="none")
        if valid is None:
            return losses.mean()
        return (losses * valid[:, None]).sum() / (valid.sum() * self.codes).clamp(min=1)

    def unconditional(self, conditions):
        if self.case["kind"] == "text":
            return self.w["cls_embedding.uncond_embedding"].expand(len(conditions), -1, -1)
        return torch.full((len(conditions),), self.case["classes"])

    def steps(self):
        """(first code, how many, counter of the interval or None where the interval does not count)."""
        singles = self.case["group"] if self.case["kind"] == "regions" else self.codes
        out = [(i, 1, i - 1) for i in range(singles)]
        return out + [(i, singles, i - singles) for i in range(singles, self.codes, singles)]

    def generate(self, conditions, run, noise, caption=None):
        """Codes [B, n], and how far every decision was from another: the least of the gaps against what each needs."""
        codes = torch.zeros(len(conditions), self.codes).long()
        margin = math.inf
        scale = run["cfg"]
        interval = run.get("interval", -1)
        for first, count, counter in self.steps():
            length = self.condition_places + first + count - 1
            logits = self.logits(conditions, codes, length, caption)[:, first:]
            if scale > 1 and not (interval > -1 and counter > interval):
                other = self.logits(self.unconditional(conditions), codes, length, caption)[:, first:]
                logits = other + (logits - other) * scale
            for row in range(len(codes)):
                for i in range(count):
                    chosen, gap = choose(logits[row, i], run, noise[row, first + i])
                    codes[row, first + i] = chosen
                    margin = min(margin, gap)
        return codes, margin


def choose(logits, run, noise):
    size = len(logits)
    margin = math.inf
    x = logits / max(run.get("temperature", 1), 1e-5)
    k = min(run.get("topK", 0), size)
    if 0 < k < size:
        edge = x.sort(descending=True).values
        margin = min(margin, float(edge[k - 1] - edge[k]) / 1e-4)
        x = x.masked_fill(x < edge[k - 1], -math.inf)
    top_p = run.get("topP", 1)
    if top_p < 1:
        values, at = x.sort(descending=True)
        summed = values.softmax(-1).cumsum(-1)
        margin = min(margin, float((summed - top_p).abs().min()) / 1e-4)
        gone = torch.cat([torch.tensor([False]), summed[:-1] > top_p])
        x = x.index_fill(0, at[gone], -math.inf)
    p = x.softmax(-1)
    best = (p if run.get("greedy") else p / noise).log().sort(descending=True)
    margin = min(margin, float(best.values[0] - best.values[1]) / 3e-4)
    return int(best.indices[0]), margin
