#!/bin/sh
# What must be on the machine before anything else: each tool that is missing or too old is named
# in one line, and the exit code is 2. The rest is installed by the harness.
# Runs before cargo does (Makefile), so that a missing Rust is said as plainly as a missing Node.

failed=0

# need NAME MINIMUM FOUND WHERE: FOUND is empty when the tool is missing.
need() {
    if [ -z "$3" ]; then
        echo "$1: not found; needed: $2 ($4)" >&2
        failed=1
    elif [ "$(printf '%s\n%s\n' "${2%% *}" "$3" | sort -V | head -n 1)" != "${2%% *}" ]; then
        echo "$1: found $3; needed: $2 ($4)" >&2
        failed=1
    fi
}

# The first version number in what a tool says.
version() {
    "$@" 2>/dev/null | sed -n 's/^[^0-9]*\([0-9][0-9.]*\).*/\1/p' | head -n 1
}

# rustc must come with a cargo of the same release.
need Rust "1.95 or later" "$(command -v cargo >/dev/null && version rustc --version)" "https://rustup.rs"
need Go "1.26 or later" "$(version go env GOVERSION)" "https://go.dev/dl"
need "Python 3.11" "3.11 with venv" "$(version python3.11 --version)" "https://www.python.org"
need Node "20 or later" "$(version node --version)" "https://nodejs.org"

if [ -n "$(version python3.11 --version)" ] && ! python3.11 -c 'import venv, ensurepip' 2>/dev/null; then
    echo "Python 3.11: found without its venv module; needed: 3.11 with venv (Debian: python3.11-venv)" >&2
    failed=1
fi

[ "$failed" = 0 ] || exit 2
