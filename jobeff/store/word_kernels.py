"""Numba kernels: texts as numbers of words, each of which is kept once."""

from __future__ import annotations

import numpy as np

from jobeff.jit import kernel
from jobeff.store.format_kernels import copy_short, get_eight

# What is known of a word, see `find`.
FIRST, LAST, LENGTH, NUMBER = range(4)
FREE = -1
MIXER = np.uint64(0x9E3779B97F4A7C15)
SLOTS_PER_WORD = 4
"""So many that a word is most often found at once."""
COMMA = 44
COMMAS, LOWEST_BITS, HIGHEST_BITS = (np.uint64(byte * 0x0101010101010101) for byte in (COMMA, 0x01, 0x80))
BYTES_IN_ORDER = np.uint64(0x0001020304050607)


@kernel
def word_at(data: np.ndarray, at: int, end: int) -> int:
    """Up to eight bytes as an unsigned number."""
    size = end - at
    if size >= 8:
        return get_eight(data, at)
    if at + 8 <= len(data):
        return get_eight(data, at) & ((np.uint64(1) << np.uint64(8 * size)) - np.uint64(1))
    value = np.uint64(0)
    for step in range(size):
        value |= np.uint64(data[at + step]) << np.uint64(8 * step)
    return value


@kernel
def last_at(data: np.ndarray, begin: int, end: int) -> int:
    """The last eight bytes of a word as an unsigned number; 0 where `word_at` gives all of it."""
    return get_eight(data, end - 8) if end - begin > 8 else np.uint64(0)


@kernel
def mixed(number: int, word: int) -> int:
    """Go on with a hash by eight bytes."""
    number = (number ^ word) * MIXER
    return number ^ number >> np.uint64(32)


@kernel
def mixed_middle(number: int, data: np.ndarray, begin: int, end: int) -> int:
    """Go on with a hash by what is neither among the first eight bytes nor among the last."""
    for at in range(begin + 8, end - 8, 8):
        number = mixed(number, get_eight(data, at))
    return number


@kernel
def is_same_middle(words: np.ndarray, known: int, data: np.ndarray, begin: int, end: int) -> bool:
    """Whether two words are the same that have the same length and begin and end with the same eight bytes."""
    for at in range(begin + 8, end - 8, 8):  # noqa: SIM110  (a generator does not compile)
        if get_eight(words, known + at - begin) != get_eight(data, at):
            return False
    return True


@kernel
def find(
    slots: np.ndarray,
    offsets: np.ndarray,
    words: np.ndarray,
    data: np.ndarray,
    begin: int,
    end: int,
    first: int,
    last: int,
) -> int:
    """Where a word stands in a table of known ones, or could be put.

    Parameters
    ----------
    slots
        Shape (slots, 4), as many as a power of two: of each known word what `word_at` and `last_at` give, how long it
        is, and its number; where there is none, `FREE` instead of the length.
    offsets, words
        Where each known one begins, and what they stand in.
    data, begin, end, first, last
        The word, and its first and last eight bytes.

    Returns
    -------
    int
        The slot.
    """
    size, mask = end - begin, len(slots) - 1
    number = mixed(mixed(np.uint64(size), np.uint64(first)), np.uint64(last))
    if size > 16:
        number = mixed_middle(number, data, begin, end)
    # The lowest bits of a product know nothing of the last of eight bytes, the highest ones of all.
    slot = np.int64(number * MIXER >> np.uint64(32)) & mask
    while slots[slot, LENGTH] != FREE:
        same = slots[slot, LENGTH] == size and slots[slot, FIRST] == first and slots[slot, LAST] == last
        if same and (size <= 16 or is_same_middle(words, offsets[slots[slot, NUMBER]], data, begin, end)):
            break
        slot = (slot + 1) & mask
    return slot


@kernel
def put_word(slots: np.ndarray, slot: int, size: int, first: int, last: int, number: int) -> None:
    """Have a slot that is free know a word; see `find`."""
    slots[slot, FIRST], slots[slot, LAST], slots[slot, LENGTH], slots[slot, NUMBER] = first, last, size, number


@kernel
def enter(slots: np.ndarray, offsets: np.ndarray, words: np.ndarray) -> None:
    """Put known words, which stand one behind the other, into an empty table."""
    for one in range(len(offsets) - 1):
        begin, end = offsets[one], offsets[one + 1]
        first, last = np.int64(word_at(words, begin, end)), np.int64(last_at(words, begin, end))
        put_word(slots, find(slots, offsets, words, words, begin, end, first, last), end - begin, first, last, one)


@kernel
def add_word(
    slots: np.ndarray,
    slot: int,
    data: np.ndarray,
    begin: int,
    end: int,
    offsets: np.ndarray,
    words: np.ndarray,
    count: int,
) -> None:
    """Put a word that is new behind the known ones."""
    to = offsets[count]
    copy_short(data, begin, end - begin, words, to)
    offsets[count + 1] = to + end - begin
    first, last = np.int64(word_at(data, begin, end)), np.int64(last_at(data, begin, end))
    put_word(slots, slot, end - begin, first, last, count)


@kernel
def comma_in(word: int) -> int:
    """Which of the eight bytes of a word is the first comma; 8 where none is."""
    other = np.uint64(word) ^ COMMAS
    # The lowest bit that is set now is the highest one of the first byte that is zero.
    found = (other - LOWEST_BITS) & ~other & HIGHEST_BITS
    if found == np.uint64(0):
        return np.int64(8)
    lowest = (found & (~found + np.uint64(1))) >> np.uint64(7)
    return np.int64((lowest * BYTES_IN_ORDER) >> np.uint64(56))


@kernel
def end_of_word(data: np.ndarray, begin: int, stop: int, first: int) -> int:
    """Where the word ends that begins in a text, whose first eight bytes are at hand."""
    end = min(begin + comma_in(first), stop)
    if end == begin + 8:
        while end < stop and data[end] != COMMA:
            end += 1
    return end


@kernel
def number_words(
    offsets: np.ndarray,
    data: np.ndarray,
    texts: np.ndarray,
    slots: np.ndarray,
    word_offsets: np.ndarray,
    words: np.ndarray,
    at: np.ndarray,
    out: np.ndarray,
) -> bool:
    """Number the words of some texts, which are joined by commas, as they are met.

    Parameters
    ----------
    offsets, data, texts
        Where each text begins, and the last one ends; what they stand in; and which of them.
    slots
        See `find`; changed.
    word_offsets, words
        The same for the words, one behind the other; changed.
    at
        Shape (4,): the text that comes next and where in it, -1 at its beginning, and how many words are known and
        numbered; changed.
    out
        Output, shape (words,): the number of each, text by text.

    Returns
    -------
    bool
        Whether all are numbered; else there is no room for one more. It is not made in here: each use of an array that
        may be another one by then costs more than all the rest.
    """
    one, begin, count, done = at[0], at[1], at[2], at[3]
    while one < len(texts):
        stop = offsets[texts[one] + 1]
        if begin < 0:
            begin = offsets[texts[one]]
        while begin <= stop:
            end = end_of_word(data, begin, stop, word_at(data, begin, stop))
            first, last = np.int64(word_at(data, begin, end)), np.int64(last_at(data, begin, end))
            slot = find(slots, word_offsets, words, data, begin, end, first, last)
            if slots[slot, LENGTH] == FREE:
                if count + 1 == len(word_offsets) or word_offsets[count] + end - begin > len(words):
                    at[0], at[1], at[2], at[3] = one, begin, count, done
                    return False
                add_word(slots, slot, data, begin, end, word_offsets, words, count)
                count += 1
            out[done] = slots[slot, NUMBER]
            done += 1
            begin = end + 1
        one, begin = one + 1, np.int64(-1)
    at[2] = count
    return True
