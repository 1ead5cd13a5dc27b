#!/bin/sh
# Tests devices, calib and edge on one interpreter, without torch, onnx or anything of the workshop.
# usage: sh tests/house/runtime.sh 3.8
set -eu
version=$1
python=
for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python; do
    if "$candidate" -c "import sys; assert sys.version.startswith('$version.')" >/dev/null 2>&1; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "runtime $version: no interpreter on this machine, not tested"
    exit 0
fi
venv=.venv-$version
if [ ! -e "$venv/.ready" ] || [ pyproject.toml -nt "$venv/.ready" ]; then
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --upgrade pip
    "$venv/bin/python" -m pip install --quiet --editable '.[emulate]' pytest
    touch "$venv/.ready"
fi
echo "runtime $version: $("$venv/bin/python" --version), $("$venv/bin/python" -m pip list 2>/dev/null | grep -iE '^(numpy|msgspec|onnxruntime|opencv-python) ' | tr -s ' ' | tr '\n' ',')"
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider tests/devices tests/calib tests/edge devices calib edge
