"""What the onnx worker's own checks say of folders that were broken in one way each.

Request: checkpoint, folder (a float32 one that is right). Answer: said, {fault: the message}, "" where nothing was noticed.
It runs in the environment of the onnx worker.
"""

import json
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, os.environ["EDGE_CODE"])


def main(request, reply):
    from edge import dialects
    from edge.errors import EdgeError
    from edge.export import checkpoint, onnx_model, token_check
    from edge.export.workers import onnx

    folder, dialect = checkpoint.inspect(request["checkpoint"]), dialects.get("functiongemma")
    shape, tokens = onnx_model.read(folder, dialect)
    context = onnx_model.context_of(shape, None)
    strings = token_check.strings(dialect, dialect.FUNCTION_TOKENS)
    probe = onnx.Probe(folder, onnx._load(folder), max(strings, key=len), context)
    said = {}
    for name, fault in {"nothing": lambda _: None, **FAULTS}.items():
        broken = Path(request["out"], name)
        shutil.copytree(request["folder"], broken)
        fault(broken)
        try:
            onnx._describe(broken, onnx_model.parse("f32"), shape, tokens, context, probe, 0.0)
            onnx._check_genai(broken, dialect, strings)
            said[name] = ""
        except EdgeError as error:
            said[name] = f"{error.kind}: {error.message}"
        shutil.rmtree(broken)
    return {"said": said}


def cut(folder):
    file = folder / "model.onnx.data"
    os.truncate(file, file.stat().st_size // 2)


def zeroed(folder):
    """A part of the weights that no header tells of."""
    with (folder / "model.onnx.data").open("r+b") as f:
        f.seek(5_000_000)
        f.write(bytes(200_000))


def config(**changes):
    def change(folder):
        file = folder / "genai_config.json"
        told = json.loads(file.read_text())
        told["model"].update(changes)
        file.write_text(json.dumps(told))

    return change


def tokenizer(change):
    def apply(folder):
        file = folder / "tokenizer.json"
        told = json.loads(file.read_text())
        change(told)
        file.write_text(json.dumps(told))

    return apply


def special(told):
    """As a tokenizer that hides the marker of text values from whoever decodes."""
    for token in told["added_tokens"]:
        if token["content"] == "<escape>":
            token["special"] = True


FAULTS = {
    "cut": cut,
    "zeroed": zeroed,
    "stops": config(eos_token_id=[1]),
    "start": config(bos_token_id=3),
    "context": config(context_length=1 << 20),
    "special": tokenizer(special),
}


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
