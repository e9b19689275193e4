"""One file per runtime; the file's name is the runtime's name. Adding a file adds a runtime.

A runtime is a module that runs inside the agent, in the environment that its PEP 723 block names, with

    FORMATS   what it loads: ("gguf",)
    ORDER     smaller is tried first where several load the same format
    load(path, options) -> Model    options: {"threads", "context", "stop"}; may raise EdgeError

and a Model has

    facts() -> dict                 runtime version and what else moves the figures; {"tokenizer_mismatches": …} if checked
    generate(rows, max_tokens) -> iterator of dicts with the fields of edge.records.Sample, one a row, greedy
"""
