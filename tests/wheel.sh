#!/usr/bin/env bash
# The built wheel, installed elsewhere with the checkout out of sight: `price`, `demo` and `serve` still work. It is
# compiled where there is a C compiler, and another one is plain Python.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
TAXIMETER_PURE=1 .venv/bin/python -m build --quiet --wheel --outdir "$here/pure" . >/dev/null
[ -e "$here"/pure/taximeter-*-py3-none-any.whl ] || { echo "of plain Python: $(ls "$here/pure")"; exit 1; }
if python3 -m zipfile -l "$here"/pure/*.whl | grep -q '\.so '; then echo "an extension module in a wheel of plain Python"; exit 1; fi
.venv/bin/python -m build --quiet --wheel --outdir "$here/dist" . >/dev/null
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet "$here"/dist/*.whl
cd "$here"
taximeter="$here/venv/bin/taximeter"
"$here/venv/bin/python" -c 'import proxy, rates, sys; assert sys.prefix in proxy.__file__ and sys.prefix in rates.__file__'
form=$(command -v gcc >/dev/null && echo compiled || echo "plain Python")
grep -q ", $form$" <("$taximeter" --version) || { echo "not $form: $("$taximeter" --version)"; exit 1; }
grep -q ", plain Python$" <(TAXIMETER_PURE=1 "$taximeter" --version)
price=$("$taximeter" price ft:gpt-4o-mini-2024-07-18:acme::abc123 --prompt-tokens 1000 --completion-tokens 500 --at 2026-11-01 --json)
grep -q '"cost_nanos": *900000' <<<"$price" || { echo "price says: $price"; exit 1; }
"$taximeter" demo >"$here/demo.txt" || { cat "$here/demo.txt"; exit 1; }
TAXIMETER_LISTEN=127.0.0.1:0 TAXIMETER_OPS_LISTEN=127.0.0.1:0 TAXIMETER_DATA_DIR="$here/data" \
  "$taximeter" serve >"$here/serve.txt" 2>&1 &
pid=$!
for _ in $(seq 100); do grep -q OPENAI_BASE_URL "$here/serve.txt" && break; sleep 0.1; done
kill -INT "$pid"
wait "$pid" || { cat "$here/serve.txt"; exit 1; }
grep -q OPENAI_BASE_URL "$here/serve.txt" || { cat "$here/serve.txt"; exit 1; }
echo "wheel: 1 passed, 0 failed"
