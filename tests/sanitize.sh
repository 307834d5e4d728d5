#!/usr/bin/env bash
# The tests under AddressSanitizer and UndefinedBehaviorSanitizer, on a build with bounds checks:
#
#     bash tests/sanitize.sh [arguments of pytest]
#
# In a fresh virtual environment, from a copy of what git tracks.  Needs gcc with libasan and libubsan, and
# the package index.  Left out: what measures time or limits the address space, of which the sanitizer takes
# terabytes, or the stack, what starts other builds or processes that know nothing of it, and the longest.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/checkout"
git ls-files -z | xargs -0 cp --parents -t "$work/checkout"
cd "$work/checkout"

python3 -m venv "$work/venv"
. "$work/venv/bin/activate"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1
CYRNN_DEBUG=1 CC="gcc -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer" pip install '.[test]'

# The interpreter itself knows nothing of the sanitizer, so it comes first; it never frees all it has, so leaks
# are looked for by tests/test_memory.py.  Python's own allocator would hide what runs over a small block.
export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
export PYTHONMALLOC=malloc OMP_WAIT_POLICY=passive
if [ $# -eq 0 ]; then
    set -- -q -n 2 tests --ignore tests/test_main.py --ignore tests/test_package.py --ignore tests/test_torch.py \
        --ignore tests/test_benchmarks.py --ignore tests/test_environment.py --ignore tests/test_freezing.py \
        --ignore tests/test_processes.py --ignore tests/test_stack.py --ignore tests/test_types.py \
        --ignore tests/test_onnx.py --ignore tests/test_exchange.py --ignore tests/test_exchange_networks.py \
        --ignore tests/test_models.py \
        -k "not no_memory and not small_calls and not gil and not container and not share_the_processors and not large_sizes and not waits and not hundred_thousand and not guide and not slept and not busy_machine and not v3"
fi
python -m pytest -p no:cacheprovider --capture=sys "$@"  # not the reports, which are written below Python
