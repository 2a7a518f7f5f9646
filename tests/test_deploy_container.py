"""No container engine runs these files here, so each of their keys is compared with those that there are."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from deploy_files import DEPLOY, call, needs_systemd, seconds, unit_file

CONTAINER = DEPLOY / "container"


def words(text: str) -> set[str]:
    return set(text.split())


# Of podman-systemd.unit(5), those that matter here.
_QUADLET = words(
    """
    AddCapability AddDevice ContainerName DropCapability Entrypoint Environment Exec Group GroupAdd HealthCmd
    HealthInterval HealthOnFailure HealthRetries HealthStartPeriod HealthTimeout HostName Image LogDriver Mount Network
    NoNewPrivileges Notify PidsLimit PodmanArgs PublishPort Pull ReadOnly ReadOnlyTmpfs ShmSize StopSignal StopTimeout
    Sysctl Timezone Tmpfs Ulimit User UserNS Volume WorkingDir
    """
)
# Of the Compose specification.
_COMPOSE = words(
    """
    build cap_add cap_drop command deploy device_cgroup_rules devices entrypoint environment group_add
    healthcheck image init ipc logging network_mode ports read_only restart security_opt shm_size stop_grace_period
    stop_signal tmpfs ulimits user volumes working_dir
    """
)


def test_the_quadlet():
    quadlet = unit_file((CONTAINER / "livephase.container").read_text(encoding="utf-8"))
    assert set(quadlet) == {"Unit", "Container", "Service", "Install"}
    container = quadlet["Container"]
    assert {key for key, _ in container} <= _QUADLET
    assert ("AddDevice", "nvidia.com/gpu=all") in container
    settings = dict(container)
    assert settings["Network"] == "host", "the service listens on 127.0.0.1"
    assert settings["NoNewPrivileges"] == "true"
    assert settings["User"] not in ("0", "root")
    assert "ShmSize" in settings, "podman's own 64 MB hold no ring"
    # Each has to outlast the one below it, or a run is killed while it drains.
    assert int(settings["StopTimeout"]) >= 600
    assert seconds(dict(quadlet["Service"])["TimeoutStopSec"]) > int(settings["StopTimeout"])


@needs_systemd
def test_systemd_understands_its_part_of_the_quadlet(tmp_path):
    text = (CONTAINER / "livephase.container").read_text(encoding="utf-8")
    text = text.replace("[Container]", "[X-Container]")
    text = text.replace("[Service]\n", "[Service]\nExecStart=/bin/true\nType=notify\n")
    (tmp_path / "livephase.service").write_text(text)
    said = call("systemd-analyze", "verify", tmp_path / "livephase.service")
    assert (said.returncode, said.stderr) == (0, "")


def test_compose():
    compose = yaml.safe_load((CONTAINER / "compose.yaml").read_text(encoding="utf-8"))
    cuda = yaml.safe_load((CONTAINER / "compose.cuda.yaml").read_text(encoding="utf-8"))
    (service,) = compose["services"].values()
    assert set(service) <= _COMPOSE
    assert set(compose) <= {"name", "services", "volumes"}
    named = {volume.split(":")[0] for volume in service["volumes"] if volume[0] != "/"}
    assert named == set(compose["volumes"])
    assert service["network_mode"] == "host", "the service listens on 127.0.0.1"
    assert service["shm_size"] == "16gb"
    assert seconds(service["stop_grace_period"]) >= 600
    assert service["cap_drop"] == ["ALL"]
    build = service["build"]
    assert (CONTAINER / build["context"] / build["dockerfile"]).samefile(
        CONTAINER / "Containerfile"
    )
    assert set(cuda["services"]) == set(compose["services"])
    (gpu,) = cuda["services"]["livephase"]["deploy"]["resources"]["reservations"]["devices"]
    assert gpu == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert set(cuda["services"]["livephase"]["build"]["args"]) <= set(build["args"])


def instructions(text: str) -> list[tuple[str, str]]:
    """A Containerfile's instructions, in order."""
    joined = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text))
    lines = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(word, " ".join(rest.split())) for word, rest in lines]


def test_the_containerfile():
    text = (CONTAINER / "Containerfile").read_text(encoding="utf-8")
    steps = instructions(text)
    words = [word for word, _ in steps]
    known = "ARG FROM RUN ENV COPY USER WORKDIR VOLUME EXPOSE STOPSIGNAL HEALTHCHECK ENTRYPOINT CMD"
    assert set(words) <= set(known.split())
    assert dict(steps)["USER"] == "livephase"
    # The large layer stays where only the source changes.
    copied = [rest for word, rest in steps if word == "COPY"]
    assert copied[0].startswith("deploy/constraints.txt")
    for rest in copied:
        for source in rest.split()[:-1]:
            assert (DEPLOY.parent / source).exists(), source
    ignored = (CONTAINER / "Containerfile.dockerignore").read_text().splitlines()
    for rest in copied:
        for source in rest.split()[:-1]:
            assert f"!{source}" in ignored, f"{source} would not reach the build"
    assert json.loads(dict(steps)["ENTRYPOINT"]) == ["livephase"]
    assert json.loads(dict(steps)["CMD"])[0] == "serve"
    check = dict(steps)["HEALTHCHECK"].partition("CMD ")[2]
    compile(json.loads(check)[2], "healthcheck", "exec")
    build_args = [rest.split("=")[0] for word, rest in steps if word == "ARG"]
    compose = yaml.safe_load((CONTAINER / "compose.yaml").read_text(encoding="utf-8"))
    assert set(compose["services"]["livephase"]["build"]["args"]) <= set(build_args)
    assert not re.search(r"(?i)(password|secret|token)\s*=", text)


@pytest.mark.parametrize(
    "file", ["container/Containerfile", "container/livephase.container", "container/compose.yaml"]
)
def test_what_nobody_has_run_says_so(file):
    assert "UNRUN" in (DEPLOY / file).read_text(encoding="utf-8")
