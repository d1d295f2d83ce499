# The steps of leaf.py in C, for compiled code; tests/unit/wire/test_leaf.py holds the two to each other.
#
# A caller has checked that start <= stop lie inside the data: nothing here looks.

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcpy


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


cdef inline int put_integer(bytearray out, long long value, Py_ssize_t size) except -1:
    cdef unsigned char *to = grown(out, 4 + size)
    cdef Py_ssize_t at
    to[0] = to[1] = to[2] = 0
    to[3] = <unsigned char> size
    for at in range(size):
        to[4 + at] = <unsigned char> (value >> (8 * (size - 1 - at)))
    return 0


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


cdef inline long long number(bytes text) except? -1:
    cdef const unsigned char *data = <const unsigned char *> PyBytes_AS_STRING(text)
    cdef Py_ssize_t at = 0, stop = PyBytes_GET_SIZE(text)
    cdef bint is_negative = stop > 0 and data[0] == 45
    cdef unsigned long long value = 0, most = (<unsigned long long> 1 << 63) - 1 + is_negative
    at = is_negative
    if at == stop or stop - at > 19:
        raise ValueError("an id that is no integer")
    while at < stop:
        if not 48 <= data[at] <= 57:
            raise ValueError("an id that is no integer")
        value = value * 10 + (data[at] - 48)
        at += 1
    if value > most:
        raise ValueError("an id that is no integer")
    return <long long> (0 - value) if is_negative else <long long> value


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


cdef inline int two(const unsigned char *data) noexcept:
    """Two digits; far below zero when they are none."""
    cdef int tens = data[0] - 48
    cdef int ones = data[1] - 48
    if not (0 <= tens <= 9 and 0 <= ones <= 9):
        return -100000
    return tens * 10 + ones


@cython.cdivision(True)
cdef inline long long days_to(long long year, int month, int day) noexcept:
    """Days from 2000-03-01 to a day of the proleptic Gregorian calendar of a year after 0; a year begins in March."""
    cdef long long past = year - (month < 3)
    cdef int of_year = (153 * (month + (9 if month < 3 else -3)) + 2) // 5 + day - 1
    return past * 365 + past // 4 - past // 100 + past // 400 + of_year - 730485


@cython.cdivision(True)
cdef inline long long local_time(const unsigned char *data, Py_ssize_t start, Py_ssize_t stop) noexcept:
    cdef long long none = <long long> (<unsigned long long> 1 << 63)
    cdef Py_ssize_t at
    cdef int century, of_century, month, day, hour, minute, second, last
    cdef long long year, scale = 100000, fraction = 0
    data += start
    stop -= start
    if stop < 19 or data[4] != 45 or data[7] != 45 or data[10] != 32 or data[13] != 58 or data[16] != 58:
        return none
    century, of_century, month, day = two(data), two(data + 2), two(data + 5), two(data + 8)
    hour, minute, second = two(data + 11), two(data + 14), two(data + 17)
    year = century * 100 + of_century
    if century < 0 or of_century < 0 or year < 1 or not 1 <= month <= 12 or day < 1:
        return none
    if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59):
        return none
    last = 30 + ((month + (month >> 3)) & 1)
    if month == 2:
        last = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    if day > last:
        return none
    if stop > 19:
        if data[19] != 46 or stop == 20 or stop > 26:
            return none
        for at in range(20, stop):
            if not 48 <= data[at] <= 57:
                return none
            fraction += (data[at] - 48) * scale
            scale //= 10
    # 60 days from January 1st to March 1st of the leap year 2000
    return (((days_to(year, month, day) + 60) * 24 + hour) * 60 + minute) * 60000000 + second * 1000000 + fraction


@cython.cdivision(True)
cdef inline bytes printed_utc(long long moment):
    cdef char to[29]
    cdef Py_ssize_t at = 19
    cdef long long seconds, fraction, days, era, of_era, year, scale = 100000
    cdef int of_day, of_year, month, day
    # Both bounds are far from the limits of the arithmetic: years 1 to 9999, in which four digits say it all.
    if not -63082281600000000 <= moment < 252455616000000000:
        return b""
    moment += 63108720000000000  # since 0000-03-01
    fraction = moment % 1000000
    seconds = moment // 1000000
    days = seconds // 86400
    of_day = <int> (seconds % 86400)
    era = days // 146097
    of_era = days % 146097
    year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = <int> (of_era - (365 * year + year // 4 - year // 100))
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    year = year + era * 400 + (month < 3)
    to[0] = <char> (48 + year // 1000)
    to[1] = <char> (48 + year // 100 % 10)
    to[2] = <char> (48 + year // 10 % 10)
    to[3] = <char> (48 + year % 10)
    to[4] = to[7] = 45
    to[5] = <char> (48 + month // 10)
    to[6] = <char> (48 + month % 10)
    to[8] = <char> (48 + day // 10)
    to[9] = <char> (48 + day % 10)
    to[10] = 32
    to[11] = <char> (48 + of_day // 36000)
    to[12] = <char> (48 + of_day // 3600 % 10)
    to[13] = to[16] = 58
    to[14] = <char> (48 + of_day % 3600 // 600)
    to[15] = <char> (48 + of_day % 3600 // 60 % 10)
    to[17] = <char> (48 + of_day % 60 // 10)
    to[18] = <char> (48 + of_day % 10)
    if fraction:
        to[19] = 46
        at = 20
        while fraction:
            to[at] = <char> (48 + fraction // scale)
            fraction %= scale
            scale //= 10
            at += 1
    to[at] = 43
    to[at + 1] = to[at + 2] = 48
    return PyBytes_FromStringAndSize(to, at + 3)


cdef inline Py_ssize_t field_end(const unsigned char *data, Py_ssize_t start, Py_ssize_t stop) noexcept:
    cdef const void *found = memchr(data + start, 9, stop - start)
    return stop if found == NULL else <const unsigned char *> found - data


cdef inline int digit_of(unsigned char digit, int base) noexcept:
    """The value of an octal or hexadecimal digit; -1 when it is none."""
    if 48 <= digit <= 55 or (base == 16 and 56 <= digit <= 57):
        return digit - 48
    if base == 16 and 97 <= (digit | 32) <= 102:
        return (digit | 32) - 87
    return -1


cdef inline int put_unescaped(bytearray out, const unsigned char *data, Py_ssize_t start, Py_ssize_t stop) except -1:
    cdef Py_ssize_t before = PyByteArray_GET_SIZE(out), at = start, last, size
    cdef unsigned char *to
    cdef unsigned char byte
    cdef int value, base
    to = grown(out, 4 + stop - start) + 4
    if memchr(data + start, 92, stop - start) == NULL:
        memcpy(to, data + start, stop - start)
        to += stop - start
        at = stop
    while at < stop:
        byte = data[at]
        at += 1
        if byte == 92:
            if at == stop:
                return -2
            byte = data[at]
            at += 1
            base = 8 if 48 <= byte <= 55 else 16 if byte == 120 and at < stop and digit_of(data[at], 16) >= 0 else 0
            if base:
                at -= base == 8
                last = at + (3 if base == 8 else 2)
                value = 0
                while at < stop and at < last and digit_of(data[at], base) >= 0:
                    value = value * base + digit_of(data[at], base)
                    at += 1
                byte = <unsigned char> value
            elif byte == 98:
                byte = 8
            elif byte == 102:
                byte = 12
            elif byte == 110:
                byte = 10
            elif byte == 114:
                byte = 13
            elif byte == 116:
                byte = 9
            elif byte == 118:
                byte = 11
        to[0] = byte
        to += 1
    size = to - <unsigned char *> PyByteArray_AS_STRING(out) - before - 4
    PyByteArray_Resize(out, before + 4 + size)
    to = <unsigned char *> PyByteArray_AS_STRING(out) + before
    to[0] = <unsigned char> (size >> 24)
    to[1] = <unsigned char> (size >> 16)
    to[2] = <unsigned char> (size >> 8)
    to[3] = <unsigned char> size
    return 0
