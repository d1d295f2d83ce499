# Types of uuids.py for Cython; it is the same source that runs without.

cimport cython

from crossfade.wire.leaf cimport uuid_text


@cython.locals(made=list, value=bytearray, data="unsigned char *", rest="const unsigned char *", counter=Py_ssize_t,
               place=Py_ssize_t)
cpdef list uuid7_run(milliseconds, Py_ssize_t first, Py_ssize_t stop, bytes noise, Py_ssize_t at)
