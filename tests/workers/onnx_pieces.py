"""Whether the onnx worker's k_quant in pieces rounds as the quantizer does at once.

Answer: equal (of codes, scales and zero points, for 4 and 8 bits), pieces (how many the matrix was cut into).
It runs in the environment of the onnx worker.
"""

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])


def main(request, reply):
    import numpy as np
    from onnxruntime.quantization.neural_compressor.weight_only import quant_tensor_k_quant_cpu

    from edge.export.workers import onnx

    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((640, 3000)) * 0.04).astype(np.float32)  # transposed, as the quantizer hands it over
    weight[:, 7] = 0  # a row of blocks without a range
    calls = []

    def counted(data, *arguments):
        calls.append(len(data))
        return quant_tensor_k_quant_cpu(data, *arguments)

    equal = []
    for bits in (4, 8):
        whole = quant_tensor_k_quant_cpu(weight.T, bits, 32)
        found = onnx._in_pieces(counted)(weight.T, bits, 32)
        equal += [bool(np.array_equal(a, b)) for a, b in zip(whole, found, strict=True)]
    return {"equal": equal, "pieces": len(calls) // 2}


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
