"""The rules of lint, one line each, in the order in which they are documented.

Sources: acceptance of the decision stack (V, L2-L6, R3) and of the generation stack (A000-13), the Docker,
Compose, Prometheus, Alertmanager and Kafka documentation, and measurements in ``docs/how-to/lint.md``.
"""

from __future__ import annotations

from collections.abc import Iterator

from standfast.services.lint import (
    rules_compose,
    rules_dockerfile,
    rules_gpu,
    rules_kafka,
    rules_monitoring,
    rules_network,
    rules_pm2,
    rules_running,
)
from standfast.services.lint.ignores import comments
from standfast.services.lint.model import FileKind, Hit, Rule, Severity, Spot
from standfast.services.lint.tree import Tree

_C, _D, _P = FileKind.COMPOSE, FileKind.DOCKERFILE, FileKind.PROMETHEUS
_R, _A, _2 = FileKind.RULES, FileKind.ALERTMANAGER, FileKind.PM2
_ERROR, _WARNING, _INFO = Severity.ERROR, Severity.WARNING, Severity.INFO


def judge_unreadable(tree: Tree) -> Iterator[Hit]:
    """Say which files could not be read, and why."""
    for spot, why, fix in tree.unreadable:
        yield Hit(spot, why, fix or "mend the file")


def judge_comments(tree: Tree) -> Iterator[Hit]:
    """Judge ignore comments that give no reason or name no rule that there is."""
    known = {rule.id for rule in RULES}
    for path, text in tree.texts.items():
        for line, comment in comments(text):
            unknown = [rule for rule in comment.rules if rule not in known]
            if unknown or not comment.rules:
                said = f"there is no rule {', '.join(unknown)}" if unknown else "it names no rule"
                yield Hit(Spot(path, line), f"{said}: nothing is ignored", "# standfast: ignore[RULE] REASON")
            elif not comment.reason:
                yield Hit(
                    Spot(path, line), "it gives no reason: nothing is ignored",
                    f"# standfast: ignore[{', '.join(comment.rules)}] REASON",
                )  # fmt: skip


RULES: tuple[Rule, ...] = (
    Rule("unreadable", _C, _ERROR, "a file that cannot be read or is not what its name says",
         "What was not read was not judged.", judge_unreadable),
    Rule("ignore-malformed", _C, _WARNING, "an ignore comment without a reason, or for no rule",
         "It is not honoured; a finding that nobody can explain comes back.", judge_comments),
    Rule("compose-invalid", _C, _ERROR, "what compose refuses: unknown names, circles, undeclared volumes",
         "Compose Specification; the stack does not start.", rules_compose.judge_stack),
    Rule("variable-unset", _C, _INFO, "a variable that neither .env nor a default sets",
         "Compose Specification 12: it is blank where the shell does not set it.",
         rules_compose.judge_unset_variables),
    Rule("port-twice", _C, _ERROR, "a host port that two services want",
         "The second bind fails (Errno 98).", rules_network.judge_ports),
    Rule("port-twice-across", _C, _WARNING, "a host port that services of two stacks want",
         "The stacks cannot run at once.", rules_network.judge_ports_across),
    Rule("name-twice", _C, _WARNING, "a service or container that two stacks call the same",
         "A command run in the wrong folder means the wrong one.", rules_network.judge_names_across),
    Rule("url-port-closed", _C, _ERROR, "an address of a service on whose port nobody listens",
         "Connection refused, for ever.", rules_network.judge_calls),
    Rule("url-host-unknown", _C, _WARNING, "an address whose host no service has",
         "The name is not resolved.", rules_network.judge_hosts),
    Rule("memory-limit-missing", _C, _WARNING, "a service without a memory limit",
         "A leak takes the host, and exit 137 then says nothing about who leaked.",
         rules_compose.judge_memory_limit),
    Rule("restart-missing", _C, _WARNING, "an always-on service without a restart policy",
         "Ten of eleven services stayed down after a host restart.", rules_compose.judge_restart),
    Rule("restart-off", _C, _INFO, "a service that says restart: no",
         "Right for a task, wrong for a service.", rules_compose.judge_restart_off),
    Rule("restart-on-failure", _C, _WARNING, "restart: on-failure",
         "Docker's documentation: it does not start a container when the daemon restarts.",
         rules_compose.judge_restart_on_failure),
    Rule("depends-on-list", _C, _WARNING, "depends_on as a list",
         "It waits for started, not for ready.", rules_compose.judge_order),
    Rule("depends-on-unchecked", _C, _ERROR, "service_healthy on a service without a health check",
         "Compose refuses to start the dependant.", rules_compose.judge_healthy_without_check),
    Rule("healthcheck-slow", _C, _WARNING, "a health check interval that others wait for",
         "Measured: 3 levels at 30 s take 92 s, at 1 s 5.5 s, with services that start in 0.3 s.",
         rules_compose.judge_interval),
    Rule("healthcheck-program", _C, _ERROR, "a health check of a service whose program is not in its image",
         "It fails for ever, and everything that waits for it too.", rules_compose.judge_service_check),
    Rule("healthcheck-module", _C, _WARNING, "a health check that imports a module that nothing installs",
         "It fails for ever, as above.", rules_dockerfile.judge_check_module),
    Rule("image-floating", _C, _WARNING, "an image without a tag, or with latest",
         "What runs changes without anybody changing it.", rules_compose.judge_image_pinned),
    Rule("build-missing", _C, _ERROR, "a build context or Dockerfile that is not there",
         "The build fails.", rules_compose.judge_build),
    Rule("bind-missing", _C, _WARNING, "a mounted file that is not there",
         "Docker's documentation (bind mounts): an empty folder is made in its place.",
         rules_compose.judge_mounts),
    Rule("gpu-unreserved", _C, _WARNING, "a service for a GPU that is given none",
         "In it, torch.cuda.is_available() is False.", rules_compose.judge_gpu),
    Rule("exec-variable", _C, _WARNING, "a variable in a command that no shell reads",
         "The program gets the dollar sign.", rules_dockerfile.judge_exec_variable),
    Rule("kafka-replication", _C, _WARNING, "replication that does not survive the loss of a broker",
         "Kafka: a write with acks=all needs min.insync.replicas copies in step.",
         rules_kafka.judge_replication),
    Rule("topic-missing", _C, _ERROR, "a topic that is used, and that nobody creates",
         "With auto.create.topics.enable=false the first message fails.", rules_kafka.judge_topics),
    Rule("dockerfile-syntax", _D, _ERROR, "a line that is no Dockerfile instruction",
         "The build fails.", rules_dockerfile.judge_syntax),
    Rule("cuda-too-old", _D, _ERROR, "a base image whose CUDA does not know the GPU",
         "CUDA 12.8 is the first with sm_120 (release notes).", rules_gpu.judge_cuda_base),
    Rule("cudnn-tag", _D, _ERROR, "cudnn8- in the tag of a CUDA image",
         "Since CUDA 12.4 the tag is cudnn- (pytorch/builder#1811, envd#1998).",
         rules_gpu.judge_cudnn_tag),
    Rule("torch-index", _D, _ERROR, "a wheel index of torch without code for the GPU",
         "The indexes cu121 to cu126 end at sm_90; cu128 has sm_120.", rules_gpu.judge_torch_index),
    Rule("nightly-without-pre", _D, _WARNING, "a nightly index without --pre",
         "The index has pre-releases only.", rules_gpu.judge_nightly),
    Rule("torch-too-old", _D, _ERROR, "a pinned torch that has no code for the GPU in any build",
         "Release 2.7.0 is the first with sm_120 (release notes).", rules_gpu.judge_torch_version),
    Rule("torch-replaced", _D, _ERROR, "a later step that replaces the torch of a CUDA index",
         "Pip takes another build from the default index.", rules_gpu.judge_torch_repinned),
    Rule("install-swallowed", _D, _ERROR, "|| true after an installation",
         "The image is built without what it needs.", rules_dockerfile.judge_swallowed),
    Rule("base-floating", _D, _WARNING, "a base image without a tag, or with latest",
         "What is built changes without anybody changing it.", rules_dockerfile.judge_base_pinned),
    Rule("image-healthcheck-program", _D, _ERROR, "a HEALTHCHECK whose program is not in the image",
         "It fails for ever.", rules_dockerfile.judge_image_check),
    Rule("copy-missing", _D, _ERROR, "COPY of a file that is not in the build context",
         "The build fails.", rules_dockerfile.judge_copies),
    Rule("scrape-target", _P, _ERROR, "a scrape target without a service, or not on that port",
         "The job is down for ever, and its alerts with it.", rules_monitoring.judge_scrapes),
    Rule("alertmanager-target", _P, _ERROR, "an alertmanager that nobody runs",
         "No alert reaches anybody.", rules_monitoring.judge_alertmanager_targets),
    Rule("scrape-job-twice", _P, _ERROR, "two scrape jobs of one name",
         "Prometheus refuses the configuration.", rules_monitoring.judge_jobs_twice),
    Rule("rule-file-missing", _P, _ERROR, "a rule file that is not where prometheus looks",
         "Its alerts do not exist.", rules_monitoring.judge_rule_files),
    Rule("metric-unexported", _R, _ERROR, "a metric that nobody exports",
         "The alert never fires. A warning where sources are not here, info where it cannot be known.",
         rules_monitoring.judge_metrics),
    Rule("alert-job-unknown", _R, _ERROR, "a rule about a job that nobody scrapes",
         "The alert never fires.", rules_monitoring.judge_alert_jobs),
    Rule("placeholder", _A, _ERROR, "text that something should have replaced",
         "Neither alertmanager nor prometheus expands variables.", rules_monitoring.judge_placeholders),
    Rule("receiver-undefined", _A, _ERROR, "a receiver that no route can use",
         "Alertmanager refuses the configuration.", rules_monitoring.judge_receivers),
    Rule("pm2-invalid", _2, _ERROR, "an ecosystem file that pm2 cannot use",
         "What is declared there does not start.", rules_pm2.judge_files),
    Rule("pm2-undefined", _2, _WARNING, "a value that became the text 'undefined'",
         "A variable of the shell that is not set.", rules_pm2.judge_unset_variables),
    Rule("pm2-breaker", _2, _WARNING, "an app whose restarts nothing ends",
         "16,660 restarts in ten hours, shown as online.", rules_pm2.judge_breaker),
    Rule("pm2-twice", _2, _WARNING, "a name that two files declare",
         "What runs depends on which file was started last.", rules_pm2.judge_declared_twice),
    Rule("running-undeclared", _2, _WARNING, "a process or container that no file declares",
         "After a reboot nobody starts it, and no file tells how.", rules_running.judge_undeclared),
    Rule("not-running", _2, _WARNING, "something declared that does not run",
         "What is declared and what serves are two things.", rules_running.judge_not_running),
    Rule("memory-over-limit", _2, _ERROR, "more memory seen than the limit allows",
         "6G declared, 32.3 GB seen.", rules_running.judge_memory_seen),
    Rule("arguments-differ", _2, _ERROR, "a process that runs with other arguments than declared",
         "The file and the process disagree, and only one of them is meant.", rules_running.judge_arguments),
    Rule("restarts-seen", _2, _ERROR, "a process that is restarted again and again",
         "The breaker does not trip.", rules_running.judge_restarts_seen),
    Rule("policy-differs", _C, _WARNING, "a container whose restart policy is not the declared one",
         "It comes back, or not, in another way than the file says.", rules_running.judge_policy_seen),
)  # fmt: skip
