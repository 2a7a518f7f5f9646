#!/usr/bin/env bash
# Install livephase on a Linux instrument PC: a virtual environment, the service's account, the systemd unit, udev rules.
# Run again, it updates. See deploy/README.md.
set -euo pipefail
# What is installed is to be seen by itself, whatever the shell that this was called from has set.
unset PYTHONPATH PYTHONHOME

usage() {
    cat <<'HELP'
usage: deploy/install.sh [options]

  --dry-run        say what would be done, and do nothing
  --cuda[=TAG]     torch for an NVIDIA GPU (TAG of PyTorch's index, as cu128; default cu126), and its module at boot
  --prefix DIR     where the program goes (default /opt/livephase)
  --python PATH    the Python to use, 3.11 or later (default python3)
  --root DIR       only lay the files down, below DIR: for packages and images; needs no root rights
  --uninstall      remove what this script has installed; runs, token and account stay
  --help           this

Settings of your own belong into drop-ins (`systemctl edit livephase`): no update touches them.
HELP
}

die() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=$(dirname "$here")
prefix=/opt/livephase
root=""
python=python3
cuda=""
dry_run=false
uninstall=false
readonly data=/var/lib/livephase
readonly unit=/etc/systemd/system/livephase.service
readonly users=/etc/sysusers.d/livephase.conf
readonly rules=/etc/udev/rules.d/70-livephase.rules
readonly modules=/etc/modules-load.d/livephase-cuda.conf
readonly command=/usr/local/bin/livephase

while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) dry_run=true ;;
        --uninstall) uninstall=true ;;
        --cuda) cuda=cu126 ;;
        --cuda=?*) cuda=${1#*=} ;;
        --prefix=?* | --root=?* | --python=?*) set -- "${1%%=*}" "${1#*=}" "${@:2}"; continue ;;
        --prefix | --root | --python)
            if [ $# -lt 2 ] || [ -z "$2" ]; then
                die "$1 needs a value" 2
            fi
            case $1 in
                --prefix) prefix=$2 ;;
                --root) root=$2 ;;
                *) python=$2 ;;
            esac
            shift
            ;;
        --help | -h) usage; exit 0 ;;
        *) usage >&2; die "unknown option '$1'" 2 ;;
    esac
    shift
done
prefix=${prefix%/}
# systemd takes absolute paths only, and a prefix of / or /usr would be removed with everything in it.
case $prefix in
    *[!A-Za-z0-9/._-]* | */../* | */..) die "--prefix may hold letters, digits, '.', '_' and '-' only: not '$prefix'" 2 ;;
    /*/*) ;;
    *) die "--prefix has to be a folder of its own, as /opt/livephase: not '$prefix'" 2 ;;
esac
# A folder of ours is known by this file; nothing else is ever removed.
readonly mark=$prefix/.livephase-installed

# ---- what every step goes through

# Run a command on this machine, or only say it.
act() {
    printf '  %s\n' "$*"
    if ! $dry_run; then
        "$@"
    fi
}

# The same for a command that is about this very machine: there is none below --root, and not all of them in a container.
on_machine() {
    if [ -n "$root" ]; then
        return
    fi
    if ! command -v "$1" >/dev/null || { [ "$1" = systemctl ] && [ ! -d /run/systemd/system ]; }; then
        echo "  left out, as there is no $1 at work here: $*"
        return
    fi
    act "$@"
}

# Lay a file down, its text from stdin; an unchanged one is not touched.
lay() {
    local target=$root$1 mode=$2 text
    text=$(cat; printf x)
    text=${text%x}
    if [ -f "$target" ] && [ ! -L "$target" ] && printf '%s' "$text" | cmp -s - "$target"; then
        printf '  %s is up to date\n' "$target"
        return
    fi
    printf '  write %s\n' "$target"
    if ! $dry_run; then
        mkdir -p "$(dirname "$target")"
        # Whole or not at all.
        printf '%s' "$text" >"$target.new"
        chmod "$mode" "$target.new"
        mv -f "$target.new" "$target"
    fi
}

remove() {
    local target
    for target in "$@"; do
        if [ -e "$root$target" ] || [ -L "$root$target" ]; then
            act rm -rf -- "$root$target"
        fi
    done
}

# A run that goes on would start its stages anew from another version, or from none.
refuse_while_running() {
    if [ -z "$root" ] && systemctl is-active --quiet livephase.service 2>/dev/null; then
        echo "the service is running: 'systemctl stop livephase' ends its run in order; then $1 again" >&2
        $dry_run || exit 1
    fi
}

# ---- the two jobs

install_livephase() {
    [ -z "$cuda" ] || echo "torch for NVIDIA GPUs ($cuda)"
    refuse_while_running install
    if [ -e "$root$prefix" ] && [ ! -e "$root$mark" ] && [ -n "$(ls -A "$root$prefix")" ]; then
        die "$root$prefix is there and not of this script's making: choose another --prefix"
    fi

    echo "the program, in $prefix"
    lay "$mark" 0644 <<<"livephase, by deploy/install.sh: --uninstall removes this folder"
    if [ -z "$root" ]; then
        "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
            die "'$python' is no Python 3.11 or later with venv: on Debian, apt install python3-venv; or give --python"
        act "$python" -m venv "$prefix/venv"
        local pip=("$prefix/venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$here/constraints.txt")
        if [ -n "$cuda" ]; then
            act "${pip[@]}" --extra-index-url "https://download.pytorch.org/whl/$cuda" "torch==$(torch_version)+$cuda"
        else
            act "${pip[@]}" torch
        fi
        # Built from a copy: no build folder that belongs to root stays in the clone.
        build=$(mktemp -d)
        trap 'rm -rf "$build"' EXIT
        act cp -r "$source_dir/pipeline" "$source_dir/drivers" "$source_dir/pyproject.toml" "$source_dir/README.md" \
            "$source_dir/LICENSE" "$build"
        act "${pip[@]}" --upgrade "$build"
    fi
    lay "$prefix/README.md" 0644 <"$here/README.md"
    if [ -e "$root$command" ] && [ ! -L "$root$command" ]; then
        echo "  $root$command stays: it is not of this script's making"
    else
        act mkdir -p "$root${command%/*}"
        act ln -sfn "$prefix/venv/bin/livephase" "$root$command"
    fi

    echo "the service"
    lay "$users" 0644 <"$here/systemd/sysusers.d/livephase.conf"
    on_machine systemd-sysusers "$users"
    lay "$unit" 0644 < <(sed "s#/opt/livephase#$prefix#g" "$here/systemd/livephase.service")
    lay "$rules" 0644 <"$here/udev/70-livephase.rules"
    if [ -n "$cuda" ]; then
        lay "$modules" 0644 <"$here/systemd/modules-load.d/livephase-cuda.conf"
    fi
    on_machine systemctl daemon-reload
    on_machine udevadm control --reload
    on_machine udevadm trigger --subsystem-match=usb --subsystem-match=tty

    if [ -z "$root" ]; then
        echo "done. Start it, now and at every boot:"
        echo "  systemctl enable --now livephase"
        echo "The page asks for the token in $data/token; $prefix/README.md goes on from here."
    fi
}

# As the constraints pin it.
torch_version() {
    sed -n 's/^torch==\([0-9.]*\).*/\1/p' "$here/constraints.txt"
}

uninstall_livephase() {
    refuse_while_running uninstall
    if [ -e "$root$unit" ]; then
        on_machine systemctl disable livephase.service
    fi
    remove "$unit" "$users" "$rules" "$modules"
    if [ "$(readlink "$root$command" 2>/dev/null)" = "$prefix/venv/bin/livephase" ]; then
        remove "$command"
    fi
    if [ -e "$root$mark" ]; then
        remove "$prefix"
    elif [ -e "$root$prefix" ]; then
        echo "  $root$prefix stays: it is not of this script's making"
    fi
    on_machine systemctl daemon-reload
    on_machine udevadm control --reload
    echo "Runs and token stay in $root$data, and so does the account they belong to."
}

main() {
    $dry_run && echo "(nothing is done: --dry-run)"
    if [ -z "$root" ] && ! $dry_run && [ "$(id -u)" -ne 0 ]; then
        die "this changes the system: run it with sudo, or see --dry-run"
    fi
    if $uninstall; then
        uninstall_livephase
    else
        install_livephase
    fi
}

# One line: the shell has read all of it by now, and a `git pull` meanwhile changes nothing.
main; exit
