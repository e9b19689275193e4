"""What a worker says when the hub doesn't give what it was asked for: each case its own message with the remedy.

For workers, in whose environment huggingface_hub is. The hub's words and those of its library are not passed on as they
are: they name the library's arguments, and a faulty token comes back whole in the HTTP library's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from edge.errors import EdgeError, MissingError, WorkerError

NOBODY = "none"  # the `login` of someone who isn't logged in


@contextlib.contextmanager
def told(
    name: str, login: str, revision: Optional[str] = None, writing: bool = False, kind: str = "model"
) -> Iterator[None]:
    """Turn whatever the hub's library raises into an EdgeError.

    Args:
        name: the repository. login: where the token is from, for the messages. writing: was this on the way up.
        kind: "model" or "dataset".
    """
    try:
        yield
    except EdgeError:
        raise
    except Exception as error:
        found = _Case(name, login, revision, writing, kind).of(error)
        if found is None:
            print(without_token(traceback.format_exc()), file=sys.stderr)
            found = WorkerError(without_token(f"{name}: {type(error).__name__}: {error}"))
        raise found from None


def without_token(text: str) -> str:
    """The text with every token that this process knows left out, in pieces: an error may show it escaped."""
    from huggingface_hub import get_token

    known = [os.environ.get("HF_TOKEN") or ""]
    with contextlib.suppress(Exception):
        known.append(get_token() or "")
    for piece in re.findall(r"[!-~]{4,}", " ".join(known)):
        text = text.replace(piece, "[token]")
    return text


def full_disk(folder: Path, needed: Optional[int] = None) -> MissingError:
    free = shutil.disk_usage(folder).free
    takes = f"{needed / 1e6:,.0f} MB are still to come, and " if needed is not None else ""
    return MissingError(
        f"{folder}: the disk is full: {takes}{free / 1e6:,.0f} MB are free",
        "free some and run it again: what came so far is kept",
    )


class _Case:
    def __init__(self, name: str, login: str, revision: Optional[str], writing: bool, kind: str) -> None:
        from huggingface_hub import constants

        self._name, self._login, self._revision, self._writing = name, login, revision, writing
        self._endpoint = constants.ENDPOINT
        self._page = f"{self._endpoint}/{'datasets/' if kind == 'dataset' else ''}{name}"
        self._anonymous = login == NOBODY

    def of(self, error: BaseException) -> Optional[EdgeError]:
        """None for what is not foreseen."""
        import httpx2
        from huggingface_hub import errors

        for cause in _chain(error):
            if isinstance(cause, errors.OfflineModeIsEnabled):
                return MissingError(
                    f"{self._name}: HF_HUB_OFFLINE is set, so the hub is not asked", "unset it, or use what is here"
                )
            if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
                return full_disk(Path())
            if isinstance(cause, errors.GatedRepoError):
                return self._gated()
            if isinstance(cause, errors.RevisionNotFoundError):
                return self._no_revision()
            if isinstance(cause, errors.RepositoryNotFoundError):
                return self._no_repository()
            if isinstance(cause, errors.HfHubHTTPError) and cause.response is not None:
                return self._status(cause.response.status_code)
            if isinstance(cause, errors.HFValidationError):
                return EdgeError(f"{self._name}: no name that the hub could have", "names are owner/name")
            if isinstance(cause, httpx2.UnsupportedProtocol):
                return EdgeError(f"HF_ENDPOINT: {self._endpoint!r} is no address", "such as https://huggingface.co")
            if isinstance(cause, httpx2.TransportError) and not isinstance(cause, httpx2.LocalProtocolError):
                return self._unreachable(cause)
        return None

    def _gated(self) -> EdgeError:
        if self._anonymous:
            return MissingError(
                f"{self._name} is gated: only who has accepted its terms gets it, and nobody is logged in here",
                f"accept its terms on {self._page}, then set HF_TOKEN to a token with read access",
            )
        return MissingError(
            f"{self._name} is gated, and this login ({self._login}) has not been given access",
            f"accept its terms on {self._page} with the account of that token; a fine-grained token also needs its "
            "permission for gated repositories",
        )

    def _no_repository(self) -> EdgeError:
        """The hub says the same of what isn't there and of what isn't shown."""
        if self._anonymous:
            return EdgeError(
                f"{self._name}: the hub has no such repository, or it is private and not shown to whoever isn't logged in",
                "check the spelling; for a private one set HF_TOKEN",
            )
        return EdgeError(
            f"{self._name}: the hub has no such repository, or doesn't show it to this login ({self._login})",
            "check the spelling; a private one needs a token of somebody who may see it",
        )

    def _no_revision(self) -> EdgeError:
        known = []
        with contextlib.suppress(Exception):
            from huggingface_hub import HfApi

            refs = HfApi(token=os.environ.get("HF_TOKEN") or None).list_repo_refs(self._name)
            known = [ref.name for ref in (*refs.branches, *refs.tags)]
        hint = f"there are: {', '.join(known[:10])}" if known else "check the branch, tag or commit after the @"
        return EdgeError(f"{self._name} has no revision {self._revision!r}", hint)

    def _status(self, status: int) -> EdgeError:
        if status == 401:
            return MissingError(
                f"{self._name}: the hub doesn't take this token ({self._login}): 401",
                f"it is mistyped, has run out or was revoked: {self._endpoint}/settings/tokens makes a new one",
            )
        if status == 403:
            return self._forbidden()
        if status == 429:
            return WorkerError(
                f"{self._name}: too many questions to the hub: 429", "wait some minutes, then run it again"
            )
        if status in (409, 412):
            return WorkerError(f"{self._name}: someone else is writing there: {status}", "run it again")
        kept = "what is there already is not sent again" if self._writing else "what came so far is kept"
        return WorkerError(f"{self._name}: the hub answered {status}", f"run it again: {kept}")

    def _forbidden(self) -> EdgeError:
        if not self._writing:
            return MissingError(
                f"{self._name}: this login ({self._login}) may not read it: 403",
                f"a fine-grained token must name the repository or its owner: {self._endpoint}/settings/tokens",
            )
        user, role = _who()
        if role == "read":
            return MissingError(
                f"{self._name}: this token ({self._login}) may read and not write: 403",
                f"make one with write access on {self._endpoint}/settings/tokens, and set HF_TOKEN to it",
            )
        return MissingError(
            f"{self._name}: {user or 'this login'} ({self._login}) may not write there: 403",
            "push under your own name or an organisation that you may write to; a fine-grained token must name the repository",
        )

    def _unreachable(self, error: Exception) -> EdgeError:
        return MissingError(
            f"{self._name}: the hub at {self._endpoint} can't be reached ({type(error).__name__})",
            "check the network, its proxy and HF_ENDPOINT, then run it again"
            + ("" if self._writing else ", or give a folder; what came so far is kept"),
        )


def _who() -> tuple[Optional[str], Optional[str]]:
    """The user and the role of the token, as far as the hub says so."""
    with contextlib.suppress(Exception):
        from huggingface_hub import HfApi

        found = HfApi(token=os.environ.get("HF_TOKEN") or None).whoami()
        return found.get("name"), found.get("auth", {}).get("accessToken", {}).get("role")
    return None, None


def _chain(error: Optional[BaseException]) -> Iterator[BaseException]:
    """An error and what it was raised from: the library wraps what the hub said, sometimes twice."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
