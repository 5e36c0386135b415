"""Runs modules as `python -m` does, with a network that compiles in a moment under the name of the smallest one."""

import runpy
import sys

sys.path.insert(0, __file__.rpartition("/tests/")[0])


def main(dash_m, module, *arguments):
    assert dash_m == "-m"
    if "summary" not in arguments:
        from brittle_jax.models.network import ARCHITECTURES
        from tests.mini_network import MINI

        ARCHITECTURES["mini"] = MINI
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
