"""The hub's token: where it is looked for, in which order, and how it reaches a worker without being written down.

    1  HF_TOKEN               in the environment
    2  HUGGINGFACE_HUB_TOKEN  in the environment
    3  the same two           in `.env` of the project's folder
    4  the hub's own login    what `hf auth login` left: HF_TOKEN_PATH, or `token` in HF_HOME

The first that is not empty is taken. A worker gets it in its environment, never in its request or on its command line,
which other users of the machine can read; nothing here is logged or saved. Only tokens are read from `.env`: an address
of the hub in a project from elsewhere would send the user's token there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple, Optional

from edge.errors import EdgeError

NAMES = ("HF_TOKEN", "HUGGINGFACE_HUB_TOKEN")
NONE = "none"


class Token(NamedTuple):
    """A token and where it is from. Its `repr` and `str` leave the token out."""

    value: Optional[str]
    source: str  # "HF_TOKEN", "HF_TOKEN in FOLDER/.env", a file, or NONE

    def __repr__(self) -> str:
        return f"Token(from {self.source})"

    __str__ = __repr__


def token(folder: Optional[Path] = None) -> Token:
    """The token to use, and where it is from; Token(None, "none") if there is none.

    Args:
        folder: the project's, whose `.env` counts; None for the current one.

    Raises: EdgeError, which doesn't show it, for what can't be a token.
    """
    file = (folder or Path()) / ".env"
    places = [(os.environ.get(name), name) for name in NAMES]
    told = _dotenv(file)
    places += [(told.get(name), f"{name} in {file}") for name in NAMES]
    saved = login_file()
    places.append((_text(saved), str(saved)))
    for value, source in places:
        if value and value.strip():
            return Token(_checked(value.strip(), source), source)
    return Token(None, NONE)


def variables(found: Token) -> dict[str, str]:
    """What to add to a worker's environment, so that it uses this token and no other.

    Of the hub's own login nothing is passed on: the hub's library reads it itself, and renews it where it runs out.
    """
    own = found.source == str(login_file())
    return {"HF_TOKEN": "" if own or not found.value else found.value, "HUGGING_FACE_HUB_TOKEN": ""}


def login_file() -> Path:
    """Where the hub's own login is kept, as its library looks for it."""
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return Path(os.path.expandvars(os.environ.get("HF_TOKEN_PATH") or f"{home}/token")).expanduser()


def _checked(value: str, source: str) -> str:
    """A line end or a letter that no header can carry would come back in the HTTP library's error, token and all."""
    if not re.fullmatch(r"[!-~]+", value):
        raise EdgeError(
            f"{source}: what is there is no token: it has a space, a line end or a character that no token has",
            "copy the token again, whole and alone",
        )
    return value


def _dotenv(file: Path) -> dict[str, str]:
    """The tokens in a `.env`: NAME=value a line, with or without `export` and quotes."""
    found = {}
    for line in (_text(file) or "").splitlines():
        match = re.match(r"\s*(?:export\s+)?(\w+)\s*=\s*(.*?)\s*$", line)
        if match and match[1] in NAMES:
            quoted = re.match(r"""(["'])(.*?)\1\s*(?:#.*)?$""", match[2])
            found[match[1]] = quoted[2] if quoted else re.split(r"(?:^|\s)#", match[2])[0].strip()
    return found


def _text(file: Path) -> Optional[str]:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
