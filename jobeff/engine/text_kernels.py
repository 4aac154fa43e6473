"""Lists of nodes as numbers, without a Python object for any of them; see `jobeff.store.pages.Texts`."""

from __future__ import annotations

import numpy as np

from jobeff.jit import kernel
from jobeff.store.pages import Texts, Words
from jobeff.store.word_kernels import COMMA, number_words


@kernel
def count_words(offsets: np.ndarray, data: np.ndarray, out: np.ndarray) -> None:
    """How many words, joined by commas, stand in each text.

    Parameters
    ----------
    offsets, data
        Where each begins, and the last one ends; and what they stand in.
    out
        Output, shape (texts,).
    """
    for text in range(len(out)):
        count = np.int64(1)
        for at in range(offsets[text], offsets[text + 1]):
            if data[at] == COMMA:
                count += 1
        out[text] = count


def numbered(texts: Texts, chosen: np.ndarray, out: np.ndarray) -> list[str]:
    """Number the words, joined by commas, of some texts, as they are met.

    Parameters
    ----------
    texts
        What they stand in.
    chosen
        Which texts, int64.
    out
        Output, shape (words,), int64: the number of each, text by text.

    Returns
    -------
    list of str
        The different ones.
    """
    words, at = Words(), np.array([0, -1, 0, 0])
    while not number_words(texts.offsets, texts.data, chosen, words.slots, words.offsets, words.data, at, out):
        words.grow(int(at[2]))
    count = int(at[2])
    return words.texts(texts.codes[:0], count).words(np.arange(count))


@kernel
def group(
    order: np.ndarray,
    text: np.ndarray,
    begin: np.ndarray,
    code: np.ndarray,
    at: np.ndarray,
    row: np.ndarray,
    rank: np.ndarray,
) -> None:
    """Put the words of the texts of rows into groups of equal ones.

    Parameters
    ----------
    order
        Shape (rows,): in which order to take the rows; it is that within each group.
    text
        Shape (rows,): which text each has.
    begin
        Shape (texts + 1,): where each text's words begin in `code`.
    code
        Shape (words,): which group each belongs to.
    at
        Shape (groups,): where the next one of each group goes; changed.
    row, rank
        Output, shape (words,): each word's row, and which of its words it is.
    """
    for i in range(len(order)):
        one = order[i]
        first = begin[text[one]]
        for word in range(first, begin[text[one] + 1]):
            to = at[code[word]]
            row[to], rank[to] = one, word - first
            at[code[word]] = to + 1
