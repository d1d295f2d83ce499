# Types of fold.py for Cython; it is the same source that runs without.

cimport cython


@cython.final
@cython.freelist(1024)
cdef class _Slot:
    cdef public bytes frame
    cdef public Py_ssize_t at
    cdef public bytes key
    cdef public bytes old_frame
    cdef public Py_ssize_t old_at
    cdef public Py_ssize_t unsent
    cdef public bint has_moved


@cython.final
cdef class TableFold:
    cdef readonly object relation
    cdef readonly object plan
    cdef readonly object form
    cdef readonly Py_ssize_t inserts
    cdef readonly Py_ssize_t updates
    cdef readonly Py_ssize_t deletes
    cdef readonly str refused
    cdef Py_ssize_t _moved
    cdef Py_ssize_t _columns
    cdef int _kind
    cdef bint _is_keyless
    cdef tuple _identity
    cdef Py_ssize_t _first
    cdef Py_ssize_t _last
    cdef tuple _owner
    cdef dict _places
    cdef list _pairs
    cdef dict _gaps
    cdef list _unsent
    cdef dict _slots
    cdef list _born
    cdef list _old
    cdef Py_ssize_t _end
    cdef list _missing

    @cython.locals(slot=_Slot, frames=list, offsets=list)
    cpdef rows(self)

    @cython.locals(data="const unsigned char *", slot=_Slot, found=_Slot, key=bytes)
    cdef void insert(self, bytes frame, Py_ssize_t at, Py_ssize_t size) except *

    @cython.locals(data="const unsigned char *", slot=_Slot, old_key=bytes, new_key=bytes, old_at=Py_ssize_t,
                   unsent=Py_ssize_t)
    cdef void update(self, bytes frame, Py_ssize_t at, Py_ssize_t size) except *

    @cython.locals(data="const unsigned char *", slot=_Slot, key=bytes)
    cdef void delete(self, bytes frame, Py_ssize_t at, Py_ssize_t size) except *

    @cython.locals(slot=_Slot)
    cdef _Slot _holder(self, bytes key, bytes frame, Py_ssize_t at)

    cdef void _move(self, _Slot slot, bytes old_key, bytes new_key) except *

    cdef tuple _filled(self, bytes frame, Py_ssize_t at, Py_ssize_t size, list missing, _Slot slot, Py_ssize_t old_at)

    cdef bint _is_undecided(self, bytes frame, Py_ssize_t at) except -1

    cdef bint _owner_changes(self, bytes frame, Py_ssize_t old_at, Py_ssize_t new_at, Py_ssize_t size) except -1

    @cython.locals(data="const unsigned char *", key=bytes, wanted=Py_ssize_t, awaited=Py_ssize_t, count=Py_ssize_t,
                   position=Py_ssize_t, end=Py_ssize_t, kind=int)
    cdef bytes _key(self, bytes frame, Py_ssize_t at, Py_ssize_t size)

    @cython.locals(data="const unsigned char *", key=bytes, missing=list, wanted=Py_ssize_t, awaited=Py_ssize_t,
                   count=Py_ssize_t, position=Py_ssize_t, end=Py_ssize_t, kind=int)
    cdef bytes _walk(self, bytes frame, Py_ssize_t at, Py_ssize_t size)

    @cython.locals(data="const unsigned char *", count=Py_ssize_t)
    cdef Py_ssize_t _count(self, bytes frame, Py_ssize_t at, Py_ssize_t size) except -1


@cython.locals(frame=bytes, data="const unsigned char *", size=Py_ssize_t, tag=int, oid="unsigned int",
               last="long long", table=TableFold)
cpdef fold(frames, tables, frozenset skip=*)


@cython.locals(data="const unsigned char *", kind=int, end=Py_ssize_t, length=Py_ssize_t)
cdef Py_ssize_t _past(bytes frame, Py_ssize_t at, Py_ssize_t size) except -1


@cython.locals(data="const unsigned char *", count=Py_ssize_t, end=Py_ssize_t, cells=list)
cdef list _cells(bytes frame, Py_ssize_t at, Py_ssize_t size)


cpdef bytes _original(_Slot slot)


cdef bint _is_equal(_Slot slot, bytes frame, Py_ssize_t at) except -1


@cython.locals(frames=list, offsets=list)
cdef void _add(rows, bytes frame, Py_ssize_t at) except *
