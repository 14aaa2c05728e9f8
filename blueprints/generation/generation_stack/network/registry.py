"""Where identities are registered: a file, or the Bittensor chain. Nothing here ever registers anybody.

The answer is one of three: registered, not registered, or unknown. Unknown is never taken for registered.
"""

from __future__ import annotations

import enum
import importlib
import importlib.util
import json
import re
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, Protocol

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class Wallet(NamedTuple):
    """An identity as Bittensor's tools name it."""

    name: str
    hotkey: str
    path: str
    netuid: int

    def __str__(self) -> str:
        return f"Wallet (Name: '{self.name}', Hotkey: '{self.hotkey}', Path: '{self.path}')"


class Registered(enum.Enum):
    """What a registry says about an identity."""

    YES = "registered"
    NO = "not registered"
    UNKNOWN = "unknown"


class Answer(NamedTuple):
    """What a registry says, why, and the command that would change it; that is shown and never run."""

    registered: Registered
    reason: str
    fix: str = ""

    def message(self, wallet: Wallet) -> str:
        """Return one sentence for people, in the words that miners of the field use."""
        if self.registered is Registered.NO:
            said = f"Wallet {wallet} not registered on netuid {wallet.netuid}."
            return f"{said} Please register using `{self.fix}`"
        if self.registered is Registered.UNKNOWN:
            return f"whether {wallet} is registered on netuid {wallet.netuid} cannot be told: {self.reason}"
        return f"{wallet} is registered on netuid {wallet.netuid}"


class Registry(Protocol):
    """Something that knows who is registered."""

    def look(self, wallet: Wallet) -> Answer:
        """Return what it says now; never raises, never remembers."""

    def public_key(self, wallet: Wallet) -> str:
        """Return the key that is registered for a hotkey, or nothing where none is laid down."""


class FileRegistry:
    """A JSON file: ``{"17": {"sn17miner2": ""}}``; the text beside a hotkey is its public key, or empty.

    An empty one leaves the key open: the first that a validator sees is then the hotkey's own.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def look(self, wallet: Wallet) -> Answer:
        """Look into the file."""
        try:
            entries = self._entries()
        except RegistryError as error:
            return Answer(Registered.UNKNOWN, str(error), f"put {self._path} right")
        if wallet.hotkey in entries.get(str(wallet.netuid), {}):
            return Answer(Registered.YES, f"{self._path} names it")
        return Answer(Registered.NO, f"{self._path} does not name it", self._fix(wallet))

    def _fix(self, wallet: Wallet) -> str:
        program = Path(__file__).resolve().parents[2] / "registered.py"
        options = ["--file", str(self._path), "--netuid", str(wallet.netuid), "--hotkey", wallet.hotkey]
        return shlex.join([sys.executable, str(program), "--register", *options])

    def public_key(self, wallet: Wallet) -> str:
        """Return the key beside the hotkey."""
        try:
            return self._entries().get(str(wallet.netuid), {}).get(wallet.hotkey, "")
        except RegistryError:
            return ""

    def register(self, wallet: Wallet) -> None:
        """Write a hotkey into the file; only ever called by a person's own command. Raises RegistryError."""
        if not _NAME.fullmatch(wallet.hotkey):
            raise RegistryError(f"'{wallet.hotkey}' is no name of a hotkey")
        entries = self._entries() if self._path.exists() else {}
        entries.setdefault(str(wallet.netuid), {}).setdefault(wallet.hotkey, "")
        part = self._path.with_suffix(".part")
        try:
            part.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n", "utf-8")
            part.replace(self._path)
        except OSError as error:
            raise RegistryError(f"{self._path} cannot be written: {error.strerror}") from error

    def _entries(self) -> dict[str, dict[str, str]]:
        try:
            data = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError as error:
            raise RegistryError(f"{self._path} is not there") from error
        except OSError as error:
            raise RegistryError(f"{self._path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise RegistryError(f"{self._path} is not JSON: {error}") from error
        if not _is_registry(data):
            raise RegistryError(f'{self._path} must read {{"NETUID": {{"HOTKEY": "PUBLIC KEY OR EMPTY"}}}}')
        return dict(data)


class RegistryError(Exception):
    """A registry cannot be read or written."""


def _is_registry(data: Any) -> bool:
    return isinstance(data, dict) and all(
        netuid.isdigit() and isinstance(hotkeys, dict) and all(isinstance(k, str) for k in hotkeys.values())
        for netuid, hotkeys in data.items()
    )


class BittensorRegistry:
    """The Bittensor chain, asked with its own SDK (``pip install 'standfast[bittensor]'``)."""

    def __init__(self, network: str) -> None:
        self._network = network

    def look(self, wallet: Wallet) -> Answer:
        """Ask the chain; takes seconds."""
        if importlib.util.find_spec("bittensor") is None:
            return Answer(
                Registered.UNKNOWN, "No module named 'bittensor'", "pip install 'standfast[bittensor]'"
            )
        try:
            bittensor = importlib.import_module("bittensor")
            is_registered = _ask(bittensor, self._network, wallet)
        # The edge to foreign code: whatever the SDK raises, nothing was learnt.
        except Exception as error:  # noqa: BLE001
            reason = f"{type(error).__name__}: {error}"
            return Answer(Registered.UNKNOWN, reason, f"look whether {self._network} can be reached")
        if is_registered:
            return Answer(Registered.YES, f"{self._network} names it")
        return Answer(Registered.NO, f"{self._network} does not name it", btcli(wallet, _major("bittensor")))

    def public_key(self, wallet: Wallet) -> str:
        """Return nothing: the chain's keys are of another kind than those of the blueprint's validator."""
        return ""


def _ask(bittensor: Any, network: str, wallet: Wallet) -> bool:
    make_wallet = getattr(bittensor, "Wallet", None) or bittensor.wallet
    make_subtensor = getattr(bittensor, "Subtensor", None) or bittensor.subtensor
    address = make_wallet(name=wallet.name, hotkey=wallet.hotkey, path=wallet.path).hotkey.ss58_address
    subtensor = make_subtensor(network=network)
    if hasattr(subtensor, "is_hotkey_registered"):  # Up to version 10.
        return bool(subtensor.is_hotkey_registered(hotkey_ss58=address, netuid=wallet.netuid))
    return subtensor.neurons.uid(hotkey_ss58=address, netuid=wallet.netuid) is not None


def btcli(wallet: Wallet, major: int) -> str:
    """Return the command of Bittensor's own tool; its options have other names from version 11 on."""
    names = ("--wallet", "--wallet-hotkey") if major >= 11 else ("--wallet.name", "--wallet.hotkey")
    options = [names[0], wallet.name, names[1], wallet.hotkey]
    return shlex.join(["btcli", "subnets", "register", "--netuid", str(wallet.netuid), *options])


def _major(distribution: str) -> int:
    try:
        return int(metadata.version(distribution).split(".")[0])
    except (metadata.PackageNotFoundError, ValueError):
        return 0
