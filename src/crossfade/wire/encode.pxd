# Types of encode.py for Cython; it is the same source that runs without.

cimport cython

from crossfade.wire.leaf cimport (
    decimal, integer, local_time, printed_utc, put, put_escaped, put_int32, put_integer, put_quoted, uuid_bytes,
    uuid_text,
)


@cython.final
cdef class _Place:
    cdef readonly object column
    cdef public Py_ssize_t position
    cdef public object element_oid
    cdef public Py_ssize_t source_width
    cdef public Py_ssize_t target_width
    cdef public bytes copied
    cdef public bytes listed
    cdef public str keyspace
    cdef public dict ids
    cdef public object rewrite
    cdef public object inner
    cdef public Py_ssize_t asked
    cdef public object rule
    cdef public object zone
    cdef public long long zone_start
    cdef public long long zone_stop
    cdef public long long offset
    cdef public int kind


@cython.final
cdef class Encoder:
    cdef readonly object relation
    cdef readonly object plan
    cdef readonly bytes header
    cdef readonly bytes trailer
    cdef bint _is_binary
    cdef int _kind
    cdef Py_ssize_t _columns
    cdef list _places
    cdef bytes _count
    cdef Py_ssize_t[::1] _starts
    cdef Py_ssize_t _owner
    cdef Py_ssize_t _ids_known
    cdef list _key_places
    cdef object _ids

    @cython.locals(frame=bytes, data="const unsigned char *", number=Py_ssize_t, which=Py_ssize_t, at=Py_ssize_t,
                   columns=Py_ssize_t, place=_Place, olds=list)
    cdef int _gather(self, list frames, list offsets, list places, list into) except -1

    cdef bytes _old_id(self, _Place place, bytes frame, Py_ssize_t start, Py_ssize_t stop)

    @cython.locals(out=bytearray, places=list, frames=list, offsets=list, is_binary=bint, kind=int, number=Py_ssize_t,
                   frame=bytes, data="const unsigned char *", is_first=bint, at=Py_ssize_t, place=_Place, value=bytes)
    cpdef bytes copy_data(self, rows, Py_ssize_t start, Py_ssize_t stop, remarks)

    @cython.locals(chosen=list, outs=list, has_null=list, count=Py_ssize_t, is_binary=bint, kind=int,
                   number=Py_ssize_t, frames=list, offsets=list, frame=bytes, data="const unsigned char *",
                   at_place=Py_ssize_t, place=_Place, out=bytearray, at=Py_ssize_t, value=bytes)
    cpdef list arrays(self, rows, places, remarks)

    @cython.locals(value=bytes, rewritten=bytes)
    cdef int _put_converted(self, bytearray out, _Place place, bytes frame, Py_ssize_t start, Py_ssize_t stop, remarks,
                            bint is_listed) except -1

    cdef bytes _rewritten(self, _Place place, bytes frame, bytes cell)

    @cython.locals(at=Py_ssize_t, data="const unsigned char *")
    cdef bytes _asked(self, _Place place, bytes frame)

    @cython.locals(frame=bytes, data="const unsigned char *", number=Py_ssize_t, at=Py_ssize_t, place=_Place)
    cdef int _gather_inner(self, list frames, list offsets, list places, referred) except -1

    @cython.locals(known=dict, new=bytes, value=bytes, width=Py_ssize_t)
    cdef bytes _new_id(self, _Place place, bytes frame, Py_ssize_t start, Py_ssize_t stop)

    @cython.locals(local="long long", value=bytes)
    cdef bytes _to_utc(self, bytearray out, _Place place, bytes frame, Py_ssize_t start, Py_ssize_t stop, remarks)

    @cython.locals(data="const unsigned char *", size=Py_ssize_t, is_last=bint, position=Py_ssize_t, kind=int,
                   length=Py_ssize_t)
    cdef int _walk(self, bytes frame, Py_ssize_t at, Py_ssize_t columns) except -1
