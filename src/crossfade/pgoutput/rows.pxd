# Types of rows.py for Cython; it is the same source that runs without.

cimport cython


@cython.locals(held=Py_ssize_t, count=Py_ssize_t, size=Py_ssize_t, times=Py_ssize_t, tag=int, frame=bytes, known=bytes,
               data="const unsigned char *")
cpdef tuple take_rows(list frames, Py_ssize_t at, Py_ssize_t room, dict counts)
