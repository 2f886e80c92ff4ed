"""Builds `fedfast._fedfast`, and `fedfast._fedfast_cuda` where nvcc is; installs `kernels/` and
`examples/` as parts of the package."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from importlib.util import find_spec
from pathlib import Path
from platform import system

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import find_packages, setup

try:
    from setuptools.errors import CompileError
except ImportError:
    from distutils.errors import CompileError

NO_COMPILER = """
fedfast could not build its compiled module: a C++17 compiler is needed.
  Debian/Ubuntu  apt-get install g++          Fedora  dnf install gcc-c++
  macOS          xcode-select --install       conda   conda install cxx-compiler
"""
# Machine code for Hopper, and what later GPUs translate on their own. No product is contracted.
NVCC_FLAGS = ["-std=c++17", "-O3", "-fmad=false", "-Xcompiler=-fPIC,-fvisibility=hidden"]
NVCC_FLAGS += [f"-gencode=arch=compute_90,code={code}" for code in ("sm_90", "compute_90")]


def nvcc() -> str | None:
    """NVIDIA's compiler: of CUDA_HOME, of PATH, or of the wheel nvidia-cuda-nvcc."""
    wheels = find_spec("nvidia")
    places = (wheels and wheels.submodule_search_locations) or ()
    folders = [*(f"{place}/cu*" for place in places), "/usr/local/cuda"]
    last = [folder for pattern in folders for folder in glob(f"{pattern}/bin")]
    first = [f"{home}/bin" for home in [os.environ.get("CUDA_HOME")] if home]
    path = [*first, os.environ.get("PATH", ""), *last]
    return shutil.which("nvcc", path=os.pathsep.join(path))


def cudart(compiler: str) -> str:
    """CUDA's runtime, to be linked into the module: beside the compiler."""
    said = subprocess.run(
        [compiler, "--dryrun", "-x", "cu", "-c", os.devnull], capture_output=True, text=True
    ).stderr
    top = re.search(r"^#\$ TOP=(.*)$", said, re.MULTILINE)
    for folder in ("lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"):
        library = Path(top[1] if top else "", folder, "libcudart_static.a")
        if library.exists():
            return str(library)
    raise CompileError(f"{compiler}: libcudart_static.a is not beside it")


class Build(build_ext):
    """`build_ext` that says what to install when no compiler answers, and that knows nvcc."""

    def build_extensions(self) -> None:
        with self._beside():
            try:
                super().build_extensions()
            except (CompileError, FileNotFoundError) as error:
                raise SystemExit(f"{NO_COMPILER}\nThe compiler said: {error}") from error

    def build_extension(self, ext: Pybind11Extension) -> None:
        if ext.name == CUDA and self._nvcc is not None:
            if status := self._nvcc.wait():
                raise CompileError(f"nvcc: exit status {status}")
            ext.extra_objects = [str(self._kernels()), cudart(self._nvcc.args[0])]
        super().build_extension(ext)

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """nvcc's work, beside the C++ files: it takes one core a third as long as they do two.

        Where they fail nvcc ends at once: what the compiler said must not wait for it.
        """
        compiler = nvcc()
        old = any(ext.name == CUDA and self._is_old(ext) for ext in self.extensions)
        self._nvcc = self._begun(compiler) if compiler and old else None
        try:
            yield
        finally:
            if self._nvcc is not None and self._nvcc.poll() is None:
                os.killpg(self._nvcc.pid, signal.SIGTERM)  # the compilers that it calls, too
                self._nvcc.wait()

    def _is_old(self, ext: Pybind11Extension) -> bool:
        target = Path(self.get_ext_fullpath(ext.name))
        newest = max(os.stat(path).st_mtime for path in (*ext.sources, *ext.depends))
        return self.force or not target.exists() or target.stat().st_mtime < newest

    def _kernels(self) -> Path:
        """csrc/cuda/resident.cu as an object."""
        return Path(self.build_temp, "resident.o")

    def _begun(self, compiler: str) -> "subprocess.Popen[bytes]":
        out = self._kernels()
        out.parent.mkdir(parents=True, exist_ok=True)
        host = os.environ.get("CXX", "")
        with_host = ["-ccbin", host] if host and " " not in host else []
        call = [compiler, *with_host, *NVCC_FLAGS, "-Icsrc", "-c", "csrc/cuda/resident.cu"]
        return subprocess.Popen([*call, "-o", str(out)], start_new_session=True)


ParallelCompile("FEDFAST_JOBS", default=2).install()
threads = ["-fopenmp-simd", "-pthread"] if system() == "Linux" else []
CUDA = "fedfast._fedfast_cuda"
cuda = Pybind11Extension(
    CUDA,
    ["csrc/cuda/bindings.cpp", "csrc/cuda/resident_plan.cpp"],
    include_dirs=["csrc"],
    depends=glob("csrc/cuda/*"),
    cxx_std=17,
    libraries=["rt", "dl", "pthread"],
)
cuda.optional = True  # what it does others do as well: a toolkit that fails must not stop the build

setup(
    package_dir={
        "fedfast": "fedfast",
        "fedfast.kernels": "kernels",
        "fedfast.examples": "examples",
    },
    packages=[
        "fedfast.examples",
        "fedfast.kernels",
        *("fedfast.kernels." + name for name in find_packages("kernels")),
        *find_packages(include=["fedfast", "fedfast.*"]),
    ],
    package_data={
        "fedfast": ["py.typed", "report/page.html.jinja"],
        "fedfast.kernels": ["choices.csv"],
        "fedfast.examples": ["**/*.yaml", "**/*.py", "**/*.md", "**/*.toml", "**/*.csv"],
    },
    ext_modules=[
        Pybind11Extension(
            "fedfast._fedfast",
            sorted(glob("csrc/*.cpp") + glob("csrc/cpu/*.cpp")),
            include_dirs=["csrc"],
            depends=glob("csrc/*.h") + glob("csrc/cpu/*.h"),
            cxx_std=17,
            # No contraction: every instruction set gives the same bits, and loops over rows are
            # limited by memory anyway.
            extra_compile_args=[
                "-O3",
                "-ffp-contract=off",
                "-fno-math-errno",
                "-fno-trapping-math",
                *threads,
            ],
            extra_link_args=threads,
        ),
        *([cuda] if system() == "Linux" and nvcc() else []),
    ],
    cmdclass={"build_ext": Build},
)
