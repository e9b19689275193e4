# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#   "torch==2.13.0", "transformers==5.23.0", "trl==1.16.0", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "sentencepiece==0.2.3", "protobuf==7.36.2", "safetensors==0.8.0", "numpy==2.4.6",
# ]
#
# [tool.edge]
# megabytes = 1500
# environment = "torch"
# about = "torch and its company, 1.2 GB"
# ///
"""Largest difference of the logits of base plus adapter and of the merged checkpoint, over a few prompts."""

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])


def main(request, reply):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(request["merged"])
    merged = AutoModelForCausalLM.from_pretrained(request["merged"], dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(request["base"], dtype=torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(request["base"], dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, request["merged"] + "/adapter")
    worst, moved = 0.0, 0.0
    with torch.inference_mode():
        for text in request["prompts"]:
            ids = torch.tensor([tokenizer(text, add_special_tokens=False).input_ids])
            whole = merged(input_ids=ids).logits
            worst = max(worst, float((whole - adapted(input_ids=ids).logits).abs().max()))
            moved = max(moved, float((whole - plain(input_ids=ids).logits).abs().max()))
    return {"worst": worst, "moved": moved, "dtype": str(merged.dtype)}


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
