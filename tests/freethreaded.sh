#!/usr/bin/env bash
# The package on a free-threaded Python, and under ThreadSanitizer:
#
#     bash tests/freethreaded.sh [build] [suite] [race] [speed] [tsan]      by default all of them
#
# build   CPython with --disable-gil from the source package of Debian, fetched into a folder
# suite   the tests, of which those of libraries that have no wheel for it are skipped
# race    eight threads over random problems for a minute, with and without the threads of OpenMP: tests/race.py
# speed   two Python threads at small sizes against one, in turn
# tsan    a CPython and the kernels built with ThreadSanitizer, and the races again
#
# CYRNN_FREETHREADED names the folder, which is kept and used again; by default a new one, which is removed.
# CYRNN_FREETHREADED_PYTHON and CYRNN_FREETHREADED_TSAN name interpreters that are there already.  Needs gcc with libtsan,
# make, and the package index; the interpreters take about 5 minutes of two processors each.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
kept=${CYRNN_FREETHREADED:-$work}
mkdir -p "$kept"
[ $# -gt 0 ] || set -- build suite race speed tsan
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1 OPENBLAS_NUM_THREADS=1
unset CYRNN_BUILD CYRNN_DEBUG PYTHON_GIL

mkdir "$work/checkout"
git ls-files -z | xargs -0 cp --parents -t "$work/checkout"
cd "$work/checkout"

# The sources of CPython 3.13; apt with a state of its own, so that nothing is installed.
sources() {
    compgen -G "$kept/Python-3.13*" > /dev/null && return
    local state="$kept/apt"
    mkdir -p "$state"/{state/lists/partial,cache/archives/partial}
    # from where this system has its packages, of the release that has 3.13
    local site=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' | head -n 1)
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${site:?} trixie main" > "$state/sources"
    apt=(-qq -o "Dir::State=$state/state" -o "Dir::Cache=$state/cache" -o "Dir::Etc::sourcelist=$state/sources"
        -o Dir::Etc::sourceparts=/dev/null -o APT::Sandbox::User=root)
    apt-get "${apt[@]}" update
    (cd "$kept" && apt-get "${apt[@]}" source --download-only python3.13 && tar xf python3.13_*.orig.tar.xz)
}

# interpreter <name> <options of configure>: $kept/<name>/bin/python3
interpreter() {
    [ ! -x "$kept/$1/bin/python3" ] || return 0
    sources
    mkdir -p "$kept/$1-build"
    (
        cd "$kept/$1-build"
        "$kept"/Python-3.13*/configure -q --disable-gil --disable-test-modules --prefix="$kept/$1" "${@:2}" \
            > log 2>&1
        { make -s -j "$(nproc)" && make -s install; } >> log 2>&1 || { tail -n 30 log; exit 1; }
    )
    rm -rf "$kept/$1-build"
}

plain() {
    python=${CYRNN_FREETHREADED_PYTHON:-$kept/plain/bin/python3}
    [ -x "$python" ] || interpreter plain
}

# package <name> <interpreter> <the package and its extras>: in a virtual environment, which is entered; it must not have
# switched the GIL on
package() {
    [ -d "$work/$1" ] || "$2" -m venv "$work/$1"
    . "$work/$1/bin/activate"
    pip install --only-binary hypothesis "$3"   # its latest versions are compiled, and not for every Python
    (cd tests && python -W error -c 'import sys, cyrnn; assert not sys._is_gil_enabled(); print(sys.version)')
}

on_build() {
    plain
    package free "$python" '.[test]'
    deactivate
}

on_suite() {
    plain
    package free "$python" '.[test]'
    python -W error -c "import numpy; print('NumPy', numpy.__version__)"
    # What measures time or memory by the byte is measured with a GIL; two threads at once are of interest here.
    (cd tests && PYTHON_GIL=0 pytest -q -n 2 -m "not alone" -p no:cacheprovider)
    (cd tests && PYTHON_GIL=0 pytest -q -m alone -k "another or lets_go or at_once" -p no:cacheprovider)
    deactivate
}

on_race() {
    plain
    package free "$python" '.[test]'
    (cd tests && python race.py --seconds 45 && python race.py --seconds 15 --seed 1 --serial)
    deactivate
}

on_speed() {
    plain
    package free "$python" '.[test]'
    python benchmarks/two_threads.py --most 1.1
    deactivate
}

on_tsan() {
    tsan=${CYRNN_FREETHREADED_TSAN:-$kept/tsan/bin/python3}
    # Some kernels have more random bits in addresses than ThreadSanitizer of gcc 12 can do with.
    setarch -R true 2> /dev/null && fixed=(setarch -R) || fixed=()
    sources
    export TSAN_OPTIONS=report_bugs=0
    [ -x "$tsan" ] || interpreter tsan --with-thread-sanitizer CFLAGS=-O1
    export CC="gcc -fsanitize=thread"
    "${fixed[@]}" "$tsan" -m venv "$work/tsan"
    . "$work/tsan/bin/activate"
    "${fixed[@]}" pip install .
    unset CC
    # the races of CPython itself, as its own tests leave them out
    export TSAN_OPTIONS="exitcode=66 suppressions=$(echo "$kept"/Python-3.13*/Tools/tsan/suppressions_free_threading.txt)"
    (cd tests && "${fixed[@]}" python race.py --seconds "${TSAN_SECONDS:-60}" --serial)
    deactivate
}

for stage in "$@"; do
    echo "-- $stage"
    "on_$stage"
done
echo "free-threaded: $*, all right"
