"""LlamaGen's image tokenizer in PyTorch, from section 1 of docs/family/llamagen.md."""
import torch
import torch.nn.functional as F


def shapes_of(case):
    """The state dict as the official program would write it: names and shapes."""
    out = {}
    z, d = case["z"], case["dim"]

    def conv(name, rows, columns, size=3):
        out[name + ".weight"], out[name + ".bias"] = [rows, columns, size, size], [rows]

    def norm(name, channels):
        out[name + ".weight"] = out[name + ".bias"] = [channels]

    def res(name, before, after):
        norm(name + ".norm1", before)
        conv(name + ".conv1", after, before)
        norm(name + ".norm2", after)
        conv(name + ".conv2", after, after)
        if before != after:
            conv(name + ".nin_shortcut", after, before, 1)

    def attention(name, channels):
        norm(name + ".norm", channels)
        for part in ("q", "k", "v", "proj_out"):
            conv(f"{name}.{part}", channels, channels, 1)

    def mid(side, channels):
        res(side + ".mid.0", channels, channels)
        attention(side + ".mid.1", channels)
        res(side + ".mid.2", channels, channels)

    width = case["ch"]
    conv("encoder.conv_in", width, 3)
    for i, mult in enumerate(case["encoder"]):
        last = i == len(case["encoder"]) - 1
        for j in range(case["blocks"]):
            res(f"encoder.conv_blocks.{i}.res.{j}", width, case["ch"] * mult)
            width = case["ch"] * mult
            if last:
                attention(f"encoder.conv_blocks.{i}.attn.{j}", width)
        if not last:
            conv(f"encoder.conv_blocks.{i}.downsample.conv", width, width)
    mid("encoder", width)
    norm("encoder.norm_out", width)
    conv("encoder.conv_out", z, width)
    conv("quant_conv", d, z, 1)
    conv("post_quant_conv", z, d, 1)
    width = case["ch"] * case["decoder"][-1]
    conv("decoder.conv_in", width, z)
    mid("decoder", width)
    for i, mult in enumerate(reversed(case["decoder"])):
        for j in range(case["blocks"] + 1):
            res(f"decoder.conv_blocks.{i}.res.{j}", width, case["ch"] * mult)
            width = case["ch"] * mult
            if i == 0:
                attention(f"decoder.conv_blocks.{i}.attn.{j}", width)
        if i < len(case["decoder"]) - 1:
            conv(f"decoder.conv_blocks.{i}.upsample.conv", width, width)
    norm("decoder.norm_out", width)
    conv("decoder.conv_out", 3, width)
    out["quantize.embedding.weight"] = [case["codes"], d]
    return out


class Tokenizer:
    def __init__(self, w, case):
        self.w, self.case = w, case

    def conv(self, name, x, **options):
        return F.conv2d(x, self.w[name + ".weight"], self.w[name + ".bias"], **options)

    def norm(self, name, x):
        return F.group_norm(x, 32, self.w[name + ".weight"], self.w[name + ".bias"], 1e-6)

    def res(self, name, x):
        h = self.conv(name + ".conv1", F.silu(self.norm(name + ".norm1", x)), padding=1)
        h = self.conv(name + ".conv2", F.silu(self.norm(name + ".norm2", h)), padding=1)
        return (self.conv(name + ".nin_shortcut", x) if name + ".nin_shortcut.weight" in self.w else x) + h

    def attention(self, name, x):
        n = self.norm(name + ".norm", x)
        q, k, v = (self.conv(f"{name}.{part}", n).flatten(2) for part in ("q", "k", "v"))
        shares = (torch.einsum("bci,bcj->bij", q, k) * x.shape[1] ** -0.5).softmax(-1)
        mixed = torch.einsum("bij,bcj->bci", shares, v).reshape(x.shape)
        return x + self.conv(name + ".proj_out", mixed)

    def mid(self, side, x):
        return self.res(side + ".mid.2", self.attention(side + ".mid.1", self.res(side + ".mid.0", x)))

    def out(self, side, x):
        return self.conv(side + ".conv_out", F.silu(self.norm(side + ".norm_out", x)), padding=1)

    def latents(self, images):
        x = self.conv("encoder.conv_in", images, padding=1)
        levels = len(self.case["encoder"])
        for i in range(levels):
            name = f"encoder.conv_blocks.{i}"
            for j in range(self.case["blocks"]):
                x = self.res(f"{name}.res.{j}", x)
                if i == levels - 1:
                    x = self.attention(f"{name}.attn.{j}", x)
            if i < levels - 1:
                x = self.conv(name + ".downsample.conv", F.pad(x, (0, 1, 0, 1)), stride=2)
        return self.conv("quant_conv", self.out("encoder", self.mid("encoder", x)))

    def pixels(self, maps):
        x = self.conv("decoder.conv_in", self.conv("post_quant_conv", maps), padding=1)
        x = self.mid("decoder", x)
        levels = len(self.case["decoder"])
        for i in range(levels):
            name = f"decoder.conv_blocks.{i}"
            for j in range(self.case["blocks"] + 1):
                x = self.res(f"{name}.res.{j}", x)
                if i == 0:
                    x = self.attention(f"{name}.attn.{j}", x)
            if i < levels - 1:
                x = self.conv(name + ".upsample.conv", F.interpolate(x, scale_factor=2, mode="nearest"), padding=1)
        return self.out("decoder", x)

    def unit(self, x):
        return F.normalize(x, dim=-1, eps=1e-12) if self.case["l2"] else x

    def distances(self, maps):
        """Squared, [B, h * w, K], of latents [B, d, h, w]."""
        z = self.unit(maps.flatten(2).transpose(1, 2))
        return z, ((z[:, :, None] - self.unit(self.w["quantize.embedding.weight"])) ** 2).sum(-1)

    def decode(self, codes, rows, columns):
        vectors = self.unit(self.w["quantize.embedding.weight"])[codes]
        return self.pixels(vectors.transpose(1, 2).reshape(len(codes), -1, rows, columns))

    def losses(self, images, beta, ratio):
        maps = self.latents(images)
        z, distance = self.distances(maps)
        chosen = self.unit(self.w["quantize.embedding.weight"])[distance.argmin(-1)]
        log_p = (-distance / 0.01).log_softmax(-1).reshape(-1, self.case["codes"])
        mean = log_p.exp().mean(0)
        sure = -(log_p.exp() * log_p).sum(-1).mean()
        found = {
            "vq": ((chosen - z.detach()) ** 2).mean(),
            "commit": beta * ((chosen.detach() - z) ** 2).mean(),
            "entropy": ratio * (sure + (mean * torch.log(mean + 1e-5)).sum()),
        }
        through = z + (chosen - z).detach()
        pixels = self.pixels(through.transpose(1, 2).reshape(maps.shape))
        found["reconstruction"] = ((pixels - images) ** 2).mean()
        found["loss"] = sum(found.values())
        return found
