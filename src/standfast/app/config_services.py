"""The sections of ``standfast.toml`` that declare services and stacks: types, bounds, defaults, meaning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from standfast.app.config_sections import Many, Name, NonEmpty, Port, Seconds, Section, Text

Profile = Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9_.-]*)$", max_length=63)]


class StackSettings(Section):
    """Stacks that are declared elsewhere and read as they are."""

    files: Many[NonEmpty] = Field(
        (),
        description="Compose and pm2 ecosystem files, relative to this one; `a.yml:b.yml` is one stack.",
    )
    profiles: Many[Profile] = Field((), description="Compose profiles that are switched on; `*` is all.")
    rules: Many[NonEmpty] = Field((), description="Files with your own rules that name failures.")
    group_budget: int = Field(
        60, ge=1, le=1_000_000, description="Restarts of one group within a window before holds follow."
    )
    host_budget: int = Field(
        200, ge=1, le=1_000_000, description="Restarts of all services within a window before holds follow."
    )


class ReadySettings(Section):
    """What must be seen before a service counts as ready; at most one of them."""

    http: Text = Field(
        "",
        description="URL that must answer `status`; a path such as `/health` means this machine and `port`.",
    )
    status: int = Field(200, ge=100, le=599, description="Status that `http` must answer.")
    body: Text = Field("", description="Regular expression that the body of `http` must match.")
    tcp: Text = Field("", description="`HOST:PORT` that must accept a connection; `:PORT` is this machine.")
    command: Many[NonEmpty] = Field((), description="Program and arguments that must end with exit code 0.")
    log: Text = Field("", description="Regular expression that a line of this life's output must match.")
    file: Text = Field("", description="File that must exist and be of this life, relative to `cwd`.")
    notify: bool = Field(False, description="Whether it says READY=1 itself (sd_notify).")
    timeout_s: Seconds = Field(2.0, description="Longest wait for one answer.")
    interval_s: Seconds = Field(2.0, description="Time between two probes once it is ready.")
    start_s: float = Field(
        0.0, ge=0.0, le=86_400.0,
        description="Longest time from its start to its first answer; 0 = learnt from its own lives.",
    )  # fmt: skip


class LiveSettings(Section):
    """A probe of a service that was ready, which is restarted when it fails too often in a row."""

    http: Text = Field("", description="URL or path that must answer 200.")
    tcp: Text = Field("", description="`HOST:PORT` that must accept a connection; `:PORT` is this machine.")
    command: Many[NonEmpty] = Field((), description="Program and arguments that must end with exit code 0.")
    interval_s: Seconds = Field(10.0, description="Time between two probes.")
    timeout_s: Seconds = Field(2.0, description="Longest wait for one answer.")
    failures: int = Field(3, ge=1, le=1_000, description="Bad answers in a row before it is restarted.")


class RestartSettings(Section):
    """When a service that ended is started again."""

    policy: Literal["always", "on-failure", "never"] = Field(
        "always", description="Which ends are followed by another start."
    )
    backoff_s: Seconds = Field(0.5, description="Longest wait before the first restart; doubles each time.")
    cap_s: Seconds = Field(30.0, description="Longest wait before any restart.")
    max_fast_failures: int = Field(
        3, ge=1, le=1_000, description="Equal ends without ever being ready before it is held."
    )
    stable_s: Seconds = Field(60.0, description="Time of being ready after which waits fall back.")
    budget: int = Field(20, ge=1, le=1_000_000, description="Restarts within the window before it is held.")
    budget_window_s: Seconds = Field(600.0, description="The window that restarts are counted in.")


class DependencySettings(Section):
    """Another service that this one waits for."""

    name: Name = Field(description="The other service.")
    condition: Literal["ready", "started", "completed"] = Field(
        "ready", description="How the other one must stand before this one starts."
    )
    restart: bool = Field(False, description="Whether this one restarts whenever the other one did.")


class NeedSettings(Section):
    """A condition outside the stack that must be true before each start."""

    name: NonEmpty = Field(description="What must be so, in words.")
    command: Many[NonEmpty] = Field(description="Program that ends with exit code 0 while it is so.")
    fix: Text = Field("", description="The command that makes it so; it is shown and never run.")
    interval_s: Seconds = Field(10.0, description="How often it is looked at while it is not so.")
    timeout_s: Seconds = Field(10.0, description="Longest wait for one look.")


class LimitsSettings(Section):
    """Limits of everything that one service runs; kept by the kernel where control groups can be made."""

    memory_bytes: int = Field(0, ge=0, le=2**50, description="Most memory; 0 = no limit.")
    cpus: float = Field(0.0, ge=0.0, le=4_096.0, description="Most processors; 0 = no limit.")


class ServiceSettings(Section):
    """One program that `standfast up` keeps running."""

    name: Name = Field(description="What it is called in status and logs.")
    command: Many[NonEmpty] = Field(
        description="Program and arguments; `{python}`, `{port}` and `{blueprint}` are replaced."
    )
    kind: Literal["daemon", "task"] = Field(
        "daemon", description="A `task` runs once, and exit code 0 completes it."
    )
    driver: Literal["process", "systemd"] = Field(
        "process", description="What runs it: a process of its own, or a unit of systemd where that runs."
    )
    cwd: Text = Field("", description="Folder to run in, relative to this file.")
    env: dict[str, str] = Field(default_factory=dict, description="Added to the environment it runs in.")
    port: Port = Field(0, description="Port it listens on; 0 = none.")
    depends_on: Many[Name | DependencySettings] = Field(
        (),
        description="Services that must be ready first: names, or tables with `name`, `condition` (ready, "
        "started or completed) and `restart`.",
    )
    needs: Many[NeedSettings] = Field((), description="Conditions that must be true before each start.")
    ready: ReadySettings = Field(default_factory=ReadySettings, description="When it counts as ready.")
    live: LiveSettings = Field(
        default_factory=LiveSettings, description="When it is restarted while it runs."
    )
    restart: RestartSettings = Field(default_factory=RestartSettings, description="When it is started again.")
    limits: LimitsSettings = Field(default_factory=LimitsSettings, description="Memory and processors.")
    watch: Many[NonEmpty] = Field(
        (), description="Files whose change makes a held service worth another try, relative to `cwd`."
    )
    stop_signal: Literal["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL"] = Field(
        "SIGTERM", description="Signal that asks it to end."
    )
    stop_timeout_s: Seconds = Field(5.0, description="Wait after that signal before SIGKILL.")
    required: bool = Field(True, description="Whether status fails while it is not ready.")
    group: Annotated[str, Field(max_length=63)] = Field(
        "", description="Services that share a restart budget."
    )
