"""Rows before training: looked at, counted, filtered, split and converted. One file per command of `edge data`.

    source.py   files, tools and dialect of one call; lines beside the rows that `train/readers` made of them
    text.py     what a user said: normalised, with its values masked, in which script
    near.py     near-duplicates: MinHash over character 5-shingles, verified
    tokens.py   token counts, by a worker
    output.py   files that are written whole, never over another unless told so

Every reading goes through `train/readers`: what `edge run` would reject, these reject, for the same reason.
"""
