# Types of copydata.py for Cython; it is the same source that runs without.

cimport cython


@cython.locals(data="const unsigned char *", last=Py_ssize_t, size=Py_ssize_t)
cpdef Py_ssize_t split(bytearray block, Py_ssize_t at, Py_ssize_t stop, list into) except -1


@cython.locals(data="const unsigned char *", last=Py_ssize_t, size=Py_ssize_t, count=Py_ssize_t)
cpdef tuple pass_over(bytearray block, Py_ssize_t at, Py_ssize_t stop)
