# shellcheck shell=bash
# Sourced by the scripts beside it: makes the virtual environment `.venv` once, and again when pyproject.toml changes.
#
# Rules of this file:
# - What it has to say goes to stderr: a script's stdout belongs to its own result.
# - It installs into .venv only. System packages are added only by root, on a system with apt-get, and it says so.
# - PYTHON=/path/to/python chooses the interpreter.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv

say() { printf '%s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

# retry COMMAND...: up to four times, because networks have hiccups.
retry() {
    local pause
    for pause in 2 5 15; do
        if "$@"; then return 0; fi
        say "failed: $*; again in $pause s"
        sleep "$pause"
    done
    "$@"
}

can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# apt_install PACKAGE...: needs can_apt.
apt_install() {
    say "installing system packages: $*"
    retry apt-get -qq update >&2
    DEBIAN_FRONTEND=noninteractive retry apt-get -qq install --yes --no-install-recommends "$@" >&2
}

# unpack_debian PACKAGE: puts a package of Debian's into .venv/debian, so that nothing of it is set up or started; needs can_apt.
unpack_debian() {
    local folder=$venv/debian
    say "unpacking Debian's $1 into .venv/debian"
    mkdir -p "$folder"
    retry apt-get -qq update >&2
    (cd "$folder" && retry apt-get -qq -o APT::Sandbox::User=root download "$1" >&2 && dpkg -x "$1"_*.deb . && rm "$1"_*.deb)
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
makes_environments() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

# Prints the interpreter to use. One that can make environments is preferred to one that needs a package for it first.
find_python() {
    local candidate found=''
    for candidate in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3; do
        new_enough "$candidate" || continue
        if makes_environments "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
        found=${found:-$candidate}
    done
    [ -n "$found" ] || die "Python 3.11 or newer is needed, and none was found on PATH." \
        "Install one (Debian, Ubuntu: apt-get install python3 python3-venv), or set PYTHON to its path."
    add_venv_module "$found"
    printf '%s\n' "$found"
}

add_venv_module() {
    local package
    package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if can_apt; then apt_install "$package"; fi
    makes_environments "$1" || die "$1 cannot make virtual environments: its venv module is a package of its own." \
        "Install it (Debian, Ubuntu: sudo apt-get install $package), then run this again."
}

# The environment is usable here: an interpreter that works, with pip, made for this very folder (a copied one is not).
is_sound() { [ "$(cat "$venv/made-for" 2>/dev/null)" = "$root" ] && "$venv/bin/python" -c 'import pip' 2>/dev/null; }

requirements() { cksum <"$root/pyproject.toml"; }

# is_installed EXTRAS: everything that pyproject.toml asks for is there. The developers' environment serves everybody.
is_installed() {
    local extras
    for extras in "$1" all,dev; do
        if [ "$(cat "$venv/installed-$extras" 2>/dev/null)" = "$(requirements)" ]; then return 0; fi
    done
    return 1
}

make_environment() {
    local python
    python=$(find_python)
    if [ -e "$venv" ] && [ ! -e "$venv/made-for" ]; then
        die "$venv was made by something else; move it away, then run this again."
    fi
    rm -rf "$venv"
    mkdir "$venv"
    printf '%s\n' "$root" >"$venv/made-for"
    "$python" -m venv "$venv"
}

install_requirements() {
    local log=$venv/install.log pip status=0
    "$venv/bin/python" -m pip install --disable-pip-version-check --retries 10 \
        --editable "$root${1:+[$1]}" >"$log" 2>&1 </dev/null &
    pip=$!
    trap 'kill "$pip" 2>/dev/null' EXIT # a background job does not hear Ctrl-C
    printf 'installing into .venv, about a minute, once ' >&2
    while kill -0 "$pip" 2>/dev/null; do
        printf '.' >&2
        sleep 1
    done
    wait "$pip" || status=$?
    trap - EXIT
    say ''
    if [ "$status" != 0 ]; then
        tail -n 5 "$log" >&2
        die "pip could not install what pyproject.toml asks for; the whole story is in $log"
    fi
    requirements >"$venv/installed-$1"
}

# prepare_environment EXTRAS: '' for what the program itself needs, 'all,dev' for tests and tools. Two at once take turns.
prepare_environment() {
    if is_sound && is_installed "$1"; then return 0; fi
    (
        if command -v flock >/dev/null && ! flock --nonblock 9; then
            say 'another run is installing; waiting for it'
            flock 9
        fi
        if ! is_sound; then make_environment; fi
        if ! is_installed "$1"; then install_requirements "$1"; fi
    ) 9>"$root/.venv.lock"
}

# prepare_lowest_environment: the oldest versions that pyproject.toml admits, in `.venv-lowest`; needs the developers' one.
prepare_lowest_environment() {
    lowest=$root/.venv-lowest
    if [ "$(cat "$lowest/installed" 2>/dev/null)" = "$(requirements)" ]; then return 0; fi
    say 'installing the lowest versions into .venv-lowest, once'
    rm -rf "$lowest"
    retry "$venv/bin/uv" venv --quiet --python "$venv/bin/python" "$lowest"
    retry "$venv/bin/uv" pip install --quiet --python "$lowest/bin/python" --resolution lowest-direct --editable "${root}[all,dev]"
    requirements >"$lowest/installed"
}

# usage FILE: prints the comment at the top of a script.
usage() { sed -n '2,/^[^#]/ s/^# \{0,1\}//p' "$1"; }
