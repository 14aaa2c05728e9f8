"""The arguments that name an identity and the registry that is asked about it."""

from __future__ import annotations

import argparse
from pathlib import Path

from generation_stack.network.registry import BittensorRegistry, FileRegistry, Registry, Wallet
from generation_stack.program.arguments import whole


def add_registry(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the registry."""
    parser.add_argument(
        "--registry", choices=("file", "bittensor"), default="file", help="who is asked (default %(default)s)"
    )
    parser.add_argument("--file", type=Path, default=Path("registry.json"), help="(default %(default)s)")
    parser.add_argument("--network", default="finney", help="Bittensor network (default %(default)s)")
    parser.add_argument("--netuid", type=whole(0, 65_535), default=17, help="subnet (default %(default)s)")


def add_wallet(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the identity."""
    parser.add_argument("--hotkey", required=True, help="name of the hotkey")
    parser.add_argument("--wallet-name", default="validator", help="(default %(default)s)")
    parser.add_argument("--wallet-path", default="~/.bittensor/wallets/", help="(default %(default)s)")


def registry_of(options: argparse.Namespace) -> Registry:
    """Return the registry that was named."""
    return (
        BittensorRegistry(options.network) if options.registry == "bittensor" else FileRegistry(options.file)
    )


def wallet_of(options: argparse.Namespace) -> Wallet:
    """Return the identity that was named."""
    return Wallet(options.wallet_name, options.hotkey, options.wallet_path, options.netuid)
