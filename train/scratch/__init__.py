"""How the embedded model is trained from nothing: tokenizer, start, data, arithmetic, examination, rounding.

The workers `tiny` and `exam` run in torch's environment and import this; nothing else does.
"""
