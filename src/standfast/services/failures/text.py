"""What a service's last lines say, without what varies: the tail that is read, and an end's fingerprint.

1. Only the tail is read: the last 8 KB, of lines that are cut at 2,000 characters. However much a service
   writes, reading what it said last costs the same.
2. Frames of a stack and lines of an access log name no cause: they are left out before the tail is cut.
3. A line that calls itself information, or says that something is tried again, is weaker than an error.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from standfast.services.model import ExitStatus

MOST_CHARS = 8_192
MOST_LINES = 200
#: How much of one line is read: its beginning names the error, its end the reason.
_HEAD, _END = 1_500, 500
_FINGERPRINT_CHARS = 200

_ANSI = re.compile(r"\x1b(?:\[[0-9;?]{0,32}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ufeff\ufffd]")
_QUOTES = str.maketrans(dict.fromkeys('"`´‘’‚“”„«»', "'"))
_FRAME = re.compile(
    r"\s*(?:at [\w.$<>\[\]/@:-]+\s?[(:]"
    r"|at (?:new |async )?[\w.$<>\[\]/@:-]+ \(|File \"[^\"]{1,300}\", line \d"
    r"|File '[^']{1,300}', line \d|[~^]{2,}|\^$|\.\.\. \d+ (?:more|common frames)|#\d+ +0x|goroutine \d+ \["
    r"|created by |/\S{1,300}\.go:\d+|\d+: +0x[0-9a-f]{6,}|from /\S{1,300}\.rb:\d+:in |note: run with )"
)
_ACCESS = re.compile(
    r"'?(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) [^'\s]{1,1500} HTTP/\d(?:\.\d)?'? [1-5]\d\d\b"
)
_CALM = re.compile(
    r"(?:^|[\s\[(<|:'=,{])(?:level'?\s?[=:]\s?'?|lvl=)?(debug|info|trace|notice|warn|warning)(?:[\s\])>|:',]|$)",
    re.IGNORECASE,
)
_AGAIN = re.compile(
    r"\b(?:retry(?:ing)?|retries left|will try again|trying again|try again in|reconnect(?:ing)? (?:in|to)"
    r"|attempt #?\d+(?:/| of )\d+|backing off)\b",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"\b(?:falling back|fall back to|fallback|ignoring|ignored|skipping|skipped|optional|continuing without"
    r"|will be disabled|is disabled|using default|non-fatal|not fatal|harmless)\b",
    re.IGNORECASE,
)
_WRONG = re.compile(
    r"error|exception|fatal|panic|fail|abort|cannot|can't|could ?n[o']t|unable|denied|refused|invalid|missing"
    r"|no such|not (?:found|exist|registered|supported|compatible|permitted|allowed|recogni[sz]ed)|unknown"
    r"|undefined|unexpected|killed|time[ds]?[ -]?out|critical|assert|segmentation|core dumped|in use|exceeded"
    r"|mismatch|out of memory|unauthori[sz]ed|forbidden|required|expired|unsupported|exhausted",
    re.IGNORECASE,
)
_EPILOGUE = re.compile(
    r"\s*(?:Node\.js v\d|exit status \d|\[?Process completed|npm (?:ERR!|error) (?:A complete log|code|errno)"
    r"|For debugging consider|Compile with `?'?TORCH|Run '?`?\S+ (?:run )?--help|stack backtrace:"
    r"|See '\S+ |note: )"
)

_VARIES = re.compile(
    r"https?://[^\s'\"<>]{1,500}"
    r"|\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"
    r"|\b\d{4}[-/]\d\d[-/]\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d{1,9})?(?:Z| ?[+-]\d\d:?\d\d| UTC)?)?"
    r"|\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d \d\d:\d\d:\d\d\b"
    r"|(?<![\w:])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])"
    r"|\b0x[0-9a-f]{1,64}\b"
    r"|(?<![\w.])~?(?:/[\w.+@%=~-]{1,255}){1,64}/?"
    r"|\btmp[\w-]{6,64}"
    # Addresses of accounts (base58), tokens, digests, names that something numbered itself.
    r"|\b(?=[A-Za-z]{0,64}\d)(?=[0-9]{0,64}[A-Za-z])[A-Za-z0-9]{16,128}\b"
    r"|\b[0-9a-f]{8,128}\b"
    r"|\b\d+(?:[.,:]\d+)*(?:[kmgt]?i?b|[num]?s|min|h|%)?\b|\d+",
    re.IGNORECASE,
)


class Tail(NamedTuple):
    """The last lines, cleaned.

    ``lower`` has them in small letters, one below the other, and ``starts`` where each begins there.
    ``frames`` has what was left out: it names no cause, and may say where one arose.
    """

    lines: tuple[str, ...]
    lower: str
    starts: tuple[int, ...]
    frames: tuple[str, ...] = ()

    def line_at(self, offset: int) -> int:
        """Return the number of the line that ``offset`` in ``lower`` is on."""
        return bisect_right(self.starts, offset) - 1


def tail(lines: Sequence[str]) -> Tail:
    """Return what is read of ``lines``: the last ones, without frames, at most 8 KB."""
    kept: list[str] = []
    frames: list[str] = []
    size = 0
    # Bounded twice: every turn takes one line, and frames count towards the most that is looked at.
    for line in reversed(lines[-MOST_LINES * 5 :]):
        text = clean(line)
        if not text or _ACCESS.search(text):
            continue
        if _FRAME.match(text):
            frames.append(text)
            continue
        size += len(text) + 1
        if kept and (size > MOST_CHARS or len(kept) >= MOST_LINES):
            break
        kept.append(text)
    return _tail_of(tuple(reversed(kept)), tuple(frames[:MOST_LINES]))


def _tail_of(lines: tuple[str, ...], frames: tuple[str, ...]) -> Tail:
    lowers = [line.lower() for line in lines]
    starts = accumulate((len(line) + 1 for line in lowers[:-1]), initial=0) if lines else ()
    return Tail(lines, "\n".join(lowers), tuple(starts), frames)


def clean(line: str) -> str:
    """Return ``line`` without colours, control characters, and with one kind of quote and of space."""
    if len(line) > _HEAD + _END:
        line = f"{line[:_HEAD]} {line[-_END:]}"
    line = _ANSI.sub("", line).replace('\\"', "'").translate(_QUOTES)
    return " ".join(_CONTROL.sub(" ", line).split())


def weight(line: str) -> float:
    """Return how much a line counts: 1 for an error, less where it calls itself harmless or temporary."""
    calm = _CALM.search(line[:120])
    found = 1.0
    if calm:
        found = 0.8 if calm[1].lower().startswith("warn") else 0.5
    found *= 0.8 if _AGAIN.search(line) else 1.0
    return found * 0.6 if _HARMLESS.search(line) else found


def error_line(lines: Sequence[str]) -> str:
    """Return the line that says what went wrong: the last one that speaks of an error, or the last one."""
    return _error_line_of(tail(lines))


def _error_line_of(read: Tail) -> str:
    spoken = [line for line in read.lines if not _EPILOGUE.match(line)]
    for line in reversed(spoken):
        if _WRONG.search(line) and weight(line) > 0.5:
            return line
    return spoken[-1] if spoken else (read.lines[-1] if read.lines else "")


def normalise(line: str) -> str:
    """Return ``line`` with everything that varies between two equal failures replaced by ``#``."""
    return " ".join(_VARIES.sub("#", clean(line)).split())[:_FINGERPRINT_CHARS]


def fingerprint(status: ExitStatus, was_ready: bool, lines: Iterable[str]) -> tuple[int, int, bool, str]:
    """Return what makes two ends the same: status, phase, and the last error without what varies."""
    return status.code, status.signal_number, was_ready, normalise(error_line(tuple(lines)))


def error_chain(lines: Sequence[str], *, most: int = 3) -> tuple[str, ...]:
    """Return the last lines that speak of an error, the latest first; for a person."""
    read = tail(lines)
    found = [line for line in reversed(read.lines) if _WRONG.search(line) and not _EPILOGUE.match(line)]
    return tuple(found[:most])
