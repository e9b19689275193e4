# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["py-minisign==0.21.1", "cryptography==50.0.2"]
#
# [tool.edge]
# megabytes = 30
# environment = "sign"
# ///
"""minisign's signatures: made with a secret key, checked with a public one. The format's own library does both.

Request:
    do          "sign" or "check"
    file        what is signed
    key         sign: a file with a secret key; its password is in EDGE_SIGN_PASSWORD
    comment     sign: the trusted comment, one line, which the signature covers
    signature   check: the file of the signature
    public      check: a public key, as text, with or without its comment line

Answer:
    signature   sign: the text of the signature's file
    comment     check: the trusted comment
    problem     check: why the signature is none; then there is no comment

Fails with "input" for a key that is none, or whose password is missing or wrong.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])

from pathlib import Path
from typing import Any

from edge.errors import EdgeError
from edge.worker import Reply, serve

PASSWORD = "EDGE_SIGN_PASSWORD"


def main(request: dict[str, Any], reply: Reply) -> dict[str, Any]:
    data = Path(request["file"]).read_bytes()
    return _sign(data, request) if request["do"] == "sign" else _check(data, request)


def _sign(data: bytes, request: dict[str, Any]) -> dict[str, Any]:
    import minisign

    file = request["key"]
    try:
        key = minisign.SecretKey.from_file(file)
    except (minisign.Error, ValueError) as error:
        raise EdgeError(f"{file}: no minisign secret key: {error}", "minisign -G -s KEY makes one") from None
    if key.is_encrypted():
        password = os.environ.get(PASSWORD)
        if password is None:
            raise EdgeError(f"{file}: this key has a password", f"set {PASSWORD} for this command")
        try:
            key.decrypt(password)
        except minisign.Error as error:
            raise EdgeError(f"{file}: the password in {PASSWORD} doesn't open it: {error}") from None
    return {"signature": bytes(key.sign(data, trusted_comment=request["comment"])).decode() + "\n"}


def _check(data: bytes, request: dict[str, Any]) -> dict[str, Any]:
    import minisign

    text = request["public"].strip()
    try:
        public = minisign.PublicKey.from_base64(text.splitlines()[-1].strip())
    except (minisign.Error, ValueError, IndexError) as error:
        raise EdgeError(
            f"no minisign public key: {text[:60]!r}: {error}", "such as RWQf6LRCGA9i53ml…, or its file"
        ) from None
    try:
        signature = minisign.Signature.from_file(request["signature"])
        public.verify(data, signature)
    except minisign.ParseError as error:
        return {"problem": f"no signature: {error}"}
    except minisign.VerifyError as error:
        return {"problem": f"not made with this key over this contract: {error}"}
    return {"comment": signature.trusted_comment}


if __name__ == "__main__":
    serve(main)
