"""What an admin installs: unit, account, rules, installer. Judged by the tools that will read them."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from deploy_files import DEPLOY, call, needs_systemd, seconds, unit_file
from lamp_log import under_the_lamp

from pipeline.lifecycle.after_service import leave_dark, left_over, main
from pipeline.stages.light_mark import LightMark
from pipeline.store.run_folder import RunFolder

UNIT = DEPLOY / "systemd" / "livephase.service"

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="Linux's own")


# ---- systemd


@pytest.fixture
def runnable_unit(tmp_path):
    """The unit with programs that are there, as systemd looks for them."""
    text = re.sub(r"/opt/livephase/venv/bin/\w+", "/bin/true", UNIT.read_text(encoding="utf-8"))
    copy = tmp_path / "livephase.service"
    copy.write_text(text, encoding="utf-8")
    return copy


@needs_systemd
def test_systemd_understands_every_word_of_the_unit(runnable_unit):
    said = call("systemd-analyze", "verify", runnable_unit)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    # It returns 0 for a misspelt key as well: what it says is the verdict.
    runnable_unit.write_text(runnable_unit.read_text() + "\n[Service]\nWatchdogSecs=3\n")
    assert "WatchdogSecs" in call("systemd-analyze", "verify", runnable_unit).stderr


@needs_systemd
def test_the_service_may_do_little_else(runnable_unit):
    said = call(
        "systemd-analyze",
        "security",
        "--offline=true",
        "--threshold=40",
        "--no-pager",
        runnable_unit,
    )
    assert said.returncode == 0, said.stdout[-300:]


def test_the_unit_keeps_what_a_run_needs():
    unit = unit_file(UNIT.read_text(encoding="utf-8"))
    service = dict(unit["Service"])
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    assert "MemoryDenyWriteExecute" not in service, "torch compiles while it runs"
    assert "PrivateDevices" not in service, "there would be no camera"
    assert service["RemoveIPC"] == "no", "the counters of a killed run are still wanted"
    assert service["OOMPolicy"] == "continue", "a killed stage is restarted, the run goes on"
    assert seconds(service["WatchdogSec"]) >= 30, "a machine that swaps is no hung one"
    # A drain takes minutes; ending before it would cost the run its order.
    assert seconds(service["TimeoutStopSec"]) >= 600
    assert "StartLimitBurst" in dict(unit["Unit"])
    devices = [value.split()[0] for key, value in unit["Service"] if key == "DeviceAllow"]
    assert {"char-nvidia*", "char-ttyUSB", "char-ttyACM", "char-usb_device"} <= set(devices)
    command = shlex.split(service["ExecStart"])
    assert command[1:] == ["serve", "--home", "/var/lib/livephase"]
    assert service["ReadWritePaths"] == "/var/lib/livephase"


@linux_only
@needs_systemd
def test_the_account_has_the_groups_that_the_unit_asks_for(tmp_path):
    (tmp_path / "etc").mkdir()
    conf = DEPLOY / "systemd/sysusers.d/livephase.conf"
    said = call("systemd-sysusers", f"--root={tmp_path}", conf)
    assert said.returncode == 0, said.stderr
    groups = {}
    for line in (tmp_path / "etc/group").read_text().splitlines():
        name, _, _, members = line.split(":")
        groups[name] = members.split(",")
    asked = dict(unit_file(UNIT.read_text(encoding="utf-8"))["Service"])["SupplementaryGroups"]
    for group in asked.split():
        assert "livephase" in groups[group], "a unit with an unknown group does not start"
    passwd = (tmp_path / "etc/passwd").read_text()
    assert passwd.rstrip().endswith("/usr/sbin/nologin")


def test_udev_rules_are_whole():
    text = (DEPLOY / "udev/70-livephase.rules").read_text(encoding="utf-8")
    term = r'[A-Z_]+(\{[\w/]+\})?(==|!=|=)"[^"]*"'
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(rf"{term}(, {term})*", line), line
    labels = set(re.findall(r'LABEL="(\w+)"', text))
    assert labels == set(re.findall(r'GOTO="(\w+)"', text))
    # "ACTION="add"" where a comparison was meant would be a rule for everything.
    for key in ("ACTION", "SUBSYSTEM", "KERNEL", "TEST"):
        assert not re.search(rf'{key}="', text)


def test_no_run_leaves_its_light_on(tmp_path, make_experiment, lamp):
    """As `ExecStopPost`, when every process was killed, the light keeper among them."""
    experiment = make_experiment(microscope=under_the_lamp(lamp))
    runs = tmp_path / "runs"
    runs.mkdir()
    for name in ("lit", "dark", "goes-on"):
        folder = RunFolder(runs / name)
        with folder.lock():
            folder.create(experiment)
        if name != "dark":
            LightMark(folder.path).set()
    (runs / "notes").mkdir()
    lamp.path.write_text(json.dumps({"on": True, "monotonic": time.monotonic()}) + "\n")
    with RunFolder(runs / "goes-on").lock():
        said = call(sys.executable, "-m", "pipeline.lifecycle.after_service", runs)
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip() == f"{runs / 'lit'}: its light is off"
    assert not lamp.is_on()
    assert not LightMark(runs / "lit").is_set()
    assert LightMark(runs / "goes-on").is_set(), "a run that lives sees to it itself"


@pytest.fixture
def two_processes():
    children = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) for _ in range(2)]
    yield children
    for child in children:
        child.stdin.close()
        child.wait()


@pytest.mark.parametrize("ended", ["success", "timeout", "watchdog"])
def test_a_crashed_service_s_run_goes_on_and_a_stopped_one_s_does_not(
    two_processes, tmp_path, monkeypatch, ended
):
    def alive():
        return [child.pid for child in two_processes if child.poll() is None]

    monkeypatch.setattr("pipeline.lifecycle.after_service.left_over", alive)
    for result in ("exit-code", "signal", "core-dump", "oom-kill", "protocol", ""):
        assert main(tmp_path, result) == 0
        assert len(alive()) == 2, f"the restarted service finds them, after {result}"
    assert main(tmp_path, ended) == 0
    assert alive() == []


def test_what_is_left_over_is_the_unit_s_control_group(tmp_path, capsys):
    own = tmp_path / "cgroup"
    own.write_text("1:name=systemd:/old\n0::/system.slice/livephase.service\n")
    group = tmp_path / "system.slice/livephase.service"
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text(f"41\n{os.getpid()}\n42\n")
    assert left_over(own, tmp_path) == [41, 42], "not itself"
    own.write_text("1:name=systemd:/old\n")
    assert left_over(own, tmp_path) == []
    assert "can't be known" in capsys.readouterr().out, "and the light is put out all the same"


def test_a_light_that_can_t_be_put_out_is_said(tmp_path, make_experiment, lamp, capsys):
    (tmp_path / "runs").mkdir()
    folder = RunFolder(tmp_path / "runs" / "lit")
    with folder.lock():
        folder.create(make_experiment(microscope=under_the_lamp(lamp)))
    LightMark(folder.path).set()
    folder.experiment_file.write_text("microscope: unreadable")
    assert leave_dark(tmp_path / "runs") == [folder.path]
    assert "THE LIGHT MAY STILL BE ON" in capsys.readouterr().out
    assert leave_dark(tmp_path / "never-there") == []


# ---- the installer


def install(*options):
    return call("bash", DEPLOY / "install.sh", *options)


def laid_down(root: Path) -> dict[str, object]:
    """Every file below a folder: its bytes, mode and time."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(root))] = str(path.readlink())
        elif path.is_file():
            status = path.stat()
            mode = stat.S_IMODE(status.st_mode)
            found[str(path.relative_to(root))] = (path.read_bytes(), mode, status.st_mtime_ns)
    return found


@linux_only
def test_the_installer_says_what_it_would_do_and_does_nothing(tmp_path):
    prefix = tmp_path / "opt" / "livephase"
    said = install("--dry-run", "--cuda", f"--prefix={prefix}", "--python", sys.executable)
    assert said.returncode == 0, said.stderr
    torch = next(
        line for line in (DEPLOY / "constraints.txt").read_text().splitlines() if "torch==" in line
    )
    for step in (
        f"-m venv {prefix}/venv",
        f"{torch}+cu126",
        "systemd-sysusers",
        "write /etc/systemd/system/livephase.service",
        "systemctl daemon-reload",
        "systemctl enable --now livephase",
    ):
        assert step in said.stdout, said.stdout
    assert not (tmp_path / "opt").exists()


@linux_only
def test_installed_twice_is_installed_once_and_uninstalling_leaves_the_data(tmp_path):
    root = tmp_path / "root"
    assert install("--root", root, "--cuda", "--prefix", "/srv/livephase").returncode == 0
    first = laid_down(root)
    assert set(first) == {
        "etc/modules-load.d/livephase-cuda.conf",
        "etc/systemd/system/livephase.service",
        "etc/sysusers.d/livephase.conf",
        "etc/udev/rules.d/70-livephase.rules",
        "srv/livephase/.livephase-installed",
        "srv/livephase/README.md",
        "usr/local/bin/livephase",
    }
    assert first["usr/local/bin/livephase"] == "/srv/livephase/venv/bin/livephase"
    content, mode, _ = first["etc/systemd/system/livephase.service"]
    assert content.decode() == UNIT.read_text().replace("/opt/livephase", "/srv/livephase")
    assert mode == 0o644
    again = install("--root", root, "--cuda", "--prefix", "/srv/livephase")
    assert again.returncode == 0
    assert laid_down(root) == first, "not even touched"

    data = root / "var/lib/livephase"
    (data / "runs/mine").mkdir(parents=True)
    (data / "runs/mine/raw.ledger").write_bytes(b"frames")
    (data / "token").write_text("secret")
    kept = laid_down(data)
    gone = install("--root", root, "--prefix", "/srv/livephase", "--uninstall")
    assert gone.returncode == 0, gone.stderr
    assert laid_down(root) == {f"var/lib/livephase/{name}": it for name, it in kept.items()}
    assert f"stay in {data}" in gone.stdout
    assert install("--root", root, "--uninstall").returncode == 0, "nothing left to remove"


@linux_only
def test_what_is_not_the_installer_s_is_left_alone(tmp_path):
    root = tmp_path / "root"
    (root / "opt/livephase").mkdir(parents=True)
    (root / "opt/livephase/thesis.tex").write_text("years")
    (root / "usr/local/bin").mkdir(parents=True)
    (root / "usr/local/bin/livephase").write_text("somebody's script")
    before = laid_down(root)
    refused = install("--root", root)
    assert refused.returncode == 1
    assert "choose another --prefix" in refused.stderr
    assert install("--root", root, "--uninstall").returncode == 0
    assert laid_down(root) == before
    assert install("--root", root, "--prefix", "/opt/other").returncode == 0
    assert (root / "usr/local/bin/livephase").read_text() == "somebody's script"


@linux_only
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--prefix", "/"], "a folder of its own"),
        (["--prefix", "/usr/"], "a folder of its own"),
        (["--prefix", "livephase"], "a folder of its own"),
        (["--prefix", "/opt/../etc"], "letters, digits"),
        (["--prefix"], "--prefix needs a value"),
        (["--unistall"], "unknown option '--unistall'"),
        (["--dry-run", "--python", "/nowhere/python"], "no Python 3.11 or later"),
    ],
)
def test_a_mistake_is_a_sentence(options, complaint):
    said = install(*options)
    assert said.returncode in (1, 2)
    assert complaint in said.stderr
    assert len(said.stderr.splitlines()) == 1 or "usage:" in said.stderr


# ---- Windows


def test_the_windows_service():
    root = ET.parse(DEPLOY / "windows/livephase-service.xml").getroot()
    assert (root.tag, root.findtext("id")) == ("service", "livephase")
    assert root.findtext("executable").endswith("livephase.exe")
    assert root.findtext("arguments").startswith("serve --home ")
    amount, unit = root.findtext("stoptimeout").split()
    assert int(amount) * {"min": 60, "sec": 1}[unit] >= 600, "a drain takes minutes"
    assert [e.get("action") for e in root.findall("onfailure")][-1] == "none"
    assert root.findtext("serviceaccount/username") == r"NT AUTHORITY\LocalService"
    for file in ("livephase-service.xml", "install.ps1"):
        assert "UNTESTED" in (DEPLOY / "windows" / file).read_text(encoding="utf-8")


# ---- the page for the admin


def test_the_guide_names_only_what_is_there():
    guide = (DEPLOY / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w/])deploy/[\w./-]*\w", guide))
    assert named, "it points nowhere"
    # The rules and the configuration of Prometheus are laid beside these.
    missing = {name for name in named if not (DEPLOY.parent / name).exists()}
    assert not {name for name in missing if not name.startswith("deploy/prometheus")}
