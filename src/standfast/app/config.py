"""One ``standfast.toml`` as values: read, checked, and refused with file, line and fix before a start."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, ValidationError

from standfast.app.config_errors import InvalidConfigError, problem_of
from standfast.app.config_gate import GateSettings
from standfast.app.config_problem import Problem
from standfast.app.config_rules import impossible
from standfast.app.config_sections import (
    ApiSettings,
    EvaluationSettings,
    ExecutorSettings,
    InstanceSettings,
    Many,
    PublicationSettings,
    SchedulerSettings,
    Section,
    StoreSettings,
    SubjectSettings,
    TaskSettings,
)
from standfast.app.config_services import ServiceSettings, StackSettings
from standfast.evaluation.environments.catalogue import Catalogue, load_catalogue
from standfast.kernel.errors import ConfigError
from standfast.tasks.model import TaskPolicy

FILE_NAME = "standfast.toml"
DATA_NAME = ".standfast"
#: Names that belong to compose and pm2; such a file is a stack of its own, without a configuration.
STACK_SUFFIXES = (".yml", ".yaml", ".json", ".js", ".cjs", ".mjs")
_COMPOSE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")

_LARGEST_FILE_BYTES = 1_000_000


class Config(Section):
    """Everything that an operator may choose; frozen, and whole or not there at all."""

    instance: InstanceSettings = Field(default_factory=InstanceSettings, description="Its name.")
    store: StoreSettings = Field(default_factory=StoreSettings, description="Where things are kept.")
    api: ApiSettings = Field(default_factory=ApiSettings, description="Where the HTTP API listens.")
    scheduler: SchedulerSettings = Field(default_factory=SchedulerSettings, description="Its pace.")
    tasks: TaskSettings = Field(default_factory=TaskSettings, description="Leases, retries and slots.")
    executor: ExecutorSettings = Field(default_factory=ExecutorSettings, description="Who runs episodes.")
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings, description="The rounds.")
    subjects: Many[SubjectSettings] = Field((), description="Who is evaluated.")
    publication: PublicationSettings = Field(
        default_factory=PublicationSettings, description="Where weights go."
    )
    stack: StackSettings = Field(default_factory=StackSettings, description="Stacks declared elsewhere.")
    services: Many[ServiceSettings] = Field((), description="Programs that it keeps running.")
    gate: GateSettings = Field(default_factory=GateSettings, description="What a deployment needs.")

    _source: Path = PrivateAttr(default_factory=lambda: Path(FILE_NAME).absolute())
    _data_dir: Path | None = PrivateAttr(default=None)

    @property
    def source(self) -> Path:
        """The file that the settings came from, absolute."""
        return self._source

    @property
    def folder(self) -> Path:
        """The folder of the file (the blueprint): relative paths in it count from here."""
        return self._source.parent

    @property
    def data_dir(self) -> Path:
        """Where the instance keeps what it writes; ``.standfast`` beside the file unless told otherwise."""
        return self._data_dir or self.folder / DATA_NAME

    @property
    def is_stack(self) -> bool:
        """Whether it declares services and nothing to evaluate: a stack needs no API and no scheduler."""
        has_network = self.subjects or self.evaluation.environments or "api" in self.model_fields_set
        return bool(self.services or self.stack.files) and not has_network

    def task_policy(self) -> TaskPolicy:
        """Return how leases, retries and slots behave."""
        return TaskPolicy(**self.tasks.model_dump(exclude={"heartbeat_s"}))

    def catalogue(self) -> Catalogue:
        """Return the environments that may be used; ConfigError for a package that cannot be."""
        return load_catalogue(self.evaluation.packages)

    def changed(
        self, *, port: int | None = None, data_dir: Path | None = None, profiles: Sequence[str] = ()
    ) -> Config:
        """Return the configuration with what a command line overrides; it is checked again."""
        raw = self.model_dump(exclude_unset=True)
        if profiles:
            raw = {**raw, "stack": {**raw.get("stack", {}), "profiles": tuple(profiles)}}
        if port is not None:
            raw = {**raw, "api": {**raw.get("api", {}), "port": port}}
        return build_config(raw, source=self.source, data_dir=data_dir or self._data_dir)


def load_config(path: Path, *, data_dir: Path | None = None) -> Config:
    """Read ``path`` (a file, or a folder with a ``standfast.toml``) and check every setting.

    A compose or ecosystem file, or a folder that has only such a one, is taken as a stack. Raises
    ConfigError where it is missing, unreadable or no TOML, and InvalidConfigError with everything that is
    wrong with its settings; environments that the catalogue does not know are refused too.
    """
    source = (path / FILE_NAME if path.is_dir() else path).absolute()
    stack = _bare_stack(path.absolute())
    if stack is not None:
        return _around(stack, "." if path.is_dir() else stack.name, data_dir)
    text = _read(source)
    config = parse_config(text, source=source, data_dir=data_dir)
    _need_environments(config, text)
    return config


def _bare_stack(path: Path) -> Path | None:
    """Return the file of a stack that has no configuration, or None."""
    if path.is_dir() and not (path / FILE_NAME).exists():
        return next((path / name for name in _COMPOSE_NAMES if (path / name).is_file()), None)
    return path if path.is_file() and path.suffix in STACK_SUFFIXES else None


def _around(stack: Path, named: str, data_dir: Path | None) -> Config:
    """Return a configuration that has nothing but the stack in ``stack``; data goes beside the file."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", stack.parent.name).lstrip("_.-")[:63] or "stack"
    return build_config(
        {"instance": {"name": name}, "stack": {"files": (named,)}}, source=stack, data_dir=data_dir
    )


def parse_config(text: str, *, source: Path | None = None, data_dir: Path | None = None) -> Config:
    """Return the configuration that ``text`` describes; raise as ``load_config`` does."""
    source = source or Path(FILE_NAME).absolute()
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{source.name} is not TOML: {error}",
            fix=f"mend that line of {source}; text needs quotes, true and false are lower case",
            code="NotToml",
        ) from None
    return build_config(raw, source=source, data_dir=data_dir, text=text)


def build_config(
    raw: Mapping[str, Any], *, source: Path, data_dir: Path | None = None, text: str = ""
) -> Config:
    """Return the configuration of ``raw`` tables; ``text`` is where lines are looked up."""
    try:
        config = Config.model_validate(dict(raw))
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True)
        problems = [problem_of(detail, Config) for detail in details]
        raise InvalidConfigError(source.name, text, problems) from None
    config._source = source.absolute()
    config._data_dir = data_dir.absolute() if data_dir else None
    clashes = list(impossible(config))
    if clashes:
        raise InvalidConfigError(source.name, text, clashes)
    return config


def _read(source: Path) -> str:
    try:
        if source.stat().st_size > _LARGEST_FILE_BYTES:
            raise ConfigError(f"{source} is larger than any configuration", fix="check the path")
        return source.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no {source}",
            fix="name a folder that has a standfast.toml, or make one: standfast init",
            code="ConfigMissing",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"{source} cannot be read", why=why or str(error), fix=f"ls -l {source}", code="ConfigUnreadable"
        ) from None


def _need_environments(config: Config, text: str) -> None:
    catalogue = config.catalogue()
    problems = []
    for index, wanted in enumerate(config.evaluation.environments):
        path = ("evaluation", "environments", index)
        try:
            variants = catalogue.get(wanted.id).variants
        except ConfigError as error:
            problems.append(Problem(error.code, (*path, "id"), error.what, error.fix))
            continue
        if wanted.pool > variants:
            what = f"environment {wanted.id!r}: pool = {wanted.pool}, but it has {variants} variants"
            problems.append(
                Problem("ImpossibleCombination", (*path, "pool"), what, f"set pool to at most {variants}")
            )
    if problems:
        raise InvalidConfigError(config.source.name, text, problems)
