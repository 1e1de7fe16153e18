"""How the C library allocates memory."""

import ctypes
import sys

# Parameters in <malloc.h> of the GNU C library, and the largest values allowed
# of two of them. A heap of a thread has 64 MiB.
_PARAMETERS = {
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD
    -2: 2**26,  # M_TOP_PAD
    -3: 2**25,  # M_MMAP_THRESHOLD
}


def keep_freed_memory():
    """Makes the C library keep memory that is freed, to allocate it again.

    By default it returns what a thread has freed to the system, so that every
    step of a training on threads of TensorFlow receives its memory anew, page
    by page. With it a process keeps the memory of its largest step. Blocks
    above 32 MiB, and other libraries than the GNU C library, stay as they are.
    """
    if sys.platform != "linux":
        return
    set_parameter = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_parameter is not None:
        for name, value in _PARAMETERS.items():
            set_parameter(name, value)
