"""Elementary functions whose last bit is the same on every machine.

They use the four operations and the square root of IEEE float64 alone, which every machine rounds
alike (Numba fuses and reorders nothing unless told to), because a plan must have the same bytes
wherever it is drawn, and libraries differ in the last bit of a sine. Errors are a few 1e-16.

Source: the polynomials are those of FreeBSD's msun, after fdlibm (Sun Microsystems, 1993).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_DEGREE = math.pi / 180
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_HALF_PI = math.pi / 2
_HALF_PI_LOW = 6.12323399573676603587e-17
_33, _29, _32, _11 = (np.uint64(n) for n in (33, 29, 32, 11))
_M0, _M1 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_S0, _S1, _S2 = (
    np.uint64(v) for v in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
)  # fmt: skip


@njit(cache=True)
def sin_cos(degrees: float) -> tuple[float, float]:
    """Sine and cosine; exact at whole right angles, any number of turns."""
    quarter = np.floor(degrees / 90 + 0.5)
    x = (degrees - 90 * quarter) * _DEGREE  # the difference is exact
    z = x * x
    s = x + x * z * (
        -1.66666666666666324348e-01
        + z * (8.33333333332248946124e-03 + z * (-1.98412698298579493134e-04
        + z * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08
        + z * 1.58969099521155010221e-10))))
    )  # fmt: skip
    c = 1 - (0.5 * z - z * z * (
        4.16666666666666019037e-02
        + z * (-1.38888888888741095749e-03 + z * (2.48015872894767294178e-05
        + z * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09
        + z * -1.13596475577881948265e-11))))
    ))  # fmt: skip
    turn = int(quarter) & 3
    if turn == 0:
        return s, c
    if turn == 1:
        return c, -s
    if turn == 2:
        return -s, -c
    return -c, s


@njit(cache=True)
def arcsin(x: float) -> float:
    """Radians; what is beyond ±1 is taken as ±1."""
    a = abs(x)
    if a >= 1:
        return _HALF_PI if x > 0 else -_HALF_PI
    if a < 0.5:
        return x + x * _arcsin_tail(x * x)
    z = (1 - a) * 0.5
    s = math.sqrt(z)
    angle = _HALF_PI - (2 * (s + s * _arcsin_tail(z)) - _HALF_PI_LOW)
    return angle if x > 0 else -angle


@njit(cache=True)
def _arcsin_tail(z: float) -> float:
    p = z * (
        1.66666666666666657415e-01
        + z * (-3.25565818622400915405e-01 + z * (2.01212532134862925881e-01
        + z * (-4.00555345006794114027e-02 + z * (7.91534994289814532176e-04
        + z * 3.47933107596021167570e-05))))
    )  # fmt: skip
    q = 1 + z * (
        -2.40339491173441421878e00
        + z * (2.02094576023350569471e00 + z * (-6.88283971605453293030e-01
        + z * 7.70381505559019352791e-02))
    )  # fmt: skip
    return p / q


@njit(cache=True)
def angle(x: float, y: float) -> float:
    """Degrees from the first axis to (x, y), -180 to 180; 0 at the origin."""
    if x == 0 and y == 0:
        return 0.0
    length = math.sqrt(x * x + y * y)
    if abs(y) <= abs(x):
        a = arcsin(y / length) / _DEGREE
        if x >= 0:
            return a
        return 180 - a if y >= 0 else -180 - a
    a = arcsin(x / length) / _DEGREE
    return 90 - a if y > 0 else a - 90


@njit(cache=True)
def exp(x: float) -> float:
    """The exponential; 0 below -700."""
    if x < -700:
        return 0.0
    k = np.floor(x * 1.44269504088896338700 + 0.5)
    high, low = x - k * _LN2_HIGH, k * _LN2_LOW
    r = high - low
    t = r * r
    c = r - t * (
        1.66666666666666019037e-01
        + t * (-2.77777777770155933842e-03 + t * (6.61375632143793436117e-05
        + t * (-1.65339022054652515390e-06 + t * 4.13813679705723846039e-08)))
    )  # fmt: skip
    return math.ldexp(1 - ((low - (r * c) / (2 - c)) - high), int(k))


@njit(cache=True)
def log(x: float) -> float:
    """The natural logarithm of a positive, normal number."""
    f, k = math.frexp(x)
    if f < 0.70710678118654752440:
        f *= 2
        k -= 1
    f -= 1
    s = f / (2 + f)
    z = s * s
    r = z * (
        6.666666666666735130e-01
        + z * (3.999999999940941908e-01 + z * (2.857142874366239149e-01
        + z * (2.222219843214978396e-01 + z * (1.818357216161805012e-01
        + z * (1.531383769920937332e-01 + z * 1.479819860511658591e-01)))))
    )  # fmt: skip
    half = 0.5 * f * f
    return k * _LN2_HIGH - ((half - (s * (half + r) + k * _LN2_LOW)) - f)


@njit(cache=True)
def survival(m: float) -> float:
    """(1 - exp(-m)) / m, which is 1 at 0: what Matérn's second rule leaves of the parents."""
    if m < 0.02:
        return 1 - m / 2 * (1 - m / 3 * (1 - m / 4 * (1 - m / 5 * (1 - m / 6))))
    return (1 - exp(-m)) / m


@njit(cache=True)
def uniform(key: np.uint64, place: int, number: int, purpose: int) -> float:
    """A number from above 0 to below 1 that depends on these four and on nothing else.

    A key is a seed's; a place, a number and a purpose say which of its random numbers is meant.
    Twice the finaliser of MurmurHash3, so that neighbours in any of them are unrelated.
    """
    h = np.uint64(place) * _S0 + np.uint64(number) * _S1 + key
    h ^= h >> _33
    h *= _M0
    h ^= h >> _29
    h *= _M1
    h ^= h >> _32
    h += np.uint64(purpose) * _S2 + (key << _11)
    h ^= h >> _33
    h *= _M0
    h ^= h >> _33
    h *= _M1
    h ^= h >> _33
    return (float(h >> _11) + 0.5) * 2.0**-53
