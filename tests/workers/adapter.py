"""Adapters for tests: random, of any kind that peft makes, saved as peft saves them. And what base and adapter expect."""

import os
import sys
from pathlib import Path

sys.path.insert(0, os.environ["EDGE_CODE"])


def main(request, reply):
    import peft
    import torch
    import transformers

    torch.manual_seed(0)
    torch.set_num_threads(1)
    base, out = Path(request["base"]), Path(request["out"])
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=request.get("targets", "all-linear"), **request.get("more", {})
    )
    joined = peft.get_peft_model(model, config)
    for name, parameter in joined.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, request["size"])
            if request.get("bad"):
                parameter.data[0, 0] = float("nan")
    joined.save_pretrained(out)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    ids = tokenizer(request["text"], add_special_tokens=False, return_tensors="pt").input_ids
    with torch.inference_mode():
        together = joined(ids).logits[0].argmax(-1).tolist()
        with joined.disable_adapter():
            alone = joined(ids).logits[0].argmax(-1).tolist()
    return {"together": together, "alone": alone}


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
