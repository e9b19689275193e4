"""Small checkpoints of Qwen and Llama with random weights, and logits of GGUF files beside those of transformers.

Request: `do` "make" (family, folder; texts that the tokenizer is made from, and its pieces), "reference" (checkpoint, ids;
writes out/logits.npy) in the transformers runtime's environment, or "compare" (files, ids, reference) in llama.cpp's;
"encode" (checkpoint, text) tells the ids of a text, "encode_all" (checkpoint or file, texts) of several in either.
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.environ["EDGE_CODE"])

TEXT = ["turn off the kitchen lights, please", '{"name": "set_thermostat", "arguments": {"room": "거실", "celsius": 21.5}}',
        "the temperature in 1234 rooms isn't 007", "# Tools\n\nYou may call one or more functions to assist"] * 4  # fmt: skip
SIZE = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 1024}  # fmt: skip
QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>",
         "<|python_tag|>"]  # fmt: skip


def main(request, reply):
    return globals()[request["do"]](request)


def make(request):
    import torch
    import transformers

    family, folder = request["family"], Path(request["folder"])
    specials = LLAMA if family == "llama" else QWEN
    plain = [] if family == "llama" else ["<tool_call>", "</tool_call>"]
    config = tokenizer(folder, family, specials, plain, request.get("texts", TEXT), request.get("pieces", 420))
    size = {
        **SIZE,
        "vocab_size": config["vocab_size"] + 5,
        "eos_token_id": config["eos"],
        "bos_token_id": config["bos"],
    }
    if family == "qwen2":
        model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**size, tie_word_embeddings=True))
    elif family == "qwen3":  # heads larger than hidden / heads; an output matrix of its own
        model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**size, head_dim=64, tie_word_embeddings=False))
    else:
        rope = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64}  # fmt: skip
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**size, rope_parameters=rope, tie_word_embeddings=True)
        )
    torch.manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn_like(p) * (0.3 if p.dim() == 1 else 0.08) + (1.0 if "norm" in name else 0.0))
    model.to(torch.bfloat16).save_pretrained(folder)
    return {"parameters": model.num_parameters()}


def tokenizer(folder, family, specials, plain, texts, pieces):
    """Byte-level BPE, cut by the rule that the family's published tokenizers have."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    digits = r"\p{N}{1,3}" if family == "llama" else r"\p{N}"
    rule = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits
            + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")  # fmt: skip
    made = Tokenizer(models.BPE(ignore_merges=family == "llama"))
    if family != "llama":
        made.normalizer = normalizers.NFC()
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(rule), "isolated"), by_bytes])
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=pieces, initial_alphabet=alphabet, show_progress=False)
    )
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
    made.add_tokens([AddedToken(t, special=False, normalized=False) for t in plain])
    folder.mkdir(parents=True)
    made.save(str(folder / "tokenizer.json"))
    bos, eos = (specials[0], specials[2]) if family == "llama" else (None, specials[2])
    kind = "PreTrainedTokenizerFast" if family == "llama" else "Qwen2Tokenizer"
    told = {"tokenizer_class": kind, "eos_token": eos, "bos_token": bos, "add_bos_token": False}
    (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in told.items() if v is not None}))
    ids = {None: None, **made.get_vocab()}
    return {"vocab_size": made.get_vocab_size(), "eos": ids[eos], "bos": ids[bos]}


def reference(request):
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        request["checkpoint"], dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        np.save(Path(request["out"], "logits.npy"), model(torch.tensor([request["ids"]])).logits[0].numpy())
    return {}


def encode(request):
    from transformers import AutoTokenizer

    return {"ids": AutoTokenizer.from_pretrained(request["checkpoint"])(request["text"]).input_ids}


def encode_all(request):
    if "file" in request:
        from llama_cpp import Llama

        model = Llama(request["file"], vocab_only=True, verbose=False)
        return {"ids": [model.tokenize(t.encode(), add_bos=False, special=True) for t in request["texts"]]}
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(request["checkpoint"])
    return {"ids": [tokenizer(t, add_special_tokens=False).input_ids for t in request["texts"]]}


def compare(request):
    """For each file: the greatest difference, KL (nats, mean), and top-1 where the reference is sure by 0.02."""
    import numpy as np
    from llama_cpp import Llama

    wanted, found = np.load(request["reference"]).astype(np.float64), {}
    best = np.sort(wanted, -1)
    sure = best[:, -1] - best[:, -2] >= 0.02
    for file in request["files"]:
        model = Llama(file, n_ctx=512, n_batch=512, n_threads=1, logits_all=True, verbose=False)
        model.eval(request["ids"])
        got = np.array(model.scores[: len(request["ids"])], dtype=np.float64)
        model.close()
        same = got.argmax(-1) == wanted.argmax(-1)
        p, q = log_softmax(wanted), log_softmax(got)
        found[Path(file).name] = {
            "max_abs": float(np.abs(got - wanted).max()),
            "top1_sure": float(same[sure].mean()),
            "kl": float((np.exp(p) * (p - q)).sum(-1).mean()),
        }
    return {"found": found, "deviation": float(wanted.std()), "sure": int(sure.sum())}


def log_softmax(x):
    import numpy as np

    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
