"""What ssh says when the way to a device fails, and what to do about it: one table, read from top to bottom.

ssh's status 255 is the way's, every other one the command's. It is told in words only; they are the same in every language
(OpenSSH translates nothing) and have been for years.
"""

from __future__ import annotations

import re

from edge.devices import Lost
from edge.errors import DeviceError

# What ssh said, whether it may pass, what happened, what to do. {host}: as it was given to ssh; {at}: with options to type.
_TABLE = (
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed", False,
     "its host key is another one than last time, so nothing is sent there",
     "was its system installed anew? Compare the fingerprint there (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then "
     "`ssh-keygen -R {key}` and `ssh {at}` once; if nothing was changed there, another machine answers in its place"),
    (r"REVOKED HOST KEY", False, "its host key is one that you revoked", "another machine answers in its place"),
    (r"Host key verification failed|No \S+ host key is known|Host key fingerprint is", False,
     "its host key is not known here", "run `ssh {at}` once and compare the fingerprint with the device's own"),
    (r"Permission denied", False, "it refuses our keys (passwords are not used)",
     "`ssh-copy-id {at}`, or `ssh-add` if your key has a passphrase; `ssh {at} true` must then work without a question"),
    (r"Too many authentication failures", False, "it was offered too many keys",
     "name the key in ~/.ssh/config: IdentityFile, and IdentitiesOnly yes"),
    (r"bad permissions|UNPROTECTED PRIVATE KEY|Bad owner or permissions", False, "a key or configuration file is open to others",
     "chmod 600 on the file that ssh names"),
    (r"Bad configuration option|Can't open user config file|terminating, \d+ bad configuration", False,
     "the ssh configuration can't be read", "mend the file that ssh names (`config` in devices.toml, EDGE_SSH_CONFIG)"),
    (r"Could not resolve hostname", True, "there is no host of that name on this network",
     "is it on, and on this network? Names in .local need mDNS (avahi); an address works as well"),
    (r"Connection refused", True, "it is there, but nothing answers on that port",
     "is it starting? Else on the device: sudo systemctl enable --now ssh; or another port: ssh:{host}:PORT"),
    (r"timed out|No route to host|Network is unreachable|Host is down", True, "it does not answer",
     "is it on, and on this network?"),
    (r"no matching (host key|key exchange|cipher|mac)|kex_exchange_identification: banner|Bad protocol|Protocol major", False,
     "what answers there speaks no ssh that this ssh accepts", "is it the right port?"),
)  # fmt: skip
_NOISE = re.compile(r"^(Warning: Permanently added|\*\* |Pseudo-terminal|@+$|debug\d)")


def failure(name: str, host: str, port: int | None, said: str) -> DeviceError:
    """The error for a status of 255. `said`: what ssh wrote; of a log the end of it."""
    at = f"-p {port} {host}" if port else host
    bare = host.rpartition("@")[2]
    key = f"'[{bare}]:{port}'" if port and port != 22 else bare
    for pattern, passes, what, hint in _TABLE:
        if re.search(pattern, said, re.IGNORECASE if pattern[0].isupper() else 0):
            error = Lost if passes else DeviceError
            return error(f"{name} ({host}): {what}{_where(pattern, said)}", hint.format(host=host, at=at, key=key))
    lines = [line.strip() for line in said.splitlines() if line.strip() and not _NOISE.match(line.strip())]
    return Lost(
        f"{name} ({host}): the connection was lost{f' ({lines[-1][:160]})' if lines else ''}",
        "wait until it is back, then run the same command again: what is finished is kept",
    )


def _where(pattern: str, said: str) -> str:
    """The line of known_hosts that contradicts, or the words that name a file."""
    if offending := re.search(r"Offending \S+ key in (\S+)", said):
        return f" ({offending[1]})"
    if "config" in pattern or "permissions" in pattern:
        named = [line for line in said.splitlines() if re.search(pattern, line)]
        return f" ({named[0].strip()[:160]})" if named else ""
    return ""
