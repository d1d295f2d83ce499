# The steps of leaf.py in C, for compiled code; tests/unit/wire/test_leaf.py holds the two to each other.
#
# A caller has checked that start <= stop lie inside the data: nothing here looks.

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy


cdef inline unsigned char *grown(bytearray out, Py_ssize_t by) except NULL:
    """Where the next `by` bytes of `out` go."""
    cdef Py_ssize_t at = PyByteArray_GET_SIZE(out)
    PyByteArray_Resize(out, at + by)
    return <unsigned char *> PyByteArray_AS_STRING(out) + at


cdef inline int put(bytearray out, const unsigned char *data, Py_ssize_t start, Py_ssize_t stop) except -1:
    memcpy(grown(out, stop - start), data + start, stop - start)
    return 0


cdef inline bint is_escaped(unsigned char byte) noexcept:
    return byte == 92 or 8 <= byte <= 13


cdef inline int put_escaped(bytearray out, const unsigned char *data, Py_ssize_t start, Py_ssize_t stop) except -1:
    cdef Py_ssize_t at, extra = 0
    cdef unsigned char *to
    for at in range(start, stop):
        extra += is_escaped(data[at])
    to = grown(out, stop - start + extra)
    if extra == 0:
        memcpy(to, data + start, stop - start)
        return 0
    for at in range(start, stop):
        if is_escaped(data[at]):
            to[0] = 92
            to[1] = data[at] if data[at] == 92 else (<const unsigned char *> b"btnvfr")[data[at] - 8]
            to += 2
        else:
            to[0] = data[at]
            to += 1
    return 0


cdef inline int put_quoted(bytearray out, const unsigned char *data, Py_ssize_t start, Py_ssize_t stop) except -1:
    cdef Py_ssize_t at, extra = 2
    cdef unsigned char *to
    for at in range(start, stop):
        extra += data[at] == 92 or data[at] == 34
    to = grown(out, stop - start + extra)
    to[0] = 34
    to += 1
    if extra == 2:
        memcpy(to, data + start, stop - start)
        to += stop - start
    else:
        for at in range(start, stop):
            if data[at] == 92 or data[at] == 34:
                to[0] = 92
                to += 1
            to[0] = data[at]
            to += 1
    to[0] = 34
    return 0


cdef inline int put_int32(bytearray out, long long value) except -1:
    cdef unsigned char *to = grown(out, 4)
    to[0] = <unsigned char> (value >> 24)
    to[1] = <unsigned char> (value >> 16)
    to[2] = <unsigned char> (value >> 8)
    to[3] = <unsigned char> value
    return 0


cdef inline long long integer(const unsigned char *data, Py_ssize_t start, Py_ssize_t size) noexcept:
    cdef unsigned long long value = 0
    cdef Py_ssize_t at
    if data[start] & 128:
        value = <unsigned long long> -1
    for at in range(start, start + size):
        value = value << 8 | data[at]
    return <long long> value


cdef inline bytes packed(long long value, Py_ssize_t size):
    cdef unsigned char to[8]
    cdef Py_ssize_t at
    for at in range(size):
        to[at] = <unsigned char> (value >> (8 * (size - 1 - at)))
    return PyBytes_FromStringAndSize(<char *> to, size)


@cython.cdivision(True)
cdef inline bytes decimal(long long value):
    cdef char to[20]
    cdef Py_ssize_t at = 20
    cdef unsigned long long rest = <unsigned long long> value
    if value < 0:
        rest = 0 - rest
    while True:
        at -= 1
        to[at] = <char> (48 + rest % 10)
        rest //= 10
        if rest == 0:
            break
    if value < 0:
        at -= 1
        to[at] = 45
    return PyBytes_FromStringAndSize(to + at, 20 - at)


cdef inline bytes uuid_text(const unsigned char *data, Py_ssize_t start):
    cdef const char *digits = "0123456789abcdef"
    cdef char to[36]
    cdef Py_ssize_t at = 0
    cdef int number
    for number in range(16):
        if number == 4 or number == 6 or number == 8 or number == 10:
            to[at] = 45
            at += 1
        to[at] = digits[data[start + number] >> 4]
        to[at + 1] = digits[data[start + number] & 15]
        at += 2
    return PyBytes_FromStringAndSize(to, 36)


cdef inline int nibble(unsigned char digit) noexcept:
    if 48 <= digit <= 57:
        return digit - 48
    if 97 <= digit <= 102:
        return digit - 87
    return -1


cdef inline bytes uuid_bytes(bytes text):
    cdef const unsigned char *data = <const unsigned char *> PyBytes_AS_STRING(text)
    cdef unsigned char to[16]
    cdef Py_ssize_t at = 0
    cdef int number, high, low
    if PyBytes_GET_SIZE(text) != 36:
        return b""
    for number in range(16):
        if number == 4 or number == 6 or number == 8 or number == 10:
            if data[at] != 45:
                return b""
            at += 1
        high = nibble(data[at])
        low = nibble(data[at + 1])
        if high < 0 or low < 0:
            return b""
        to[number] = <unsigned char> (high << 4 | low)
        at += 2
    return PyBytes_FromStringAndSize(<char *> to, 16)
