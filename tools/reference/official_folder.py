"""Settings of the numpy models, read from a folder in the official on-disk form."""

import json
import re


def settings_from_folder(folder):
    """(tokenizer settings, AR settings, degradation power)"""
    vq = json.loads((folder / "tokenizer/config.json").read_text())
    towers = json.loads((folder / "tokenizer/siglip2_vision.json").read_text())
    ar = json.loads((folder / "ar/config.json").read_text())
    power = float(re.search(r"^degradation_power: *(\S+)", (folder / "tokenizer/config.yaml").read_text(), re.M)[1])
    tokenizer_settings = {
        "tokens": vq["num_latent_tokens"],
        "group": vq["group_size"],
        "causal": vq["group_size"] if vq["causal_num"] is None else vq["causal_num"],
        "enc_patch": vq["enc_patch_size"],
        "dec_patch": vq["dec_patch_size"],
        "enc_heads": towers["encoder"]["num_attention_heads"],
        "dec_heads": towers["decoder"]["num_attention_heads"],
        "causal_encoder": vq["causal_encoder"],
        "causal_decoder": vq["causal_decoder"],
        "max_size": vq["max_image_size"],
        "normalised": vq["codebook_l2_norm"],
    }
    ar_settings = {
        "tokens": ar["block_size"],
        "group": ar["group_size"],
        "causal": ar["group_size"] if ar["causal_num"] is None else ar["causal_num"],
        "heads": ar["n_head"],
        "kv_heads": ar["n_kv_head"] or ar["n_head"],
        "num_classes": ar["num_classes"],
        "rope_base": ar["rope_base"],
        "norm_eps": ar["norm_eps"],
    }
    return tokenizer_settings, ar_settings, power
