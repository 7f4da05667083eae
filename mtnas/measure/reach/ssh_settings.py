"""The `ssh:` mapping of a device.yaml, checked: nothing in it may weaken the check of the host's key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from mtnas.base.errors import JobError
from mtnas.base.tables import check_name

_HOST = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9_.:%\[\]-]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")
_PYTHON = re.compile(r"[A-Za-z0-9_./~+][A-Za-z0-9_./~+ -]*")

#: options of ssh that say where and with which key, and none that says how carelessly
OPTIONS = {
    name.lower(): name
    for name in (
        *("AddressFamily", "BindAddress", "CertificateFile", "Ciphers", "Compression", "ConnectTimeout"),
        *("HostKeyAlgorithms", "HostKeyAlias", "HostName", "IdentitiesOnly", "IdentityAgent", "IdentityFile"),
        *("KexAlgorithms", "MACs", "Port", "ProxyJump", "PubkeyAcceptedAlgorithms", "ServerAliveCountMax"),
        *("ServerAliveInterval", "StrictHostKeyChecking", "User", "UserKnownHostsFile"),
    )
}


@dataclass(frozen=True, kw_only=True)
class SshSettings:
    """How to reach a host.

    Args:
        host: name or address, or an alias of the user's ssh config.
        port: 0 leaves it to ssh.
        user: empty leaves it to ssh.
        python: the interpreter there, a name or a path.
        folder: where files lie while measuring, relative to the home folder there.
        options: further `KEY=VALUE` options of ssh, from a list of harmless ones.
        keep: leave files there, so that the next measurement sends them no more.
        patience_s: how long to try again after a connection was lost, and to wait for a network that takes long.
    """

    host: str
    port: int = 0
    user: str = ""
    python: str = "python3"
    folder: str = ".cache/mtnas"
    options: tuple[str, ...] = ()
    keep: bool = False
    patience_s: float = 900.0

    @staticmethod
    def of(raw: Mapping[str, Any], where: str) -> SshSettings:
        """From the mapping in a device.yaml; an unknown key or a dangerous option is a `JobError`."""
        known = {f.name: f for f in fields(SshSettings)}
        for key in raw:
            check_name(str(key), known, "key", where=where)
        if not raw.get("host"):
            raise JobError(
                "the key 'host'",
                received=f"only {sorted(raw)}",
                where=where,
                cure="write ssh: {host: <name or address>} into device.yaml",
            )
        values = {**raw, "options": tuple(str(option) for option in raw.get("options") or ())}
        _check_types(values, where)
        settings = SshSettings(**values)
        settings._check_words(where)
        _check_options(settings.options, where)
        return settings

    def _check_words(self, where: str) -> None:
        """Words that ssh or a shell would see: none may be taken for an option or a command."""
        for name, pattern in (("host", _HOST), ("user", _USER), ("python", _PYTHON)):
            value = getattr(self, name)
            if value and not pattern.fullmatch(value):
                raise JobError(f"a plain {name}", received=repr(value), where=f"{where}.{name}")
        if not self.folder.strip("/. ") or any(ord(c) < 32 for c in self.folder) or ".." in self.folder.split("/"):
            raise JobError("a folder for our files alone", received=repr(self.folder), where=f"{where}.folder")
        if not 0 <= self.port < 65536 or self.patience_s <= 0:
            raise JobError("a port below 65536 and a patience_s above zero", where=where)

    def words(self) -> list[str]:
        """The part of ssh's command line that says where to go, without the host."""
        found = [word for option in self.options for word in ("-o", option)]
        found += ["-p", str(self.port)] if self.port else []
        return found + (["-l", self.user] if self.user else [])

    @property
    def title(self) -> str:
        return (f"{self.user}@" if self.user else "") + self.host + (f":{self.port}" if self.port else "")


def _check_types(values: Mapping[str, Any], where: str) -> None:
    wanted = {"port": (int,), "keep": (bool,), "patience_s": (int, float), "options": (tuple,)}
    for key, value in values.items():
        if not isinstance(value, wanted.get(key, (str,))) or (isinstance(value, bool) and key != "keep"):
            raise JobError(f"another type of value for {key}", received=repr(value), where=f"{where}.{key}")


def _check_options(options: tuple[str, ...], where: str) -> None:
    pairs = {}
    for option in options:
        key, equals, value = option.partition("=")
        if key.strip().lower() not in OPTIONS or not equals or not value.strip() or "\n" in option:
            raise JobError(
                "options of ssh as KEY=VALUE, KEY one of " + ", ".join(OPTIONS.values()),
                received=repr(option),
                where=f"{where}.options",
                cure="put anything else into your own ssh config, under an alias used as host",
            )
        pairs[key.strip().lower()] = value.strip().lower()
    strict, known = pairs.get("stricthostkeychecking", "yes"), pairs.get("userknownhostsfile", "")
    careless = strict != "yes" and not (strict == "accept-new" and known)
    if careless or known.split(" ")[0] in {"/dev/null", "none"}:
        raise JobError(
            "the host's key to be checked",
            received=", ".join(options),
            where=f"{where}.options",
            cure="connect once by hand with ssh and confirm the key, or give UserKnownHostsFile=FILE, with which "
            "StrictHostKeyChecking=accept-new is allowed",
        )
