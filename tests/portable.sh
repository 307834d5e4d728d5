#!/usr/bin/env bash
# Other processors and compilers, in emulators:
#
#     bash tests/portable.sh [processors] [clang] [serial] [aarch64] [zig]      by default all of them
#
# processors  x86-64 without AVX-512 and without AVX2: which build is picked, that another is refused, the numbers
# clang       the package and its tests by clang
# serial      a compiler without OpenMP and without the flags of the other builds: a package of one thread and one build
# aarch64     cross-compiled: the primitives and the functions of floats, tested and vectorised; the package in Debian's
#             Python for arm64, which apt-get fetches into a folder
# zig         the primitives by zig's clang, from the package index (left out where it is not there): for Linux with musl,
#             run, for aarch64 in an emulator; for Windows, run by wine where that is installed; for macOS, compiled and
#             linked and not run; the headers as MSVC's preprocessor sees them, without GNU C; what runtime/cpu.h asks
#             the processor there.  MSVC itself, its OpenMP and its Python are not seen; nor attributes, which the
#             headers used here define away
#
# Installs nothing but into folders of its own, and says what it misses.  On Debian:
# apt-get install qemu-user clang libomp-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross wine64
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ $# -gt 0 ] || set -- processors clang serial aarch64 zig
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1 OPENBLAS_NUM_THREADS=1
unset CYRNN_BUILD CYRNN_DEBUG OPENBLAS_CORETYPE # which no emulated processor may have

mkdir "$work/checkout"
git ls-files -z | xargs -0 cp --parents -t "$work/checkout"
cd "$work/checkout"

needs() {
    for tool in "$@"; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 1; }; done
}

# A fresh virtual environment with the package in it, built by the compiler given: nothing of another one is taken.  No
# function may take more than 8 kB of the stack; clang takes a little more for the entry points with many arguments.  No
# value of the float32 kernels becomes a double by the way.
package() {
    rm -rf build
    python3 -m venv "$work/$1"
    . "$work/$1/bin/activate"
    local frames="-Werror=frame-larger-than=8192 -Werror=double-promotion"
    [ "$2" != clang ] || frames="-Wframe-larger-than=10240 -Werror=frame-larger-than="
    CC="$2" CFLAGS="$frames" pip install ".${3:-}"
}

# The flags that setup.py gives every build.
flags=$(python3 - <<'PYTHON'
import ast

FLAGS = next(n for n in ast.parse(open("setup.py").read()).body if getattr(n, "targets", 0) and n.targets[0].id == "FLAGS")
found = [n.value for n in ast.walk(FLAGS) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
print(*sorted(flag for flag in found if flag != "-O1"))
PYTHON
)

# primitives <name> <compiler and its options>: <name>, and in float <name>-f32
primitives() {
    "${@:2}" -Wall $flags -I src/cyrnn/_kernels tests/portable/primitives.c -lm -o "$work/$1"
    "${@:2}" -Wall $flags -DCYRNN_F32 -I src/cyrnn/_kernels tests/portable/primitives.c -lm -o "$work/$1-f32"
}

# vectorised <program for aarch64> <shape of a vector> <fewest fused multiply-adds of such vectors in each> <functions>
vectorised() {
    for loop in "${@:4}"; do
        count=$(aarch64-linux-gnu-objdump -d --no-show-raw-insn "$1" |
            awk "/<$loop>:/ { inside = 1 } inside && /^\$/ { inside = 0 } inside" |
            grep -cE "fml[as]\s+v[0-9]+\.$2" || true)
        echo "  $loop: $count fused multiply-adds of vectors of $2"
        [ "$count" -ge "$3" ]
    done
}

on_processors() {
    needs gcc qemu-x86_64
    package processors gcc
    python=$(python -c 'import sys; print(sys.executable)')
    for row in "Nehalem baseline v3 v4" "SandyBridge baseline v3 v4" "Haswell v3 v4" "max v3 v4"; do
        read -r cpu expected <<< "$row"
        echo "-cpu $cpu"
        qemu-x86_64 -cpu "$cpu" "$python" tests/portable/small.py $expected 2> >(grep -v "TCG doesn't support" >&2)
    done
    if CYRNN_BUILD=v4 qemu-x86_64 -cpu Haswell "$python" -c "import cyrnn" 2> "$work/refused"; then
        echo "v4 was loaded without AVX-512"; exit 1
    fi
    grep "ImportError: CYRNN_BUILD: the build 'v4' needs avx512, which this CPU lacks" "$work/refused"
    deactivate
}

on_clang() {
    needs clang
    primitives clang clang -march=x86-64-v3
    "$work/clang"
    "$work/clang-f32"
    python3 tests/portable/float32.py --sample --compiler clang baseline v3
    package by-clang clang '[test]'
    # LLVM's OpenMP gives its threads the processors that the process had at first: two of them do not wait on one, so
    # that the tests of a process kept to one processor say nothing here.  What measures time is measured with gcc.
    pytest -q -m "not alone" tests/test_values.py tests/test_invariance.py tests/test_activations.py \
        tests/test_gradients.py tests/test_semantics.py tests/test_openmp.py
    deactivate
}

on_serial() {
    needs gcc
    cat > "$work/gcc-serial" <<'SHELL'
#!/bin/sh
for word; do
    case $word in -fopenmp | -march=*) echo "no such option: $word" >&2; exit 1 ;; esac
done
exec gcc "$@"
SHELL
    chmod +x "$work/gcc-serial"
    package serial "$work/gcc-serial" '[test]'
    cd tests  # not the sources beside it
    python -c "import cyrnn; cyrnn.set_num_threads(4); assert cyrnn.get_num_threads() == 1; cyrnn.show_config()"
    python -c "from cyrnn import _kernels; assert _kernels.installed() == ['baseline']"
    cd ..
    if ldd "$(python -c 'import cyrnn._kernels.recurrent as m; print(m.__file__)')" | grep gomp; then exit 1; fi
    pytest -q -m "not alone" tests/test_values.py tests/test_openmp.py tests/test_invariance.py
    deactivate
}

on_aarch64() {
    needs aarch64-linux-gnu-gcc aarch64-linux-gnu-objdump qemu-aarch64
    primitives arm aarch64-linux-gnu-gcc -static
    qemu-aarch64 "$work/arm"
    qemu-aarch64 "$work/arm-f32"
    vectorised "$work/arm" 2d 10 exp_loop tanh_loop sigmoid_loop microkernel_4_6
    python3 tests/portable/float32.py --sample --compiler "aarch64-linux-gnu-gcc -static" --run qemu-aarch64 \
        --folder "$work" baseline
    vectorised "$work/float-baseline" 4s 8 exp_loop tanh_loop sigmoid_loop log_loop

    # Debian's Python for arm64, unpacked beside this one; apt with a state of its own, so that nothing is installed
    needs apt-get apt-cache dpkg
    arm=$work/arm64
    mkdir -p "$arm"/{state/lists/partial,cache/archives/partial,debs,system,site,built}
    touch "$arm/status"
    apt=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::State=$arm/state"
         -o "Dir::State::status=$arm/status" -o "Dir::Cache=$arm/cache" -o APT::Sandbox::User=root)
    apt-get "${apt[@]}" update
    [[ $(apt-cache "${apt[@]}" show python3-minimal) =~ python3\.[0-9]+ ]]
    python=${BASH_REMATCH[0]}
    (cd "$arm/debs" && apt-get "${apt[@]}" download "$python-minimal" "lib$python"-{minimal,stdlib,dev} \
        libc6 libgcc-s1 libstdc++6 libgomp1 libexpat1 zlib1g libffi8 > /dev/null)
    for package in "$arm"/debs/*.deb; do dpkg -x "$package" "$arm/system"; done

    python3 -m venv "$work/cross"
    . "$work/cross/bin/activate"
    pip install 'cython>=3.3' 'setuptools>=77'
    pip download --only-binary=:all: --no-deps --python-version "${python#python}" -d "$arm/wheels" \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 numpy
    python3 -m zipfile -e "$arm"/wheels/numpy*.whl "$arm/site"
    CC="aarch64-linux-gnu-gcc -I$arm/system/usr/include -I$arm/system/usr/include/$python" \
        LDSHARED="aarch64-linux-gnu-gcc -shared" \
        python setup.py -q build_ext --build-temp="$arm/objects" --build-lib="$arm/built" > /dev/null
    cp -r src/cyrnn "$arm/site"
    (cd "$arm/built" && find . -name '*.so') | while read -r module; do
        mkdir -p "$(dirname "$arm/site/$module")"
        cp "$arm/built/$module" "$arm/site/${module%%.cpython*}.so"  # its suffix is that of this machine
    done
    deactivate
    for call in "tests/portable/small.py baseline v3 v4" "-m cyrnn --no-timing"; do
        PYTHONHOME=$arm/system/usr PYTHONPATH=$arm/site qemu-aarch64 -L "$arm/system" "$arm/system/usr/bin/$python" $call
    done | grep -E 'agree|:'
}

on_zig() {
    needs gcc qemu-aarch64 qemu-x86_64
    python3 -m venv "$work/zig"
    "$work/zig/bin/pip" install ziglang || { echo "zig is not to be had here; left out"; return; }
    export ZIG_GLOBAL_CACHE_DIR="${ZIG_GLOBAL_CACHE_DIR-$work/zig-cache}" ZIG_LOCAL_CACHE_DIR="$work/zig-cache"
    zig=("$work/zig/bin/python" -m ziglang cc)
    strict=(-std=c11 -Wgnu -Wvla -Werror)
    for processor in baseline v3; do
        march=x86_64
        [ $processor = baseline ] || march=x86_64_v3
        primitives "musl-$processor" "${zig[@]}" -target x86_64-linux-musl -march=$march "${strict[@]}"
        qemu-x86_64 -cpu max "$work/musl-$processor"
        qemu-x86_64 -cpu max "$work/musl-$processor-f32"
    done
    primitives musl-arm "${zig[@]}" -target aarch64-linux-musl "${strict[@]}"
    qemu-aarch64 "$work/musl-arm"
    qemu-aarch64 "$work/musl-arm-f32"
    primitives macos "${zig[@]}" -target aarch64-macos "${strict[@]}"
    headers=$("$work/zig/bin/python" -c "import ziglang; print(ziglang.__path__[0])")/lib/libc/include/any-windows-any
    printf '%s\n' '#include "primitives.c"' '#include "runtime/alloc.h"' '#include "runtime/cpu.h"' \
        > tests/portable/windows.c
    local wine
    wine=$(command -v wine64 || command -v /usr/lib/wine/wine64 || true)
    [ -n "$wine" ] || echo "wine is not installed; what is made for Windows is not run"
    for march in x86_64 x86_64_v3 x86_64_v4; do
        primitives "windows-$march" "${zig[@]}" -target x86_64-windows-gnu -march=$march "${strict[@]}"
        if [ -n "$wine" ] && [[ $march != *v4 || $(lscpu) == *avx512vl* ]]; then
            for program in "windows-$march" "windows-$march-f32"; do
                WINEPREFIX=$work/wine WINEDEBUG=-all WINEDLLOVERRIDES="mscoree,mshtml=" "$wine" "$work/$program" 2> /dev/null
            done
        fi
        for precision in -UCYRNN_F32 -DCYRNN_F32; do
            # MSVC has no __FMA__.  The builtins of the processor are those of intrinsics that are macros.
            "${zig[@]}" -target x86_64-windows-msvc -march=$march -std=c11 -U__FMA__ $precision -E -nostdlibinc \
                -isystem "$headers" -I src/cyrnn/_kernels tests/portable/windows.c |
                awk '/^# [0-9]+ "/ { ours = $3 ~ /_kernels/; next } ours' > "$work/windows.i"
            grep -q vec_transpose "$work/windows.i"
            if sed 's/__builtin_ia32//g' "$work/windows.i" |
                grep -E '__builtin_|__asm|__typeof|__atomic|__sync|__extension__|\(\{'; then
                echo "GNU C where there is MSVC"; exit 1
            fi
            [ $march = x86_64 ] || grep -qE '\<fmaf?\(' "$work/windows.i" || { echo "MSVC without FMA"; exit 1; }
        done
    done
    gcc -Wall -mxsave -I src/cyrnn/_kernels -I tests/portable/msvc tests/portable/cpu.c -o "$work/cpu"
    "$work/cpu"
    for cpu in Nehalem SandyBridge Haswell max; do qemu-x86_64 -cpu $cpu "$work/cpu" 2> /dev/null; done
}

for part in "$@"; do
    printf '\n== %s (%d s)\n' "$part" "$SECONDS"
    "on_$part"
done
echo "done ($SECONDS s)"
