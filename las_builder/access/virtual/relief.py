"""Heights, slopes and running water. Valleys and rivers are one: where a field is zero."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import math

from las_builder.access.virtual.noise import kernel, noise, noise_slope, turned
from las_builder.access.virtual.planet import EAST, ELEVATION, NORTH, RANGE


@kernel()
def field(which, x, y, z, w, s):
    """One of `planet.FIELDS` at a place: mean 0, variance 1."""
    total = 0.0
    for n in range(w.first[which], w.first[which + 1]):
        total += w.octave[n, 1] * noise(
            n, w.octave[n, 0], w.octave_seed[n], x, y, z, s.key, s.value
        )
    return total


@kernel()
def ramp(v, low, high):
    """0 up to `low`, 1 from `high` on, smooth between."""
    t = min(1.0, max(0.0, (v - low) / (high - low)))
    return t * t * (3 - 2 * t)


@kernel()
def relief(x, y, z, sl, cl, sp, cp, w, s):
    """Height and slope into `s.out`; rivers as what is returned.

    Args:
        x: Metres along the axes of the noise.
        y: Likewise.
        z: Likewise.
        sl: Sine of the longitude.
        cl: Its cosine.
        sp: Sine of the latitude.
        cp: Its cosine.
        w: Planet.
        s: Scratch.

    Returns:
        How mountainous (0-1), metres to the axis of the next river, of the next stream, and slope
        (metres per metre).
    """
    floor2 = w.shape[0] * w.shape[0]
    wild = ramp(field(RANGE, x, y, z, w, s), w.shape[1], w.shape[2])
    base = w.first[-1]
    height = 0.0
    gx, gy, gz = 0.0, 0.0, 0.0
    rx, ry, rz, river = 0.0, 0.0, 0.0, 0.0
    tx, ty, tz, stream = 0.0, 0.0, 0.0, 0.0
    for k in range(5):
        v, dx, dy, dz = noise_slope(
            base + k, w.relief[k, 0], w.octave_seed[base + k], x, y, z, s.key, s.value
        )
        if k == 0:
            river, rx, ry, rz = v, dx, dy, dz
        elif k == 1:
            stream, tx, ty, tz = v, dx, dy, dz
        elif k == 2:
            m = w.shape[3]
            river, rx, ry, rz = river + m * v, rx + m * dx, ry + m * dy, rz + m * dz
        elif k == 3:
            m = w.shape[3]
            river, rx, ry, rz = (
                river + 0.3 * m * v,
                rx + 0.3 * m * dx,
                ry + 0.3 * m * dy,
                rz + 0.3 * m * dz,
            )
            stream, tx, ty, tz = stream + m * v, tx + m * dx, ty + m * dy, tz + m * dz
        up, down = wild * w.relief[k, 1], (1 - wild) * w.relief[k, 2]
        if k < 3 and up > 0:
            root = math.sqrt(v * v + floor2)
            height += up * (root - w.shape[0]) + down * v
            f = up * v / root + down
        else:
            height += (up + down) * v
            f = up + down
        gx, gy, gz = gx + f * dx, gy + f * dy, gz + f * dz
    ex, ey, ez = turned(-sl, cl, 0.0)
    nx, ny, nz = turned(-sp * cl, -sp * sl, cp)
    east, north = gx * ex + gy * ey + gz * ez, gx * nx + gy * ny + gz * nz
    s.out[ELEVATION], s.out[EAST], s.out[NORTH] = height, east, north
    re, rn = rx * ex + ry * ey + rz * ez, rx * nx + ry * ny + rz * nz
    te, tn = tx * ex + ty * ey + tz * ez, tx * nx + ty * ny + tz * nz
    return (
        wild,
        abs(river) / math.sqrt(re * re + rn * rn + 1e-14),
        abs(stream) / math.sqrt(te * te + tn * tn + 1e-13),
        math.sqrt(east * east + north * north),
    )
