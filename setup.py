"""Builds `fedfast._fedfast`; installs `kernels/` and `examples/` as parts of the package."""

from glob import glob
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


class Build(build_ext):
    """`build_ext` that says what to install when no compiler answers."""

    def build_extensions(self) -> None:
        try:
            super().build_extensions()
        except (CompileError, FileNotFoundError) as error:
            raise SystemExit(f"{NO_COMPILER}\nThe compiler said: {error}") from error


ParallelCompile("FEDFAST_JOBS", default=2).install()
threads = ["-fopenmp-simd", "-pthread"] if system() == "Linux" else []

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
        )
    ],
    cmdclass={"build_ext": Build},
)
