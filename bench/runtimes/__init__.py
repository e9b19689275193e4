"""One file per runtime; the file's name is the runtime's name. `RUNTIMES` in edge/project.py says which load GGUF, best first.

A runtime is a module that runs inside the agent, in the environment that its PEP 723 block names, with

    ENVIRONMENT   variables to start it with, if any
    load(path, options) -> Model    options: {"threads", "context", "stop"}; may raise EdgeError

and a Model has

    facts() -> dict                 runtime version and what else moves the figures; {"tokenizer_mismatches": …} if checked
    generate(rows, max_tokens) -> iterator of dicts with the fields of edge.records.Sample, one a row, greedy
"""
