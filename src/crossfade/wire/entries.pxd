# Types of entries.py for Cython; it is the same source that runs without.

cimport cython

from crossfade.wire.leaf cimport number, put, put_int32, put_integer, uuid_bytes


@cython.locals(out=bytearray, two=bytes, row=Py_ssize_t)
cpdef bytes copy_rows(list olds, list news, Py_ssize_t old_width, Py_ssize_t new_width)


@cython.locals(value=bytes, whole="long long", most="long long")
cdef int _put_id(bytearray out, bytes text, Py_ssize_t width) except -1
