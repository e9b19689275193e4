# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["litert-lm-api==0.18.1"]
#
# [tool.edge]
# megabytes = 110
# environment = "litert-lm"
# ///
"""What LiteRT-LM itself makes of a bundle: greedy text for raw prompts, and conversations rendered by its template.

With `checkpoint` instead of `model`, in the environment of the transformers runtime: the reference's text.
"""

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])


def main(request, reply):
    if "checkpoint" in request:
        return {"texts": reference(request["checkpoint"], request["prompts"], request["stop"], request["max_tokens"])}
    import litert_lm

    litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
    backend = litert_lm.Backend.CPU(thread_count=1)
    with litert_lm.Engine(request["model"], backend=backend, max_num_tokens=1024, cache_dir=":nocache") as engine:
        texts = [generate(engine, prompt, request["max_tokens"]) for prompt in request.get("prompts", [])]
        rendered = [render(engine, **case) for case in request.get("cases", [])]
        calls = [converse(engine, **case) for case in request.get("conversations", [])]
        dialogues = [dialogue(engine, **case) for case in request.get("dialogues", [])]
    return {"texts": texts, "rendered": rendered, "calls": calls, "dialogues": dialogues}


def generate(engine, prompt, max_tokens):
    """The runtime puts the start token in front itself."""
    import litert_lm

    sampler = litert_lm.SamplerConfig(top_k=1, top_p=1.0, temperature=1.0, seed=1)
    session = engine.create_session(apply_prompt_template=False, sampler_config=sampler, max_output_tokens=max_tokens)
    try:
        session.run_prefill([prompt.removeprefix("<bos>")])
        return session.run_decode().texts[0]
    finally:
        session.close()


def conversation(engine, messages, tools):
    import litert_lm

    class Declared(litert_lm.Tool):
        def __init__(self, declaration):
            self.declaration = declaration

        def get_tool_description(self):
            return self.declaration

        def execute(self, param):
            return {}

    return engine.create_conversation(
        messages=messages or None,
        tools=[Declared(t) for t in tools],
        automatic_tool_calling=False,
        sampler_config=litert_lm.SamplerConfig(top_k=1, top_p=1.0, temperature=1.0, seed=1),
    )


def render(engine, messages, tools):
    talk = conversation(engine, messages[:-1], tools)
    try:
        return talk.render_message_to_string(messages[-1])
    finally:
        talk.close()


def converse(engine, messages, tools):
    talk = conversation(engine, messages[:-1], tools)
    try:
        return [c["function"] for c in talk.send_message(messages[-1]).to_json().get("tool_calls", [])]
    finally:
        talk.close()


def dialogue(engine, tools, first, answer, next, sends):
    """[message, what the runtime fed of it, its reply] for each one sent: an answer to a call, or else `next`."""
    talk, message, found = conversation(engine, [], tools), first, []
    try:
        for _ in range(sends):
            fed = talk.render_message_to_string(message)
            reply = talk.send_message(message).to_json()
            found.append([message, fed, reply])
            message = answer if reply.get("tool_calls") else next
    finally:
        talk.close()
    return found


def reference(checkpoint, prompts, stop, max_tokens):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    ends, texts = tokenizer.convert_tokens_to_ids(stop), []
    for prompt in prompts:
        ids = torch.tensor([tokenizer(prompt, add_special_tokens=False).input_ids])
        with torch.inference_mode():
            out = model.generate(input_ids=ids, max_new_tokens=max_tokens, do_sample=False, eos_token_id=ends)
        answer = [n for n in out[0, ids.shape[1] :].tolist() if n not in ends]
        texts.append(tokenizer.decode(answer, skip_special_tokens=False, clean_up_tokenization_spaces=False))
    return texts


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
