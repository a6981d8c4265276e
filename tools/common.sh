# shellcheck shell=bash
# Shared by setup, demo, check and bench: sourced, not run.
# Expects ROOT, the top of the checkout, to be set.

VENV="$ROOT/.venv"
# The virtual environment is used by path, never activated; nothing of the caller's Python leaks in.
unset PYTHONHOME PYTHONPATH PYTHONSTARTUP
export PYTHONNOUSERSITE=1 PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '%s\n' "$*"; }
die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

reported=0 # has the reason of a failure been printed?
# quietly LOG COMMAND...: the output goes to LOG and is shown only when the command fails.
quietly() {
    local log=$1 status=0
    shift
    mkdir -p "$(dirname "$log")"
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if ((status)); then
        reported=1
        tail -n 40 "$log" >&2
        printf '%s: failed (%d): %s\n(the whole output: %s)\n' "$(basename "$0")" "$status" "$*" "$log" >&2
    fi
    return "$status"
}

# content_key PATH...: one hash of the names and contents of all files below the paths, compiled leftovers aside.
content_key() {
    (
        cd "$ROOT" || exit 1
        { find "$@" -name __pycache__ -prune -o -type f ! -name '*.pyc' ! -name '*.so' -print0 || true; } |
            LC_ALL=C sort -z | xargs -0 -r sha256sum | sha256sum | cut -d' ' -f1
    )
}

# Can this machine mount? Says why not on stdout.
fuse_missing() {
    if [[ ! -e /dev/fuse ]]; then
        say "/dev/fuse is missing"
    elif ! { true <>/dev/fuse; } 2>/dev/null; then
        say "/dev/fuse cannot be opened by $(id -un)"
    elif ! command -v fusermount3 >/dev/null; then
        say "fusermount3 is missing (package fuse3)"
    else
        return 1
    fi
}
