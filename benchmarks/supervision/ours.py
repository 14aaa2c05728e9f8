"""Ours: placeholder."""

from typing import ClassVar

from benchmarks.supervision import install
from benchmarks.supervision.stack import Instance


class Ours(Instance):
    name: ClassVar[str] = "ours"
    about: ClassVar[str] = ""

    def prepare(self) -> None:
        raise install.MissingError("not there yet")


class OursTcp(Ours):
    name: ClassVar[str] = "ours-tcp"
    is_variant: ClassVar[bool] = True
