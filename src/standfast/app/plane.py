"""The control plane: the stores and drivers of one instance, wired together once.

The only place that picks adapters. Everything that works on an instance (API, scheduler, commands without a
running instance) receives one of these.
"""

from __future__ import annotations

from dataclasses import dataclass

from standfast.app.config import Config
from standfast.app.stores import open_database
from standfast.evaluation.model import Subject
from standfast.evaluation.plan import Completeness, EnvironmentChoice, RoundSettings
from standfast.evaluation.rounds import Rounds
from standfast.evaluation.scoring.policy import PolicyName, ScoringPolicy, SubsetScheme
from standfast.facts.database import Database, Migrations, migrate
from standfast.facts.store import FactStore
from standfast.kernel.clock import Clock, Entropy, SystemClock, SystemEntropy
from standfast.publication.adapters.file import FilePublisher
from standfast.publication.adapters.http import HttpLimits, HttpPublisher
from standfast.publication.adapters.keys import load_key
from standfast.publication.adapters.signing import RequestSigner
from standfast.publication.model import PublicationPolicy
from standfast.publication.ports import Publisher
from standfast.publication.store import PublicationStore
from standfast.tasks.driver import TaskDriver
from standfast.tasks.store import TaskStore

COMPONENTS = ("standfast.facts", "standfast.tasks", "standfast.evaluation", "standfast.publication")


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """One instance's stores, drivers, clock and entropy."""

    config: Config
    database: Database
    migrations: tuple[Migrations, ...]
    facts: FactStore
    tasks: TaskDriver
    rounds: Rounds
    publications: PublicationStore
    clock: Clock
    entropy: Entropy
    is_new_store: bool = False

    @classmethod
    def open(cls, config: Config, clock: Clock | None = None, entropy: Entropy | None = None) -> ControlPlane:
        """Open the store, bring its schema up to date, wire everything; StoreError where it cannot."""
        database = open_database(config)
        try:
            return cls.on(database, config, clock or SystemClock(), entropy or SystemEntropy())
        except BaseException:
            database.close()
            raise

    @classmethod
    def on(cls, database: Database, config: Config, clock: Clock, entropy: Entropy) -> ControlPlane:
        """Wire everything on a database that is open already."""
        migrations = tuple(Migrations.of(component, database.dialect) for component in COMPONENTS)
        applied = migrate(database, migrations, clock)
        is_new = any(name.startswith("facts/0001") for name in applied)
        facts = FactStore(database.dialect, clock)
        tasks = TaskDriver(TaskStore(database.dialect), config.task_policy(), clock, entropy)
        rounds = Rounds(round_settings(config), tasks, facts, entropy)
        publications = PublicationStore(database.dialect, clock)
        return cls(
            config, database, migrations, facts, tasks, rounds, publications, clock, entropy, is_new
        )  # fmt: skip

    def close(self) -> None:
        """Let the store go."""
        self.database.close()


def round_settings(config: Config) -> RoundSettings:
    """Return what rounds are made from, as the configuration says."""
    evaluation = config.evaluation
    return RoundSettings(
        subjects=tuple(
            Subject(uid=s.uid, hotkey=s.hotkey, endpoint=s.endpoint, committed_block=s.committed_block)
            for s in config.subjects
        ),
        environments=tuple(
            EnvironmentChoice(id=e.id, episodes=e.episodes, rotate=e.rotate, pool=e.pool, weight=e.weight)
            for e in evaluation.environments
        ),
        limits=evaluation.limits.episode_limits(),
        completeness=Completeness(
            min_subject_share=evaluation.min_subject_share,
            min_subjects=evaluation.min_subjects,
            on_deadline=evaluation.on_deadline,
        ),
        scoring=ScoringPolicy(
            name=PolicyName(evaluation.policy),
            temperature=evaluation.temperature,
            scheme=SubsetScheme(evaluation.subset_weight_scheme),
        ),
        interval_s=evaluation.interval_s,
        deadline_s=evaluation.deadline_s,
        keep_rounds=evaluation.keep_rounds,
        max_rounds=evaluation.max_rounds,
    )


def publisher_of(config: Config, clock: Clock, entropy: Entropy) -> Publisher | None:
    """Return the publisher that the configuration names; None where nothing is to leave the house."""
    publication = config.publication
    if publication.kind == "none":
        return None
    if publication.kind == "file":
        return FilePublisher(config.data_dir / publication.path)
    key = load_key(config.source.parent / publication.key_file)
    signer = RequestSigner(key, clock=clock, entropy=entropy)
    return HttpPublisher(publication.url, signer=signer, limits=HttpLimits(total_s=publication.timeout_s))


def publication_policy(config: Config) -> PublicationPolicy:
    """Return when the gate in front of the publisher opens."""
    return PublicationPolicy(
        min_scored_share=config.publication.min_scored_share, max_age_s=config.publication.max_age_s
    )
