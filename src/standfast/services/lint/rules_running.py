"""Declared versus running: what a manager lists, beside what the files say, a finding for each difference."""

from __future__ import annotations

from collections.abc import Iterator

from standfast.services.lint.model import Hit, Severity, Spot
from standfast.services.lint.tree import LintService, Running, Tree
from standfast.services.stacks.model import DeclaredService

#: More restarts than any start-up needs; below it a finding would be about yesterday's deployment.
MANY_RESTARTS = 16


def _of_pm2(tree: Tree) -> Iterator[tuple[Running, list[DeclaredService]]]:
    for one in tree.running.running if tree.running is not None else ():
        if one.manager == "pm2":
            yield one, [app for app in tree.processes if app.name == one.name]


def _of_docker(tree: Tree) -> Iterator[tuple[Running, LintService | None]]:
    for one in tree.running.running if tree.running is not None else ():
        if one.manager == "docker":
            yield one, next((s for s in tree.services if _is(s, one)), None)


def _is(service: LintService, one: Running) -> bool:
    if one.service and one.service != service.name:
        return False
    if one.files and not {str(file) for file in service.owner.files} & set(one.files):
        # Started from another file; the same service name there is another service.
        return bool(service.declared.container_name) and service.declared.container_name == one.name
    project = service.owner.stack.name
    names = {service.declared.container_name, f"{project}-{service.name}-1", f"{project}_{service.name}_1"}
    return one.name in names or (one.service == service.name and one.project == project)


def judge_undeclared(tree: Tree) -> Iterator[Hit]:
    """Judge processes that no file declares."""
    for one, apps in _of_pm2(tree):
        if tree.processes and not apps:
            yield Hit(
                one.spot, f"{one.name} runs under pm2 and is in no file that was read: after a reboot "
                "without pm2 save, or on another host, nobody starts it",
                f"declare it, or end it: pm2 delete {one.name}", one.name, evidence={"status": one.status},
            )  # fmt: skip
    for one, service in _of_docker(tree):
        if tree.stacks and service is None:
            elsewhere = f"; it was started from {', '.join(one.files)}" if one.files else ""
            yield Hit(
                one.spot, f"the container {one.name} is in no file that was read{elsewhere}",
                "declare it, or look at the file that it was started from", one.name,
                Severity.INFO if one.files else None, {"status": one.status, "files": list(one.files)},
            )  # fmt: skip


def judge_not_running(tree: Tree) -> Iterator[Hit]:
    """Judge what is declared and does not run."""
    if tree.running is None:
        return
    if "pm2" in tree.running.managers:
        up = {one.name: one for one, _ in _of_pm2(tree)}
        for app in {app.name: app for app in tree.processes}.values():
            one = up.get(app.name)
            if one is None or not one.is_up:
                state = one.status if one is not None else "not in pm2's list"
                # Ecosystem files hold alternatives; that one of them does not run is often meant.
                severity = Severity.INFO if one is None else Severity.WARNING
                yield Hit(
                    Spot(app.file, app.line), f"{app.name} is declared and does not run: {state}",
                    f"pm2 logs {app.name} --lines 50 --nostream", app.name, severity,
                )  # fmt: skip
    if "docker" in tree.running.managers:
        yield from _containers_down(tree)


def _containers_down(tree: Tree) -> Iterator[Hit]:
    found = {service.name: one for one, service in _of_docker(tree) if service is not None}
    for service in tree.services:
        one = found.get(service.name)
        if not service.declared.profiles and (one is None or not one.is_up):
            state = one.status if one is not None else "there is no container of it"
            yield Hit(
                service.spot, f"{service.name} is declared and does not run: {state}",
                f"docker compose -f {service.declared.file.name} up -d {service.name}", service.name,
            )  # fmt: skip


def judge_memory_seen(tree: Tree) -> Iterator[Hit]:
    """Judge limits that what was seen is above."""
    for one, apps in _of_pm2(tree):
        limits = [(a.process.max_memory_bytes, Spot(a.file, a.line)) for a in apps if a.process is not None]
        limits = limits if any(limit for limit, _ in limits) else [*limits, (one.limit_bytes, one.spot)]
        for limit, spot in limits:
            yield from _over(
                one, limit, spot, "pm2 kills it in the middle of its work, or did not notice yet"
            )
    for one, service in _of_docker(tree):
        if service is not None:
            spot = service.at("deploy" if "deploy" in service.declared.places else "mem_limit")
            limit = service.declared.mem_limit_bytes
            yield from _over(one, limit, spot, "the running container was started without it")


def _over(one: Running, limit: int | None, spot: Spot, why: str) -> Iterator[Hit]:
    if limit and one.memory_bytes is not None and one.memory_bytes > limit:
        yield Hit(
            spot, f"{one.name} has a memory limit of {_amount(limit)}, and {_amount(one.memory_bytes)} were "
            f"seen: {why}", "set the limit above what it needs, or make it need less", one.name,
            evidence={"limit_bytes": limit, "seen_bytes": one.memory_bytes},
        )  # fmt: skip


def _amount(value: int) -> str:
    return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def judge_arguments(tree: Tree) -> Iterator[Hit]:
    """Judge processes that run with other arguments than a file gives them."""
    for one, apps in _of_pm2(tree):
        differences = [(app, _argument_difference(app.command or (), one)) for app in apps]
        if apps and all(text for _, text in differences):
            app, text = differences[0]
            yield _argument_hit(
                one, Spot(app.file, app.line), text, f"pm2 restart {app.file.name} --update-env"
            )
    for one, service in _of_docker(tree):
        if service is not None and service.declared.command is not None:
            text = _argument_difference(service.declared.command, one)
            if text:
                yield _argument_hit(one, service.at("command"), text, "docker compose up -d makes it again")


def _argument_hit(one: Running, spot: Spot, text: str, fix: str) -> Hit:
    return Hit(
        spot, f"{one.name} does not run with the arguments that are declared: {text}",
        f"start it again from its file ({fix}), or correct the file", one.name,
        evidence={"running": list(one.arguments or ())},
    )  # fmt: skip


def _argument_difference(declared: tuple[str, ...], one: Running) -> str:
    """Return the words that one side has and the other lacks; options with their values."""
    if one.arguments is None:
        return ""
    wanted, seen = _options(declared), _options(one.arguments)
    missing = [text for text in wanted if text not in seen]
    extra = [text for text in seen if text not in wanted]
    # The program and its script are shown apart by the managers; only what follows is compared.
    parts = [f"it runs without {' and '.join(missing)}"] if missing else []
    parts += [f"it runs with {' and '.join(extra)}, which is not declared"] if extra else []
    return "; ".join(parts)


def _options(words: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for word in words:
        name, has_value, value = word.partition("=")
        if word.startswith("--") and has_value:
            found.append(f"{name} {value}")
        elif word.startswith("-"):
            found.append(word)
        elif found and found[-1].startswith("-") and " " not in found[-1]:
            found[-1] = f"{found[-1]} {word}"
    return found


def judge_restarts_seen(tree: Tree) -> Iterator[Hit]:
    """Judge processes that are restarted again and again while they are shown as running."""
    for one in tree.running.running if tree.running is not None else ():
        if one.restarts is not None and one.restarts > MANY_RESTARTS:
            apps = [app for app in tree.processes if app.name == one.name]
            spot = Spot(apps[0].file, apps[0].line) if apps and one.manager == "pm2" else one.spot
            counted = f", {one.unstable} counted as unstable" if one.unstable is not None else ""
            yield Hit(
                spot, f"{one.name} was restarted {one.restarts} times{counted}, and is shown as "
                f"{one.status}: the breaker does not trip",
                "find out why it ends before it is started again", one.name,
                evidence={"restarts": one.restarts, "unstable": one.unstable, "status": one.status},
            )  # fmt: skip


def judge_policy_seen(tree: Tree) -> Iterator[Hit]:
    """Judge containers whose restart policy is not the declared one."""
    for one, service in _of_docker(tree):
        if service is None or one.restart_policy is None:
            continue
        rule = service.declared.restart
        wanted = rule.policy if rule is not None else "no"
        if wanted != one.restart_policy:
            yield Hit(
                service.at("restart"), f"{one.name} runs with the restart policy {one.restart_policy}, "
                f"declared is {wanted}", "docker compose up -d makes it again as declared", service.name,
                evidence={"declared": wanted, "running": one.restart_policy},
            )  # fmt: skip
