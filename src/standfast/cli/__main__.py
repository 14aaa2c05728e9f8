"""``python -m standfast.cli`` is the command ``standfast``."""

from standfast.cli.main import run

if __name__ == "__main__":
    run()
