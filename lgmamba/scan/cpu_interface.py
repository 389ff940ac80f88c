"""The compiled CPU kernel's arguments, and the small call that proves a library. Glossary: `lgmamba.scan`.

Needs no torch, so that the proof runs as a script, `python cpu_interface.py <library>`, in a process of its own: a library
that crashes takes nothing with it, and that process starts in an instant.
"""

import ctypes
import sys

SIZES = ("B", "L", "D", "G", "N", "chunk", "stretch", "states_every", "dt_softplus", "threads")
ROWS = ("x", "dt", "z", "Bmat", "Cmat", "dy")
INPUTS = ("A", "Dskip", "dt_bias", "h0", "dlast", "dstates")
OUTPUTS = ("y", "last", "states", "checkpoints")
FUNCTIONS = (
    "lgmamba_forward",
    "lgmamba_backward",
    "lgmamba_norm_forward",
    "lgmamba_norm_backward",
    "lgmamba_mix_forward",
    "lgmamba_mix_backward",
)
"""Those that compute; each is given a pointer to its arguments."""
GRADS = ("dx", "ddt", "dA", "dBmat", "dCmat", "dDskip", "dz", "dbias", "dh0")


class Args(ctypes.Structure):
    """`struct Args` of the kernel: same fields in the same order, eight bytes each."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in SIZES),
        *((name + part, ctypes.c_int64) for name in ROWS for part in ("", *(f"_{axis}_stride" for axis in "blg"))),
        *((name, ctypes.c_int64) for name in (*INPUTS, *OUTPUTS, *GRADS)),
    )


class RowArgs(ctypes.Structure):
    """`struct RowArgs` of `_cpu_rows.h`: same fields in the same order, eight bytes each."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("rows", "D", "x_stride", "dy_stride", "threads")),
        ("eps", ctypes.c_double),
        *((name, ctypes.c_int64) for name in ("x", "weight", "dy", "y", "dx", "dweight")),
    )


class MixArgs(ctypes.Structure):
    """`struct MixArgs` of `_cpu_mix.h`."""

    TENSORS = (
        *("u", "in_proj", "x_proj", "dt_proj", "out_proj", "d_out", "xz", "x", "low", "dt", "out"),
        *("dy", "dxz", "dlow", "du", "din_proj", "dx_proj", "ddt_proj", "dout_proj"),
    )
    _fields_ = (
        ("scan", Args),
        *((name, ctypes.c_int64) for name in ("d", "R", "low_row", *TENSORS)),
    )


def load(path: str) -> ctypes.CDLL:
    """The library with its functions' types.

    Raises:
        OSError: the system cannot load it.
        AttributeError: it is another library.
    """
    library = ctypes.CDLL(path)
    for name in ("lgmamba_args_size", "lgmamba_lanes"):
        getattr(library, name).restype = ctypes.c_int64
    for name in FUNCTIONS:
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = None
    return library


def prove(library: ctypes.CDLL) -> str | None:
    """What is wrong with the kernel, from one small call forward and backward on two threads, or None.

    Every state is halved in each of three steps and gains 1, so y is N times (1, 1.5, 1.75) and, of the sum of y, the
    gradient of x is that in reverse.
    """
    B, L, D, N = 2, 3, 21, 5
    if library.lgmamba_args_size() != ctypes.sizeof(Args):
        return f"it takes {library.lgmamba_args_size()} bytes of arguments, not {ctypes.sizeof(Args)}"

    def floats(count: int, value: float = 1.0):
        return (ctypes.c_float * count)(*[value] * count)

    BLD, BLN, A = floats(B * L * D), floats(B * L * N), floats(D * N, -0.69314718)
    y, dx, checkpoints = floats(B * L * D, 0.0), floats(B * L * D, 0.0), floats(B * 2 * 8 * 32 + 16, 0.0)
    dA, dBmat = floats(D * N, 0.0), floats(B * L * N, 0.0)
    args = Args(B=B, L=L, D=D, G=1, N=N, chunk=L, stretch=2, threads=2)
    for names, array, last in ((("x", "dt", "dy"), BLD, D), (("Bmat", "Cmat"), BLN, N)):
        for name in names:
            setattr(args, name, ctypes.addressof(array))
            setattr(args, f"{name}_b_stride", L * last)
            setattr(args, f"{name}_l_stride", last)
    for name, array in dict(A=A, y=y, dx=dx, dA=dA, dBmat=dBmat, checkpoints=checkpoints).items():
        setattr(args, name, ctypes.addressof(array))
    args.checkpoints += -args.checkpoints % 64  # read as whole vectors
    library.lgmamba_forward(ctypes.byref(args))
    library.lgmamba_backward(ctypes.byref(args))
    steps = (N, 1.5 * N, 1.75 * N)
    for name, got, want in (("the output", y, steps), ("the gradient of x", dx, steps[::-1])):
        for i, v in enumerate(got):
            if not abs(v - want[i // D % L]) < 1e-4:
                return f"{name} is {v} where {want[i // D % L]} is right"
    return None


if __name__ == "__main__":
    for path in sys.argv[2:]:  # what the library expects to be loaded already
        ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    sys.exit(prove(load(sys.argv[1])))
