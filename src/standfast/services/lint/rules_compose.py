"""Rules about the services of a stack: limits, restarts, order, health checks, images, builds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from standfast.services.lint.images import cuda_base, is_floating, parse_image
from standfast.services.lint.model import Hit, Severity, Spot
from standfast.services.lint.rules_dockerfile import called_by, floating_hit, missing_programs
from standfast.services.lint.tree import DeclaredStack, LintService, StackFinding, Tree
from standfast.services.stacks.compose import FILE_NAMES, OVERRIDE_NAMES
from standfast.services.stacks.model import Condition
from standfast.services.stacks.nodes import SequenceNode

#: docker's own default; where nothing is declared, the first look comes after this long.
DEFAULT_INTERVAL_S = 30.0
#: From here on, waiting for the check and not the service's start is what a bring-up consists of.
LONG_INTERVAL_S = 5.0
VERY_LONG_INTERVAL_S = 10.0
_COMPLETED_BY_OTHERS = frozenset({"DependencyUnknown", "VolumeUnknown", "NetworkUnknown", "NothingToRun"})
_VARIABLE_REASONS = frozenset({"VariableUnset"})
_GPU_VARIABLES = ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
_NO_GPU = frozenset({"", "none", "void", "-1"})


def judge_stack(tree: Tree) -> Iterator[Hit]:
    """Take over what the reader of compose files refuses; nothing of it is found a second time here."""
    for stack in tree.stacks:
        for finding in stack.findings:
            if finding.reason not in _VARIABLE_REASONS:
                suffix = f" (with --profile {finding.profile})" if finding.profile else ""
                yield Hit(
                    finding.spot, finding.message + suffix, finding.fix,
                    severity=_certainty(stack, finding), evidence={"reason": finding.reason},
                )  # fmt: skip


def _certainty(stack: DeclaredStack, finding: StackFinding) -> Severity:
    """Return how sure it is: a file of variables is made where it runs; profiles and overlays complete."""
    if finding.reason == "StackMissing":
        return Severity.INFO
    needs_profile = bool(finding.profile) and finding.reason == "DependencyInactive"
    is_part = is_overlay(stack) and finding.reason in _COMPLETED_BY_OTHERS
    return Severity.ERROR if finding.is_error and not needs_profile and not is_part else Severity.WARNING


def is_overlay(stack: DeclaredStack) -> bool:
    """Return whether it may be meant to be laid over another file: compose does not take it by itself."""
    return stack.files[-1].name not in (*FILE_NAMES, *OVERRIDE_NAMES)


def judge_unset_variables(tree: Tree) -> Iterator[Hit]:
    """Judge variables that neither .env nor a default sets; a shell may still set them."""
    for stack in tree.stacks:
        for finding in stack.findings:
            if finding.reason in _VARIABLE_REASONS:
                yield Hit(finding.spot, finding.message, finding.fix)


def judge_memory_limit(tree: Tree) -> Iterator[Hit]:
    """Judge whether every service has a memory limit."""
    for stack in tree.stacks:
        services = tree.services_of(stack)
        without = [service for service in services if service.declared.mem_limit_bytes is None]
        count = f"{len(without)} of {len(services)}"
        for service in without:
            yield Hit(
                service.spot,
                f"{service.name} has no memory limit ({count} services of this stack have none): a leak "
                "takes the whole host, and the kernel chooses who dies",
                "deploy: {resources: {limits: {memory: 2G}}}, from what it was seen to use", service.name,
                evidence={"without": len(without), "of": len(services)},
            )  # fmt: skip


def judge_restart(tree: Tree) -> Iterator[Hit]:
    """Judge services that are always on and have no restart policy."""
    for service in _always_on(tree):
        if service.declared.restart is None:
            yield Hit(
                service.spot, f"{service.name} has no restart policy: after a crash, a daemon restart or a "
                "reboot it stays down until somebody starts it",
                "restart: unless-stopped (or always)", service.name,
            )  # fmt: skip


def judge_restart_off(tree: Tree) -> Iterator[Hit]:
    """Judge services that say that they do not come back."""
    for service in _always_on(tree):
        rule = service.declared.restart
        if rule is not None and rule.policy == "no":
            yield Hit(
                service.at("restart"), f"{service.name} is told not to come back, after a reboot either",
                "leave it so for a task that runs once; for a service: restart: unless-stopped", service.name,
            )  # fmt: skip


def judge_restart_on_failure(tree: Tree) -> Iterator[Hit]:
    """Judge on-failure, which does not survive a restart of the daemon."""
    for service in _always_on(tree):
        rule = service.declared.restart
        if rule is not None and rule.policy == "on-failure":
            most = f", and at most {rule.most} times" if rule.most else ""
            yield Hit(
                service.at("restart" if "restart" in service.declared.places else "deploy"),
                f"{service.name} restarts on failure only{most}: it does not come back when the daemon "
                "restarts or the host reboots", "restart: unless-stopped (or always)", service.name,
            )  # fmt: skip


def _always_on(tree: Tree) -> Iterator[LintService]:
    """Yield services that should come back: not those of a profile, run-once tasks and shells for people."""
    for stack in tree.stacks:
        once = {
            dependency.name
            for service in stack.declared
            for dependency in service.depends_on
            if dependency.condition is Condition.COMPLETED
        }
        for service in tree.services_of(stack):
            options = service.declared.options
            is_shell = options.get("stdin_open") is True or options.get("tty") is True
            if not service.declared.profiles and service.name not in once and not is_shell:
                yield service


def judge_order(tree: Tree) -> Iterator[Hit]:
    """Judge depends_on as a list: it waits until containers are started, not until they are ready."""
    for service in tree.services:
        node = service.node("depends_on")
        if not isinstance(node, SequenceNode) or not node.nodes:
            continue
        names = [dependency.name for dependency in service.declared.depends_on]
        unchecked = [n for n in names if (found := _peer(tree, service, n)) and not _has_check(found)]
        first = f"; {', '.join(unchecked)} needs a healthcheck first" if unchecked else ""
        yield Hit(
            service.at("depends_on"),
            f"{service.name} waits until {', '.join(names)} is started, not until it is ready{first}",
            f"depends_on: {{{names[0] if names else 'NAME'}: {{condition: service_healthy}}}}", service.name,
            evidence={"depends_on": names, "without_check": unchecked},
        )  # fmt: skip


def _peer(tree: Tree, service: LintService, name: str) -> LintService | None:
    return next((s for s in tree.services_of(service.owner) if s.name == name), None)


def _has_check(service: LintService) -> bool | None:
    """Return whether a container of it ever becomes healthy; None where its image may bring a check."""
    check = service.declared.healthcheck
    if check is not None and check.is_disabled:
        return False
    if check is not None and check.test:
        return True
    built = service.built
    if built is not None:
        return True if built.health is not None else (False if built.known_base is not None else None)
    return False if service.known is not None else None


def judge_healthy_without_check(tree: Tree) -> Iterator[Hit]:
    """Judge service_healthy on a service that has no health check: compose refuses to start."""
    for service in tree.services:
        for dependency in service.declared.depends_on:
            peer = _peer(tree, service, dependency.name)
            if dependency.condition is Condition.READY and peer is not None and _has_check(peer) is False:
                yield Hit(
                    Spot(service.at("depends_on").file, dependency.line),
                    f"{service.name} waits until {peer.name} is healthy, and {peer.name} has no health "
                    "check: the start fails", f"add a healthcheck to {peer.name} (line {peer.declared.line})",
                    service.name,
                )  # fmt: skip


def judge_interval(tree: Tree) -> Iterator[Hit]:
    """Judge health check intervals that somebody waits for: the bring-up takes them, not the start."""
    for service in tree.services:
        waiting = [
            other.name
            for other in tree.services_of(service.owner)
            for dependency in other.declared.depends_on
            if dependency.name == service.name and dependency.condition is Condition.READY
        ]
        check = service.declared.healthcheck
        if not waiting or check is None or check.is_disabled:
            continue
        interval = DEFAULT_INTERVAL_S if check.interval_s is None else check.interval_s
        is_quick = check.start_interval_s is not None and check.start_interval_s <= LONG_INTERVAL_S
        if interval > LONG_INTERVAL_S and not (is_quick and check.start_period_s):
            said = "" if check.interval_s is not None else ", docker's default,"
            yield Hit(
                service.at("healthcheck", "interval"),
                f"{', '.join(dict.fromkeys(waiting))} wait up to {interval:g} s{said} for the next look at "
                f"{service.name}, however fast it starts",
                "interval: 2s; or start_period with start_interval: 1s (engine 25 or later)", service.name,
                Severity.WARNING if interval > VERY_LONG_INTERVAL_S else Severity.INFO,
                {"interval_s": interval, "waiting": waiting},
            )  # fmt: skip


def judge_service_check(tree: Tree) -> Iterator[Hit]:
    """Judge whether the program that a service's health check calls is in its image."""
    for service in tree.services:
        check = service.declared.healthcheck
        if check is None or check.is_disabled or len(check.test) < 2:
            continue
        image = service.built or service.known
        if image is None:
            continue
        is_exec = check.test[0] == "CMD"
        names = called_by(check.test[1:] if is_exec else (), "" if is_exec else check.test[1])
        if service.known is not None and not service.known.has_shell and not is_exec:
            names = ["sh"]
        where = service.declared.image if service.built is None else service.built.base
        if service.use is not None:
            where = f"{service.use.dockerfile.name} on {where}"
        yield from missing_programs(service.at("healthcheck", "test"), names, image.program, where)


def judge_image_pinned(tree: Tree) -> Iterator[Hit]:
    """Judge whether the images of services mean the same tomorrow."""
    for service in tree.services:
        image = service.declared.image
        is_pulled = service.declared.build is None and service.use is None
        if is_pulled and image and is_floating(parse_image(image)):
            yield floating_hit(service.at("image"), image)


def judge_build(tree: Tree) -> Iterator[Hit]:
    """Judge whether the context and the Dockerfile of a build are there."""
    for service in tree.services:
        use, wanted = service.use, service.declared.build
        if use is None or wanted is None or (use.image is not None and not use.stands_in):
            continue
        has_context = tree.disk.has(use.context)
        path = Path(use.stands_in) if use.stands_in else use.dockerfile
        if use.image is None and tree.disk.has(use.dockerfile):
            what = f"{path} has no stage {wanted.target}" if wanted.target else f"{path} builds nothing"
        elif has_context:
            what = f"there is no Dockerfile at {path}"
        else:
            what = f"there is no build context {use.context}"
        instead = f"; {use.dockerfile.name} is judged in its place" if use.stands_in else ""
        yield Hit(
            Spot(service.at("build").file, wanted.line), f"{service.name} cannot be built: {what}{instead}",
            "correct build.context or build.dockerfile, or add the file", service.name,
            # With -f BASE -f THIS, paths count from the base's folder.
            Severity.WARNING if is_overlay(service.owner) else None,
            evidence={"context": str(use.context), "stands_in": str(use.dockerfile) if use.stands_in else ""},
        )  # fmt: skip


def judge_mounts(tree: Tree) -> Iterator[Hit]:
    """Judge files that are mounted and are not there: docker makes a folder of that name instead."""
    for service in tree.services:
        for mount in service.declared.volumes:
            source = Path(mount.source)
            is_file = "." in source.name.lstrip(".") and not source.name.endswith(".d")
            is_beside = service.owner.stack.folder in source.parents or _is_near(service.owner, source)
            is_missing = tree.disk.knows(source) and not tree.disk.has(source)
            if (
                mount.kind == "bind"
                and is_file
                and is_beside
                and is_missing
                and not source.name.endswith(".sock")
            ):
                yield Hit(
                    Spot(service.at("volumes").file, mount.line),
                    f"{service.name} mounts {source.name}, which is not there: docker makes an empty folder "
                    "of that name", f"add {source}, or remove the mount", service.name,
                    evidence={"source": str(source), "target": mount.target},
                )  # fmt: skip


def _is_near(stack: DeclaredStack, source: Path) -> bool:
    """Return whether a mounted path belongs to the project: above the stack's folder, but not far."""
    return stack.stack.folder.parent in source.parents


def judge_gpu(tree: Tree) -> Iterator[Hit]:
    """Judge services that are built for a GPU, or told which to use, and are given none."""
    for service in tree.services:
        declared = service.declared
        is_given = (
            declared.gpus or declared.options.get("runtime") == "nvidia" or declared.options.get("devices")
        )
        if is_given or declared.options.get("privileged") is True:
            continue
        reason = _gpu_reason(service)
        if reason:
            yield Hit(
                service.spot, f"{service.name} is given no GPU: {reason[0]}",
                "deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 1, "
                "capabilities: [gpu]}]}}}", service.name, evidence={"because": reason[0]},
            )  # fmt: skip


def _gpu_reason(service: LintService) -> tuple[str, ...]:
    for key in _GPU_VARIABLES:
        value = service.declared.env.get(key)
        if value is not None and value.strip().lower() not in _NO_GPU:
            return (f"its environment has {key}={value}",)
    built = service.built
    image = built.base if built is not None else service.declared.image
    if image and cuda_base(parse_image(image)) is not None:
        return (f"its image is made from {image}",)
    return ()
