"""Image references, and what is known of the images that stacks are usually made of.

The table is read from the public definitions of the images (Docker official images, buildpack-deps, vendor
repositories). It names only what is sure: a program in neither list is unknown, and unknown is no finding.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple


class ImageRef(NamedTuple):
    """An image reference: repository without the default registry, tag and digest ("" = none)."""

    name: str
    tag: str
    digest: str

    @property
    def last(self) -> str:
        """The last part of the repository's name."""
        return self.name.rsplit("/", 1)[-1]


def parse_image(text: str) -> ImageRef:
    """Return the parts of ``text``; ``docker.io`` and ``library`` are what an image has without saying it."""
    rest, _, digest = text.strip().partition("@")
    head, colon, tag = rest.rpartition(":")
    # A colon before the last slash belongs to the port of a registry.
    name, tag = (head, tag) if colon and "/" not in tag else (rest, "")
    name = re.sub(r"^(?:docker\.io|index\.docker\.io|registry-1\.docker\.io)/", "", name)
    return ImageRef(name.removeprefix("library/"), tag, digest)


@dataclass(frozen=True, slots=True)
class KnownImage:
    """A family of images: programs that it surely has or lacks, the ports it listens on by default.

    ``exports`` are the prefixes of its metrics, None where it exports none that are known.
    """

    names: tuple[str, ...]
    tag: str = ""
    has: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    ports: tuple[int, ...] = ()
    exports: tuple[str, ...] | None = None
    has_shell: bool = True

    def program(self, name: str) -> bool | None:
        """Return whether the program is in the image; None where that is not known."""
        if name in self.has:
            return True
        if name in self.lacks:
            return False
        return None if self.has_shell else False


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_CORE = _set(
    "sh cat grep sed awk test ls env head tail cut tr sleep date true false find xargs stat timeout wc"
)
_BUSYBOX = _CORE | _set("wget nc ps pgrep pidof ping telnet netstat nslookup httpd ip vi")
_NET = _set("curl wget nc ncat netcat telnet jq ss netstat ping nslookup dig httpie http")
#: Debian without anything: neither procps nor any network client.
_DEBIAN = _CORE | {"bash", "perl"}
_DEBIAN_LACKS = _NET | _set(
    "ps pgrep pidof python python3 node ruby php go java redis-cli psql pg_isready mysqladmin"
)
_ALPINE_LACKS = _set(
    "curl bash python python3 node ruby php go java jq ncat ss dig redis-cli psql pg_isready mysqladmin"
)
#: buildpack-deps (scm): curl, wget, git and procps.
_BUILDPACK = _DEBIAN | _set("curl wget git ps pgrep gcc make python3")
_BUILDPACK_LACKS = _set("nc ncat netcat telnet jq ss netstat ping redis-cli psql pg_isready mysqladmin")


def _language(name: str, programs: str) -> tuple[KnownImage, ...]:
    own = _set(programs)
    return (
        KnownImage((name,), "alpine", _BUSYBOX | own, _ALPINE_LACKS - own),
        KnownImage((name,), "slim", _DEBIAN | own, _DEBIAN_LACKS - own),
        KnownImage((name,), "", _BUILDPACK | own, _BUILDPACK_LACKS - own),
    )


def _server(
    names: str, programs: str, ports: tuple[int, ...], exports: tuple[str, ...] | None = None
) -> tuple[KnownImage, ...]:
    own, called = _set(programs), tuple(names.split())
    return (
        KnownImage(called, "alpine", _BUSYBOX | own, _ALPINE_LACKS - own, ports, exports),
        KnownImage(called, "", _DEBIAN | own, _DEBIAN_LACKS - own, ports, exports),
    )


def _exporter(names: str, ports: tuple[int, ...], *prefixes: str) -> KnownImage:
    """Return an image that runs a program that exports metrics; of its other programs nothing is known."""
    return KnownImage(tuple(names.split()), "", ports=ports, exports=prefixes)


_POSTGRES = "pg_isready psql postgres pg_ctl bash"
_PROMETHEUS = _BUSYBOX - {"ping"}
_PROMETHEUS_LACKS = _set("curl bash python python3 jq")

KNOWN: tuple[KnownImage, ...] = (
    KnownImage(("scratch",), "", has_shell=False),
    KnownImage(("gcr.io/distroless/*",), "debug", _BUSYBOX, _ALPINE_LACKS),
    KnownImage(("gcr.io/distroless/python3*",), "", _set("python3 python"), has_shell=False),
    KnownImage(("gcr.io/distroless/*",), "", has_shell=False),
    *_language("python", "python python3 pip pip3"),
    *_language("node", "node npm npx yarn"),
    *_language("ruby", "ruby gem bundle"),
    *_language("golang", "go"),
    *_language("rust", "cargo rustc"),
    KnownImage(("alpine", "alpine/*"), "", _BUSYBOX, _ALPINE_LACKS),
    KnownImage(("busybox",), "", _BUSYBOX, _ALPINE_LACKS),
    KnownImage(("debian",), "", _DEBIAN, _DEBIAN_LACKS),
    KnownImage(("ubuntu",), "", _DEBIAN | _set("ps pgrep pidof"), _DEBIAN_LACKS - _set("ps pgrep pidof")),
    KnownImage(("buildpack-deps",), "curl", _DEBIAN | _set("curl wget"), _BUILDPACK_LACKS),
    KnownImage(
        ("nvidia/cuda", "nvcr.io/nvidia/cuda"), r"ubuntu",
        _DEBIAN | _set("ps pgrep pidof nvidia-smi"), _DEBIAN_LACKS - _set("ps pgrep pidof"),
    ),
    *_server("redis valkey/valkey", "redis-cli redis-server valkey-cli", (6379,)),
    *_server("postgres postgis/postgis pgvector/pgvector", _POSTGRES, (5432,)),
    KnownImage(
        ("timescale/timescaledb",), "", _BUSYBOX | _set(_POSTGRES),
        _ALPINE_LACKS - _set(_POSTGRES), (5432,),
    ),
    KnownImage(
        ("mysql",), "", _CORE | _set("mysqladmin mysql bash"), _set("nc wget redis-cli"),
        (3306, 33060),
    ),
    KnownImage(
        ("mariadb",), "", _DEBIAN | _set("healthcheck.sh mariadb mariadb-admin"), _set("curl wget nc"),
        (3306,),
    ),
    KnownImage(("mongo",), "", _CORE | _set("bash mongosh mongod"), _set("nc wget"), (27017,)),
    *_server(
        "rabbitmq", "rabbitmq-diagnostics rabbitmqctl bash", (5672, 15672, 15692),
        ("rabbitmq_", "erlang_"),
    ),
    *_server("memcached", "memcached", (11211,)),
    KnownImage(("nginx", "nginxinc/*"), "slim", _BUSYBOX | {"nginx"}, _ALPINE_LACKS, (80,)),
    KnownImage(
        ("nginx", "nginxinc/*"), "alpine", _BUSYBOX | _set("nginx curl"), _ALPINE_LACKS - {"curl"},
        (80,),
    ),
    KnownImage(("nginx", "nginxinc/*"), "", _DEBIAN | _set("nginx curl"), _set("wget nc ps"), (80,)),
    *_server("httpd", "httpd", (80,)),
    *_server("haproxy", "haproxy", (), ("haproxy_",)),
    KnownImage(("traefik",), "", _BUSYBOX, _ALPINE_LACKS, (80,), ("traefik_",)),
    KnownImage(("caddy",), "", _BUSYBOX | {"caddy"}, _ALPINE_LACKS, (80, 443, 2019), ("caddy_",)),
    KnownImage(("nats",), "alpine", _BUSYBOX | {"nats-server"}, _ALPINE_LACKS, (4222, 6222, 8222)),
    KnownImage(("nats",), "", _set("nats-server"), ports=(4222, 6222, 8222), has_shell=False),
    KnownImage(
        ("prom/prometheus", "quay.io/prometheus/prometheus"), "",
        _PROMETHEUS | _set("prometheus promtool"), _PROMETHEUS_LACKS, (9090,), ("prometheus_",),
    ),
    KnownImage(
        ("prom/alertmanager", "quay.io/prometheus/alertmanager"), "",
        _PROMETHEUS | _set("alertmanager amtool"), _PROMETHEUS_LACKS, (9093, 9094), ("alertmanager_",),
    ),
    KnownImage(
        ("prom/node-exporter", "quay.io/prometheus/node-exporter"), "", _PROMETHEUS, _PROMETHEUS_LACKS,
        (9100,), ("node_",),
    ),
    KnownImage(("grafana/grafana*",), "ubuntu", _DEBIAN | {"curl"}, frozenset(), (3000,), ("grafana_",)),
    KnownImage(
        ("grafana/grafana*",), "", _BUSYBOX | _set("curl bash"), frozenset(), (3000,), ("grafana_",),
    ),
    KnownImage(
        ("confluentinc/cp-zookeeper",), "", _CORE | _set("bash nc curl"), frozenset(),
        (2181, 2888, 3888),
    ),
    KnownImage(
        ("confluentinc/cp-kafka", "confluentinc/cp-server"), "", _CORE | _set("bash nc curl"),
        frozenset(), (9092,),
    ),
    KnownImage(("apache/kafka",), "", _BUSYBOX | {"bash"}, _set("curl python3"), (9092,)),
    KnownImage(("bitnami/kafka",), "", ports=(9092,)),
    KnownImage(("zookeeper", "bitnami/zookeeper"), "", ports=(2181, 2888, 3888, 8080)),
    KnownImage(
        ("ghcr.io/mlflow/mlflow",), "", _DEBIAN | _set("python python3 pip mlflow"),
        _DEBIAN_LACKS - _set("python python3"),
    ),
    KnownImage(("ollama/ollama",), "", _DEBIAN | {"ollama"}, _set("curl wget nc"), (11434,)),
    KnownImage(
        ("qdrant/qdrant",), "", _DEBIAN, _set("curl wget nc"), (6333, 6334),
        ("collections_", "qdrant_"),
    ),
    KnownImage(("minio/minio",), "", frozenset(), _set("wget nc"), (9000,), ("minio_",)),
    _exporter("oliver006/redis_exporter bitnami/redis-exporter", (9121,), "redis_"),
    _exporter(
        "prometheuscommunity/postgres-exporter quay.io/prometheuscommunity/postgres-exporter "
        "wrouesnel/postgres_exporter bitnami/postgres-exporter", (9187,), "pg_",
    ),
    _exporter("danielqsj/kafka-exporter bitnami/kafka-exporter", (9308,), "kafka_"),
    _exporter(
        "gcr.io/cadvisor/cadvisor google/cadvisor ghcr.io/google/cadvisor", (8080,), "container_",
        "machine_", "cadvisor_",
    ),
    _exporter(
        "prom/blackbox-exporter quay.io/prometheus/blackbox-exporter", (9115,), "probe_", "blackbox_",
    ),
    _exporter("prom/mysqld-exporter quay.io/prometheus/mysqld-exporter", (9104,), "mysql_"),
    _exporter("percona/mongodb_exporter bitnami/mongodb-exporter", (9216,), "mongodb_"),
    _exporter("nginx/nginx-prometheus-exporter", (9113,), "nginx_", "nginxplus_"),
    _exporter("nvcr.io/nvidia/k8s/dcgm-exporter nvidia/dcgm-exporter", (9400,), "DCGM_", "dcgm_"),
    _exporter("utkuozdemir/nvidia_gpu_exporter", (9835,), "nvidia_smi_"),
    _exporter("grafana/loki", (3100, 9095), "loki_"),
    _exporter("natsio/prometheus-nats-exporter", (7777,), "gnatsd_", "nats_", "jetstream_"),
    _exporter("quay.io/coreos/etcd bitnami/etcd", (2379, 2380), "etcd_"),
    _exporter("clickhouse/clickhouse-server", (8123, 9000, 9009), "ClickHouse"),
    KnownImage(
        ("elasticsearch", "docker.elastic.co/elasticsearch/elasticsearch"), "",
        _CORE | _set("bash curl"), frozenset(), (9200, 9300),
    ),
    KnownImage(("influxdb",), "", ports=(8086,)),
    KnownImage(
        ("consul", "hashicorp/consul"), "", _BUSYBOX, frozenset(), (8500, 8600, 8300, 8301, 8302),
        ("consul_",),
    ),
    KnownImage(
        ("vault", "hashicorp/vault"), "", _BUSYBOX | {"vault"}, frozenset(), (8200, 8201), ("vault_",),
    ),
    KnownImage(("confluentinc/cp-schema-registry",), "", _CORE | _set("bash curl"), frozenset(), (8081,)),
    KnownImage(("confluentinc/cp-kafka-connect*",), "", _CORE | _set("bash curl"), frozenset(), (8083,)),
    KnownImage(("provectuslabs/kafka-ui",), "", ports=(8080,)),
    KnownImage(("vllm/vllm-openai",), "", ports=(8000,), exports=("vllm:", "vllm_")),
    KnownImage(("nvcr.io/nvidia/tritonserver",), "", ports=(8000, 8001, 8002), exports=("nv_",)),
)  # fmt: skip

#: Exporters that answer on a host outside the stack are known by their registered port.
EXPORTER_PORTS: dict[int, tuple[str, ...]] = {
    9100: ("node_",), 9187: ("pg_",), 9121: ("redis_",), 9308: ("kafka_",), 9400: ("DCGM_", "dcgm_"),
    9104: ("mysql_",), 9115: ("probe_", "blackbox_"), 9216: ("mongodb_",), 9113: ("nginx_", "nginxplus_"),
    9835: ("nvidia_smi_",), 9090: ("prometheus_",), 9093: ("alertmanager_",),
}  # fmt: skip


def known_image(ref: ImageRef) -> KnownImage | None:
    """Return the first family that ``ref`` belongs to, or None."""
    for image in KNOWN:
        if any(_fits(ref.name, name) for name in image.names) and re.search(image.tag, ref.tag):
            return image
    return None


def _fits(name: str, wanted: str) -> bool:
    return name.startswith(wanted[:-1]) if wanted.endswith("*") else name == wanted


class CudaImage(NamedTuple):
    """The CUDA version of an ``nvidia/cuda`` base, and the digit after ``cudnn`` (None: no cudnn)."""

    version: tuple[int, int]
    text: str
    cudnn: str | None


def cuda_base(ref: ImageRef) -> CudaImage | None:
    """Return what the tag of an ``nvidia/cuda`` image says, or None for other images."""
    if not re.fullmatch(r"(?:nvcr\.io/)?nvidia/(?:cuda|cudagl)(?:-[a-z0-9]+)?", ref.name):
        return None
    version = re.match(r"(\d+)\.(\d+)(?:\.\d+)?", ref.tag)
    if version is None:
        return None
    cudnn = re.search(r"-cudnn(\d*)(?=-|$)", ref.tag)
    return CudaImage((int(version[1]), int(version[2])), version[0], cudnn[1] if cudnn else None)


def is_floating(ref: ImageRef) -> bool:
    """Return whether the reference means another image tomorrow: no tag, ``latest``, or ``latest-...``."""
    if ref.digest or ref.name == "scratch":
        return False
    return not ref.tag or re.fullmatch(r"latest(?:[-_.].*)?|(?:.*-)?latest|nightly", ref.tag) is not None
