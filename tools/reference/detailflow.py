"""DetailFlow inference in plain numpy (float64), written from docs/method.md, sections 2 to 4.

Slow and obvious: no caches, no batching tricks; the sampler recomputes the whole prefix at every step.
Weights are a dict from the official state-dict names to float64 arrays. Images are (B, 3, H, W) in [-1, 1].
"""

import math

import numpy as np

# ---------------------------------------------------------------- resolution map (section 2)


def token_counts(tokens, group, causal):
    """The token counts on the list: 1..c one by one, then multiples of g."""
    return list(range(1, causal + 1)) + list(range(causal + group, tokens + 1, group))


def snap(size, patch, max_size):
    """Smallest multiple of `patch` that is >= size, at least one patch, at most max_size rounded up."""
    side = patch if size < patch else math.ceil(size / patch) * patch
    return min(side, math.ceil(max_size / patch) * patch)


def resolution_map(tokens, group, causal, max_size, enc_patch, dec_patch, power):
    counts = token_counts(tokens, group, causal)
    token2res, token2enc, token2dec = {}, {}, {}
    for n in counts:
        exact = max_size - (max_size - 1) / (tokens - 1) ** power * (tokens - n) ** power
        token2res[n] = min(max(math.trunc(exact), 1), max_size)
        token2enc[n] = snap(token2res[n], enc_patch, max_size)
        token2dec[n] = snap(token2res[n], dec_patch, max_size)

    def best(snapped):
        found = {}
        for n in counts:
            size = snapped[n]
            if size not in found or abs(token2res[n] - size) <= abs(token2res[found[size]] - size):
                found[size] = n
        return found

    sizes = sorted(set(token2dec.values()))
    dec_best = best(token2dec)
    return {
        "token2res": token2res,
        "token2enc_res": token2enc,
        "token2dec_res": token2dec,
        "token2dec_out_res": {n: max(size, dec_patch) for n, size in token2dec.items()},
        "encres2besttoken": best(token2enc),
        "decres2besttoken": dec_best,
        "decres2mintoken": {s: min(n for n in counts if token2dec[n] == s) for s in sizes},
        "decres2maxtoken": {s: max(n for n in counts if token2dec[n] == s) for s in sizes},
        "best_res": sizes,
        "best_token": [dec_best[s] for s in sizes],
    }


def find_closest_resolution(resolution, size):
    return min(resolution["best_res"], key=lambda s: (abs(s - size), s))


# ---------------------------------------------------------------- small operations


def linear(x, w, name):
    bias = w.get(name + ".bias")
    y = x @ w[name + ".weight"].T
    return y if bias is None else y + bias


def layer_norm(x, w, name, eps=1e-6):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * w[name + ".weight"] + w[name + ".bias"]


def rms_norm(x, weight, eps):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x):
    return x / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def unit(x, eps=1e-12):
    return x / np.maximum(np.sqrt((x**2).sum(-1, keepdims=True)), eps)


def attend(q, k, v, visible):
    """q, k, v: (B, heads, L, D); visible: (L, L) of booleans or None. Every row sees something."""
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    if visible is not None:
        scores = np.where(visible, scores, -np.inf)
    return softmax(scores) @ v


def split_heads(x, heads):
    b, length, width = x.shape
    return x.reshape(b, length, heads, width // heads).transpose(0, 2, 1, 3)


def merge_heads(x):
    b, heads, length, d = x.shape
    return x.transpose(0, 2, 1, 3).reshape(b, length, heads * d)


def antialias_matrix(size_in, size_out):
    """Rows: output places; bilinear interpolation whose triangle grows with the scale when shrinking."""
    scale = size_in / size_out
    reach = max(scale, 1.0)
    matrix = np.zeros((size_out, size_in))
    for i in range(size_out):
        centre = scale * (i + 0.5)
        first = max(int(centre - reach + 0.5), 0)
        last = min(int(centre + reach + 0.5), size_in)
        for j in range(first, last):
            matrix[i, j] = max(0.0, 1.0 - abs(j + 0.5 - centre) / reach)
    return matrix / matrix.sum(1, keepdims=True)


def resized_positions(table, h, w):
    """(S*S, C) table -> (h*w, C)."""
    side = math.isqrt(len(table))
    grid = table.reshape(side, side, -1)
    rows, columns = antialias_matrix(side, h), antialias_matrix(side, w)
    return np.einsum("hi,wj,ijc->hwc", rows, columns, grid).reshape(h * w, -1)


def patchify(images, p):
    b, c, height, width = images.shape
    x = images.reshape(b, c, height // p, p, width // p, p)
    return x.transpose(0, 2, 4, 3, 5, 1).reshape(b, (height // p) * (width // p), p * p * c)


def unpatchify(patches, p, h, w):
    b = len(patches)
    x = patches.reshape(b, h, w, p, p, 3)
    return x.transpose(0, 5, 1, 3, 2, 4).reshape(b, 3, h * p, w * p)


# ---------------------------------------------------------------- tokenizer (section 3)


def latent_visible(n, group, causal):
    """(n, n): latent i < c sees j <= i; latent i >= c sees earlier groups and its own group."""
    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    return np.where(i < causal, j <= i, j // group <= i // group)


def tower_visible(patches, n, group, causal, patches_see_latents, latents_see_patches):
    """Mask of [patches ; latents] when the latents are causal. Patches always see patches."""
    visible = np.zeros((patches + n, patches + n), bool)
    visible[:patches, :patches] = True
    visible[:patches, patches:] = patches_see_latents
    visible[patches:, :patches] = latents_see_patches
    visible[patches:, patches:] = latent_visible(n, group, causal)
    return visible


class Tokenizer:
    """settings: group, causal, tokens, enc_patch, dec_patch, enc_heads, dec_heads, causal_encoder, causal_decoder, normalised."""

    def __init__(self, weights, settings):
        self.w = weights
        self.s = settings
        self.as_compared = unit if settings["normalised"] else lambda x: x
        self.codebook = self.as_compared(weights["quantize.embedding.weight"])

    def tower(self, x, name, heads, visible):
        w = self.w
        layer = 0
        while f"{name}.encoder.layers.{layer}.layer_norm1.weight" in w:
            block = f"{name}.encoder.layers.{layer}"
            y = layer_norm(x, w, block + ".layer_norm1")
            q, k, v = (split_heads(linear(y, w, f"{block}.self_attn.{a}_proj"), heads) for a in "qkv")
            x = x + linear(merge_heads(attend(q, k, v, visible)), w, block + ".self_attn.out_proj")
            y = layer_norm(x, w, block + ".layer_norm2")
            x = x + linear(gelu_tanh(linear(y, w, block + ".mlp.fc1")), w, block + ".mlp.fc2")
            layer += 1
        return layer_norm(x, w, name + ".post_layernorm")

    def embed_patches(self, images):
        w, p = self.w, self.s["enc_patch"]
        name = "encoder.visual_model.embeddings"
        x = linear(patchify(images, p), w, name + ".patch_embedding")
        h, wide = images.shape[2] // p, images.shape[3] // p
        return x + resized_positions(w[name + ".position_embedding.weight"], h, wide)

    def encoder(self, images, latents):
        """latents (B or 1, n, E) without position embedding -> all rows after post_layernorm, patches first."""
        s = self.s
        patches = self.embed_patches(images)
        count, n = patches.shape[1], latents.shape[1]
        latents = latents + self.w["encoder.latent_pos_embed"][:, :n]
        x = np.concatenate([patches, np.broadcast_to(latents, (len(patches),) + latents.shape[1:])], 1)
        visible = tower_visible(count, n, s["group"], s["causal"], False, True) if s["causal_encoder"] else None
        return self.tower(x, "encoder.visual_model", s["enc_heads"], visible)

    def encode_continuous(self, images, n):
        out = self.encoder(images, self.w["encoder.latent_tokens"][:, :n])
        return linear(out[:, -n:], self.w, "quant_conv")

    def distances(self, h):
        """Squared distances of the rows to every code, of unit vectors unless the codebook is not normalised."""
        return ((self.as_compared(h)[..., None, :] - self.codebook) ** 2).sum(-1)

    def encode(self, images, n):
        return self.distances(self.encode_continuous(images, n)).argmin(-1)

    def correct(self, images, n, k, ranks):
        """Self-correction pass with noise index k; ranks (B, n): 0 = the nearest code.

        Returns the three index rows (B, n, 3): clean, AR input, AR target; the vectors; second-pass h; both distances.
        """
        s = self.s
        first = self.distances(self.encode_continuous(images, n))
        order = np.argsort(first, axis=-1, kind="stable")
        clean = order[..., 0]
        noisy = np.take_along_axis(order, ranks[..., None], -1)[..., 0]
        end = k + (1 if k < s["causal"] else s["group"])
        prefix = np.concatenate([clean[:, :k], noisy[:, k:end]], 1)
        refined = np.broadcast_to(
            self.w["encoder.refined_tokens"][:, end:n], (len(images), n - end, self.w["encoder.refined_tokens"].shape[2])
        )
        latents = np.concatenate([linear(self.codebook[prefix], self.w, "refine_conv"), refined], 1)
        h = linear(self.encoder(images, latents)[:, -n:], self.w, "quant_conv")
        second = self.distances(h)
        fresh = second.argmin(-1)[:, end:]
        given = np.concatenate([prefix, fresh], 1)
        target = np.concatenate([clean[:, :end], fresh], 1)
        return np.stack([clean, given, target], -1), self.codebook[given], h, first, second

    def decode(self, vectors, t, size):
        """vectors (B, >= t, d), already normalised -> images (B, 3, size, size)."""
        w, s = self.w, self.s
        side = size // s["dec_patch"]
        z = linear(vectors[:, :t], w, "post_quant_conv") + w["decoder.latent_pos_embed"][:, :t]
        patches = w["decoder.mask_token"] + resized_positions(
            w["decoder.visual_model.embeddings.position_embedding.weight"], side, side
        )
        x = np.concatenate([np.broadcast_to(patches, (len(z),) + patches.shape[1:]), z], 1)
        visible = tower_visible(side * side, t, s["group"], s["causal"], True, False) if s["causal_decoder"] else None
        x = self.tower(x, "decoder.visual_model", s["dec_heads"], visible)[:, : side * side]
        return unpatchify(linear(x, w, "decoder.to_pixel.model"), s["dec_patch"], side, side)

    def decode_codes(self, codes, t, size):
        return self.decode(self.codebook[codes], t, size)


# ---------------------------------------------------------------- AR model (section 4)


def rope_angles(places, group, head_dim, base):
    """(places, D/2) angles; place 0 is the class token, handled by the caller."""
    quarter = head_dim // 4
    frequencies = base ** (-4.0 * np.arange(quarter) / head_dim)
    cell = np.arange(places) - 1
    return np.concatenate([np.outer(cell // group, frequencies), np.outer(cell % group, frequencies)], 1)


def rotate(x, cos, sin):
    """x (B, heads, L, D), interleaved pairs."""
    even, odd = x[..., 0::2], x[..., 1::2]
    out = np.empty_like(x)
    out[..., 0::2] = even * cos - odd * sin
    out[..., 1::2] = odd * cos + even * sin
    return out


class ArModel:
    """settings: heads, kv_heads, group, causal, tokens, num_classes, rope_base, norm_eps."""

    def __init__(self, weights, settings):
        self.w = weights
        self.s = settings

    def forward(self, codes, labels):
        """codes (B, K), labels (B) -> logits of every place: (B, K + 1 or K + g, V)."""
        w, s = self.w, self.s
        group, causal = s["group"], s["causal"]
        parts = [w["cls_embedding.embedding_table.weight"][labels][:, None]]
        tokens = w["tok_embeddings.weight"][codes]
        parts.append(tokens[:, :causal])
        if codes.shape[1] >= causal and group > 1:
            special = w["spe_tok_embeddings.special_embeddings.weight"]
            parts.append(np.broadcast_to(special, (len(codes),) + special.shape))
        parts.append(tokens[:, causal:])
        x = np.concatenate(parts, 1)
        length, dim = x.shape[1:]
        head_dim = dim // s["heads"]
        visible = latent_visible(length, group, causal)
        angles = rope_angles(length, group, head_dim, s["rope_base"])
        cos, sin = np.cos(angles), np.sin(angles)
        cos[0] = sin[0] = 0.0
        kv = s["kv_heads"] * head_dim
        layer = 0
        while f"layers.{layer}.attention.wqkv.weight" in w:
            block = f"layers.{layer}"
            y = rms_norm(x, w[block + ".attention_norm.weight"], s["norm_eps"])
            q, k, v = np.split(linear(y, w, block + ".attention.wqkv"), [dim, dim + kv], -1)
            q = rotate(split_heads(q, s["heads"]), cos, sin)
            k = rotate(split_heads(k, s["kv_heads"]), cos, sin)
            v = split_heads(v, s["kv_heads"])
            repeat = s["heads"] // s["kv_heads"]
            k, v = np.repeat(k, repeat, 1), np.repeat(v, repeat, 1)
            x = x + linear(merge_heads(attend(q, k, v, visible)), w, block + ".attention.wo")
            y = rms_norm(x, w[block + ".ffn_norm.weight"], s["norm_eps"])
            ffn = block + ".feed_forward"
            x = x + linear(silu(linear(y, w, ffn + ".w1")) * linear(y, w, ffn + ".w3"), w, ffn + ".w2")
            layer += 1
        return linear(rms_norm(x, w["norm.weight"], s["norm_eps"]), w, "output")

    def last_block(self, codes, labels):
        """The rows that predict the next token (K < c) or the next g tokens."""
        rows = 1 if codes.shape[1] < self.s["causal"] else self.s["group"]
        return self.forward(codes, labels)[:, -rows:]


def filter_logits(logits, top_k, top_p):
    """Removed entries become -inf. top_k 0 and top_p 1 switch the filters off."""
    logits = logits.copy()
    if top_k > 0:
        k = min(top_k, logits.shape[-1])
        logits[logits < np.sort(logits, -1)[..., -k, None]] = -np.inf
    if top_p < 1:
        order = np.argsort(-logits, -1, kind="stable")
        mass = np.cumsum(softmax(np.take_along_axis(logits, order, -1)), -1)
        past = np.concatenate([np.zeros_like(mass[..., :1], bool), mass[..., :-1] > top_p], -1)
        removed = np.zeros_like(past)
        np.put_along_axis(removed, order, past, -1)
        logits[removed] = -np.inf
    return logits


def guidance_scale(settings, first, cfg, gradual):
    """Guidance for the step whose first token is `first`."""
    if not gradual or first < settings["causal"]:
        return cfg
    groups = settings["tokens"] // settings["group"]
    return cfg * (groups - first // settings["group"] + 1) / (groups + 1)


def generate(model, labels, cfg=1.0, gradual=False, greedy=False, temperature=1.0, top_k=0, top_p=1.0, noise=None):
    """Tokens (B, N), guided logits (B, N, V), filtered probabilities (B, N, V). cfg = 1: no guidance.

    noise (B, N, V): exponential draws; the token is argmax(probabilities / noise).
    """
    s = model.s
    labels = np.asarray(labels)
    codes = np.zeros((len(labels), 0), int)
    logits_seen, probabilities_seen = [], []
    while codes.shape[1] < s["tokens"]:
        first = codes.shape[1]
        logits = model.last_block(codes, labels)
        if cfg != 1:
            free = model.last_block(codes, np.full_like(labels, s["num_classes"]))
            logits = free + (logits - free) * guidance_scale(s, first, cfg, gradual)
        probabilities = softmax(filter_logits(logits / temperature, top_k, top_p))
        if greedy:
            drawn = logits.argmax(-1)
        else:
            drawn = (probabilities / noise[:, first : first + logits.shape[1]]).argmax(-1)
        logits_seen.append(logits)
        probabilities_seen.append(probabilities)
        codes = np.concatenate([codes, drawn], 1)
    return codes, np.concatenate(logits_seen, 1), np.concatenate(probabilities_seen, 1)
