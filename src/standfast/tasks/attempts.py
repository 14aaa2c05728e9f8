"""How tasks and attempts are named in the store and outside of it.

A task's id is the hex form of its key in the store. An attempt is a version 4 UUID whose first 48 bits are
its token.

Whoever is shown only the name finds the attempt by its primary key, so that no index has to be kept over
names; the other 74 bits are unpredictable, so that a name cannot be guessed from the ones before it.
"""

from __future__ import annotations

import re

#: How many characters of a name its token takes: 12 hex digits and the hyphen between them.
TOKEN_CHARS = 13
_NAME = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def attempt_tails(drawn: bytes) -> list[str]:
    """Return what follows the token in one name per 10 bytes of ``drawn``, which must be unpredictable."""
    # Written out here because uuid.UUID costs more than the SQL beside it.
    digits = drawn.hex()
    parts = (digits[start : start + 20] for start in range(0, len(digits), 20))
    return [f"-4{d[:3]}-{'89ab'[int(d[3], 16) & 3]}{d[4:7]}-{d[7:19]}" for d in parts]


def attempt_name(token: int, tail: str) -> str:
    """Return the name of the attempt that was granted ``token``; 48 bits outlast any store."""
    digits = f"{token:012x}"
    return f"{digits[:8]}-{digits[8:]}{tail}"


def token_of(name: object) -> int | None:
    """Return the token that ``name`` starts with; None for anything that cannot be the name of an attempt."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        return None
    return int(name[:8] + name[9:TOKEN_CHARS], 16) or None


_HEX = frozenset("0123456789abcdef")


def name_of(task_id: str) -> int | None:
    """Return the store's key for a task's id; None for anything that cannot be one."""
    is_id = len(task_id) == 16 and task_id[0] in "01234567" and _HEX.issuperset(task_id)
    return int(task_id, 16) if is_id else None
