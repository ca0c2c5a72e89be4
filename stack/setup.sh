#!/bin/sh
# Finds a Python of 3.11 or later and makes .venv ready with it.
# Usage: stack/setup.sh [dev]        PYTHON=/path/to/python3 overrules the search.
set -eu
cd "$(dirname "$0")/.."

fits() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    candidates=$PYTHON
else
    candidates="python3 python3.11 python3.12 python3.13 python3.14 python"
fi
for candidate in $candidates; do
    if fits "$candidate"; then
        exec "$candidate" stack/bootstrap.py "$@"
    fi
done

found=$("${PYTHON:-python3}" --version 2>/dev/null || true)
echo "Python 3.11 or later is needed; found: ${found:-none}${PYTHON:+ ($PYTHON)}." >&2
echo "Install it (Debian, Ubuntu: apt install python3 python3-venv), or name one: PYTHON=/path/to/python3 make up" >&2
exit 1
