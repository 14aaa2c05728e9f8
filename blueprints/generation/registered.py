"""Says whether a hotkey is registered: exit code 0 yes, 1 no, 75 when that cannot be told.

It is the precondition of the miner in ``standfast.toml``. It changes nothing, unless a person calls it with
``--register``, which writes the hotkey into the file of the file registry. A chain costs money: for that the
command is shown and never run.
"""

from __future__ import annotations

import argparse
import os
import sys

from generation_stack.network.arguments import add_registry, add_wallet, registry_of, wallet_of
from generation_stack.network.registry import FileRegistry, Registered, RegistryError

_CODES = {Registered.YES: os.EX_OK, Registered.NO: 1, Registered.UNKNOWN: os.EX_TEMPFAIL}


def main() -> None:
    """Look, or write where a person asks for it."""
    parser = argparse.ArgumentParser(
        description="Say whether a hotkey is registered: 0 yes, 1 no, 75 unknown."
    )
    add_registry(parser)
    add_wallet(parser)
    parser.add_argument("--register", action="store_true", help="write the hotkey into --file")
    options = parser.parse_args()
    registry, wallet = registry_of(options), wallet_of(options)
    if options.register:
        if not isinstance(registry, FileRegistry):
            parser.error("--register is for the file registry only; on a chain it spends money")
        try:
            registry.register(wallet)
        except RegistryError as error:
            sys.exit(f"not registered: {error}")
    answer = registry.look(wallet)
    stream = sys.stdout if answer.registered is Registered.YES else sys.stderr
    stream.write(f"{answer.message(wallet)}\n")
    sys.exit(_CODES[answer.registered])


if __name__ == "__main__":
    main()
