"""The accuracy of exp, tanh and sigmoid in every build, and the polynomial under them.

    pip install '.[test]' && python benchmarks/accuracy.py

Prints the largest error found in units in the last place over some millions of arguments, against
the x87 long double (64 bits of mantissa); then the coefficients of vmath.h computed anew.
"""

import sys

import mpmath
import numpy as np

from cyrnn import _kernels

REGIONS = {
    "near 0": lambda rng, n: np.ldexp(rng.uniform(-1, 1, n), -rng.integers(0, 300, n)),
    "|x| < 1": lambda rng, n: rng.uniform(-1, 1, n),
    "|x| < 45": lambda rng, n: rng.uniform(-45, 45, n),
    "|x| < 745": lambda rng, n: rng.uniform(-745, 709, n),
}


def exact_sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


EXACT = {"exp": np.exp, "tanh": np.tanh, "sigmoid": exact_sigmoid}


def errors(name, x):
    got = x.copy()
    getattr(_kernels.f64.activations, name)(got)
    exact = EXACT[name](x.astype(np.longdouble))
    exponent = np.maximum(np.frexp(exact)[1], -1021)
    return np.abs(got - exact) / np.ldexp(np.longdouble(1), exponent - 53)


def main():
    if np.finfo(np.longdouble).nmant < 63:
        sys.exit("this machine's long double is no wider than double: nothing to compare with")
    print(f"{'build':<10}{'function':<10}" + "".join(f"{region:>12}" for region in REGIONS) + "   (largest error, ulp)")
    with np.errstate(all="ignore"):
        for build in _kernels.available():
            _kernels.use(build)
            for name in EXACT:
                worst = []
                for draw in REGIONS.values():
                    rng = np.random.default_rng(1)
                    worst.append(max(float(errors(name, draw(rng, 250_000)).max()) for _ in range(8)))
                print(f"{build:<10}{name:<10}" + "".join(f"{error:>12.3f}" for error in worst))

    mpmath.mp.dps = 40
    edge = mpmath.log(2) / 2 * mpmath.mpf("1.001")

    def s(r):
        if abs(r) < mpmath.mpf("1e-6"):
            return mpmath.mpf(1) / 6 + r / 24 + r**2 / 120 + r**3 / 720
        return (mpmath.expm1(r) - r - r**2 / 2) / r**3

    coefficients, error = mpmath.chebyfit(s, [-edge, edge], 10, error=True)
    relative = mpmath.nstr(error * edge**3 / mpmath.expm1(edge), 2)
    print(f"\nexpm1(r) = r + r^2 (1/2 + r s(r)), relative error {relative}; s from its highest power down:")
    for coefficient in coefficients:
        print(f"  {float(coefficient)!r}")


if __name__ == "__main__":
    main()
