# Types of copycodec.py for Cython; it is the same source that runs without.

cimport cython

from crossfade.wire.encode cimport Encoder
from crossfade.wire.leaf cimport field_end, put, put_unescaped


@cython.final
cdef class CopyCodec:
    cdef readonly object plan
    cdef readonly bytes header
    cdef readonly bytes trailer
    cdef Encoder _encoder
    cdef Py_ssize_t _columns
    cdef bint _is_binary

    @cython.locals(out=bytearray, offsets=list, number=Py_ssize_t, row=bytes)
    cpdef read(self, list block)

    cpdef bytes convert(self, rows, remarks)

    @cython.locals(data="const unsigned char *", stop=Py_ssize_t, at=Py_ssize_t, number=Py_ssize_t, end=Py_ssize_t)
    cdef void _take_line(self, bytes row, bytearray out, list offsets) except *

    @cython.locals(data="const unsigned char *", size=Py_ssize_t, at=Py_ssize_t, count=Py_ssize_t, length=Py_ssize_t)
    cdef void _take_binary(self, bytes row, bytearray out, list offsets) except *

    cdef void _begin(self, bytearray out, list offsets) except *
