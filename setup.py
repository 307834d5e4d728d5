"""Builds the kernels: each .pyx is turned into C once and compiled per instruction set, in two precisions."""

import copy
import os
import platform
import re
import tempfile
import tomllib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext as setuptools_build_ext
from setuptools.errors import CompileError, LinkError

DEBUG = os.environ.get("CYRNN_DEBUG", "") not in ("", "0")  # bounds checks, no optimisation

# The one table of directives; the .pyx files have none of their own.
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "initializedcheck": DEBUG,
    "wraparound": False,
    "cdivision": True,
    "embedsignature": True,
    "freethreading_compatible": True,
}

# No -ffast-math: linking with it changes how the whole process treats subnormal numbers.  Fused
# multiply-adds are written out, so that -ffp-contract=off gives every loop the same arithmetic.
FLAGS = ["-O1" if DEBUG else "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]
if not DEBUG:
    # Copies of loops for a stride of 1 are 2 % of a wheel, and no loop runs faster by them.  clang knows no such flag.
    FLAGS += ["-g0", "-fno-version-loops-for-strides"]
# MSVC optimises by itself (/O2).  C11 has `restrict`; /fp:precise fuses nothing, runtime/real.h.
MSVC_FLAGS = ["/std:c11", "/fp:precise"]
OPENMP = ["-fopenmp", "/openmp"]
OPENMP_PROBE = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
BUILDS = {"baseline": []}
MSVC_BUILDS = {"baseline": [], "v3": ["/arch:AVX2"], "v4": ["/arch:AVX512"]}
# Without the names that only a debugger reads, 4 % of a wheel; where the linker knows it.
STRIP = [] if DEBUG else ["-Wl,-s"]
if platform.machine().lower() in ("x86_64", "amd64"):
    BUILDS["v3"] = ["-march=x86-64-v3"]
    BUILDS["v4"] = ["-march=x86-64-v4", "-mprefer-vector-width=512"]

PRECISIONS: dict[str, list[tuple[str, str | None]]] = {"f64": [], "f32": [("CYRNN_F32", None)]}

KERNELS = Path("src/cyrnn/_kernels")
NAMES = sorted(source.stem for source in KERNELS.glob("*.pyx"))
# Compiled for the baseline alone, shared by all builds.  The last one is Cython's own code for typed memoryviews, which
# would otherwise be in every module.
ONCE = [*sorted("runtime." + source.stem for source in (KERNELS / "runtime").glob("*.pyx")), "runtime._memoryview"]
SHARED = "cyrnn._kernels." + ONCE[-1]
HEADERS = [str(path) for path in sorted(KERNELS.rglob("*.*")) if path.suffix in (".h", ".pxd", ".pxi")]


LINK = re.compile(r"(!?)\[([^]]*)\]\((?!https?:)([^)#]+)([^)]*)\)")


def description() -> str:
    """README.md as a package index shows it: without the repository, so its links and its picture need addresses.

    They are those of the files at the tag of this version, below the "Repository" of [project.urls]; without that the
    paths stand in the text.
    """
    urls = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"].get("urls", {})
    version = Path("src/cyrnn/_version.py").read_text(encoding="utf-8").split('"')[-2]

    def absolute(match: re.Match[str]) -> str:
        picture, text, path, anchor = match.groups()
        if "Repository" in urls:
            return f"{picture}[{text}]({urls['Repository']}/{'raw' if picture else 'blob'}/v{version}/{path}{anchor})"
        if picture:
            return f"*Figure {path}: {text}.*"
        return text if text == path else f"{text} [{path}]"

    return LINK.sub(absolute, Path("README.md").read_text(encoding="utf-8"))


def extension(name: str, build: str = "", precision: str = "") -> Extension:
    package = "cyrnn._kernels." + (f"{build}.{precision}." if build else "")
    source = KERNELS / (name.replace(".", "/") + (".c" if package + name == SHARED else ".pyx"))
    macros = PRECISIONS[precision] if precision else []
    return Extension(package + name, [str(source)], [str(KERNELS)], define_macros=macros, depends=HEADERS)


class build_ext(setuptools_build_ext):
    """Leaves out what the compiler cannot build; keeps the generated C out of the source tree."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self) -> None:
        from Cython.Build import cythonize

        if not self.compiles([]):
            raise SystemExit(
                "cyrnn: its kernels are compiled when it is installed, and no C compiler works here; install one "
                "(Debian, Ubuntu: apt-get install gcc python3-dev; Fedora: dnf install gcc python3-devel; "
                "macOS: xcode-select --install; Windows: Visual Studio Build Tools) and try again"
            )
        c_extensions = cythonize(
            [extension(name) for name in NAMES + ONCE],
            build_dir=self.build_temp,
            compiler_directives=DIRECTIVES,
            shared_utility_qualified_name=SHARED,
            force=True,
        )
        c_files = {name: c.sources for name, c in zip(NAMES + ONCE, c_extensions, strict=True)}
        openmp = next((flag for flag in OPENMP if self.compiles([flag], OPENMP_PROBE)), None)
        if openmp is None:
            print("cyrnn: this compiler has no OpenMP; every call will run on one thread")
        msvc = self.compiler.compiler_type == "msvc"
        known = [flag for flag in (MSVC_FLAGS if msvc else FLAGS) if self.compiles([flag])]
        flags = {"baseline": known + [openmp] * bool(openmp)}
        strip = [flag for flag in STRIP if self.compiles([flag])]
        for build, extra in ((build, MSVC_BUILDS[build] if msvc else extra) for build, extra in BUILDS.items()):
            if extra and self.compiles(extra):
                flags[build] = flags["baseline"] + extra
            elif extra:
                print(f"cyrnn: this compiler does not know {' '.join(extra)}; the build {build!r} is left out")
        self.extensions = [ext for ext in self.extensions if self.build_of(ext) in flags]
        for ext in self.extensions:
            name = ext.name.removeprefix("cyrnn._kernels.")
            ext.sources = c_files[name.split(".")[-1] if self.folder_of(ext) else name]
            ext.extra_compile_args = flags[self.build_of(ext)]
            ext.extra_link_args = [openmp] * bool(openmp) + strip
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        one = copy.copy(self)  # object files of one source and several builds must not meet
        one.build_temp = os.path.join(self.build_temp, self.folder_of(ext))
        super(build_ext, one).build_extension(ext)

    def copy_extensions_to_source(self) -> None:
        for ext in self.extensions:
            Path("src", *ext.name.split(".")[:-1]).mkdir(parents=True, exist_ok=True)
        super().copy_extensions_to_source()

    @staticmethod
    def folder_of(ext: Extension) -> str:
        """Build and precision as a path; nothing for what is compiled once."""
        folders = ext.name.split(".")[2:-1]
        return "/".join(folders) if len(folders) == 2 else ""

    def build_of(self, ext: Extension) -> str:
        return self.folder_of(ext).split("/")[0] or "baseline"

    def compiles(self, flags: list[str], program: str = "int main(void) { return 0; }\n") -> bool:
        if self.compiler.compiler_type == "msvc":
            return all(flag.startswith("/") for flag in flags)  # it only warns of a flag that it does not know
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(program)
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
                self.compiler.link_executable(objects, "probe", output_dir=folder, extra_postargs=flags)
            except (CompileError, LinkError):
                return False
        return True


setup(
    long_description=description(),
    long_description_content_type="text/markdown",
    ext_modules=[extension(name) for name in ONCE]
    + [extension(name, build, precision) for build in BUILDS for precision in PRECISIONS for name in NAMES],
    cmdclass={"build_ext": build_ext},
)
