#!/bin/sh
# Builds the real pycuda without a GPU or a driver, and runs the tests of CUDA on it.
# usage: sh tests/edge/cuda/pycuda_on_host.sh [VERSION [PYTHON]]   about 2 minutes, needs nvcc and c++
#
# pycuda links libcuda, of which a computer without a driver has none, and guesses the toolkit's
# folder by the place of nvcc. So it is told both: the simulated driver with every other function
# refused, and the folder that holds cuda.h. Both go in its .aksetup-defaults.py, read from $HOME.
set -eu
version=${1:-2026.1}
python=${2:-python3}
root=$(cd "$(dirname "$0")/../../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

nvcc=$(command -v nvcc) || { echo "pycuda: no nvcc on PATH, so no CUDA toolkit: not built" >&2; exit 2; }
toolkit=$("$nvcc" --dryrun -E -x cu /dev/null 2>&1 | sed -n 's/^#\$ TOP=//p')
toolkit=$(cd "$toolkit" && pwd)
[ -f "$toolkit/include/cuda.h" ] || { echo "pycuda: no include/cuda.h in $toolkit: not built" >&2; exit 2; }

"$python" -m venv "$scratch/venv"
venv=$scratch/venv/bin/python
"$venv" -m pip install --quiet --upgrade pip 'setuptools<81' wheel
"$venv" -m pip install --quiet numpy msgspec click pytest pytools platformdirs mako
"$venv" -m pip download --quiet --no-deps --no-build-isolation --no-binary pycuda \
    --dest "$scratch" "pycuda==$version"

# What to link against: the names are in the toolkit's header, and at run time the simulated driver
# answers what it simulates and refuses the rest.
sed -n 's/^CUresult CUDAAPI \(cu[A-Za-z0-9_]*\)(.*/\1/p; s/^#define cu[A-Za-z0-9_]* *\(cu[A-Za-z0-9]*_v[0-9]\)$/\1/p' \
    "$toolkit"/include/cuda*.h | sort -u | sed 's/.*/int &(void) { return 34; }/' > "$scratch/stub.c"
cc -shared -fPIC -o "$scratch/libcuda.so" -Wl,-soname,libcuda.so.1 "$scratch/stub.c"

cat > "$scratch/.aksetup-defaults.py" <<END
CUDA_ROOT = "$toolkit"
CUDA_ENABLE_CURAND = False
CUDADRV_LIB_DIR = ["$scratch"]
CUDADRV_LIBNAME = ["cuda"]
CUDART_LIB_DIR = ["$toolkit/lib", "$toolkit/lib64"]
END
echo "pycuda $version: building against $toolkit"
HOME=$scratch PATH=$toolkit/bin:$PATH "$venv" -m pip install --quiet --no-build-isolation --no-deps \
    "$scratch"/pycuda-*.tar.gz
cd "$root"
"$venv" -m pip list 2>/dev/null | grep -iE '^(pycuda|numpy) '
exec "$venv" -m pytest -q -p no:cacheprovider tests/edge/cuda
